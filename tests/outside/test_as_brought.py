"""Files as people bring them: old C, 32 bits, what they print, what they need beside the heap."""

from pathlib import Path

import pytest

from heaplab.errors import UsageError
from heaplab.outside import Judged, find_outside, judge
from heaplab.traces import Event, Op, Trace

A, R, F = Op.MALLOC, Op.REALLOC, Op.FREE
FREE_NULL = Event(F, 2**32 - 1)
TRACE = Trace.of([Event(A, 0, 24), Event(A, 1, 40), Event(F, 0), Event(R, 1, 100), Event(F, 1)], "five")

#: blocks follow each other; HERE is the beginning of mm_malloc, INIT that of mm_init
BUMP = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mm.h"
#include "memlib.h"
{before}
int mm_init(void)
{{
    {init}
    return mem_sbrk(8) == (void *)-1 ? -1 : 0;
}}
void *mm_malloc(size_t size)
{{
    {here}
    char *p = mem_sbrk((size + 15 + 8) / 16 * 16);
    if (p == (void *)-1)
        return NULL;
    *(size_t *)p = size;
    return p + 8;
}}
void mm_free(void *p) {{ {free} }}
void *mm_realloc(void *old, size_t size)
{{
    void *p = mm_malloc(size);
    if (old) memcpy(p, old, ((size_t *)old)[-1] < size ? ((size_t *)old)[-1] : size);
    return p;
}}
"""


@pytest.fixture
def judged(tmp_path: Path):
    def judged(
        *, before: str = "", init: str = "", here: str = "", free: str = "", trace: Trace = TRACE, **how: bool
    ) -> Judged:
        path = tmp_path / "mm.c"
        path.write_text(BUMP.format(before=before, init=init, here=here, free=free))
        outside = find_outside(str(path))
        assert outside is not None
        return judge(trace, outside, max_mems=10_000, **how)

    return judged


def finished(judged: Judged) -> bool:
    assert judged.end.outcome == "finished", judged.end.reason
    return True


# ---- what is compiled ----


def test_inline_functions_of_old_c_exist(judged) -> None:
    """In C99 `inline` alone leaves the function undefined where the compiler does not inline it."""
    before = (
        "inline void twice(size_t *n);\ninline void twice(size_t *n) { if (*n > 5000) twice(n); *n *= 2; }"
    )
    assert finished(judged(before=before, here="twice(&size);"))


def test_a_bool_of_its_own(judged) -> None:
    assert finished(judged(before="typedef int bool;\nstatic bool ready;", here="ready = 1;"))


def test_mathematics(judged) -> None:
    assert finished(judged(before="#include <math.h>", here="size += (size_t)log2(size);"))


def test_a_function_of_no_file_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mm.c"
    path.write_text(BUMP.format(before="", init="", here="absent(size);", free=""))
    with pytest.raises(UsageError, match=r"compiled: mm.c:1\d needs absent, which no file defines: name the"):
        find_outside(str(path))


def test_a_variable_of_no_file_is_told_too(tmp_path: Path) -> None:
    path = tmp_path / "mm.c"
    before = "extern int other[]; int *table[] = {other};"
    path.write_text(BUMP.format(before=before, init="", here="table[0]++;", free=""))
    with pytest.raises(UsageError, match=r"compiled: mm\.c needs other, which no file defines: name the"):
        find_outside(str(path))


# ---- what the allocator may do ----


def test_it_may_call_malloc_itself(judged) -> None:
    """From an arena, which takes blocks back: a hundred times 64 KiB of small ones fit."""
    here = "static int *kept; for (int i = 0; i < 100; i++) { free(kept); kept = calloc(16, 4); kept[15]++; }"
    trace = Trace.of([Event(A, number, 24) for number in range(1000)], "thousand")
    run = judged(here=here, free="free(malloc(16)); free(realloc(malloc(8), 80));", trace=trace)
    assert run.end.outcome == "stopped"  # at the limit of references, none of which is a fault
    assert finished(judged(here="static int *kept; free(kept); kept = malloc(64); *kept = 1;", trace=trace))


def test_what_it_prints_disturbs_nobody(judged) -> None:
    assert finished(judged(here='printf("%p\\n", mem_heap_hi()); fprintf(stderr, "x\\n");'))


def test_addresses_in_an_int_and_variables_of_its_own(judged) -> None:
    here = "static unsigned last[4]; static __thread int n; last[n++ % 4] = (unsigned)(size_t)mem_heap_hi();"
    assert finished(judged(here=here + " if (*(char *)(size_t)last[0]) size++;"))


def test_mm_free_gets_no_null_pointer(judged) -> None:
    """Courses promise that only blocks are freed."""
    trace = Trace.of([Event(A, 0, 24), FREE_NULL, Event(F, 0)], "three")
    run = judged(free="((size_t *)p)[-1] = 0;", trace=trace)
    assert finished(run)
    assert run.mems is not None
    assert run.mems.tolist() == [1, 0, 1]


def test_a_block_may_lie_across_two_neighbouring_mappings(tmp_path: Path) -> None:
    """mmap gives one mapping below the other; who merges them may well use both at once."""
    path = tmp_path / "mapped.c"
    path.write_text("""
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>
void *malloc(size_t size)
{
    char *high = mmap((void *)0x6000001000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *low = mmap((void *)0x6000000000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return high == low + 4096 ? low + 4080 : 0;
}
void free(void *p) { *(size_t *)((char *)p + 12) = 0; }
""")
    outside = find_outside(str(path))
    assert outside is not None
    assert finished(judge(Trace.of([Event(A, 0, 100), Event(F, 0)], "two"), outside))


# ---- what is said ----


def test_a_bad_block_for_calloc_is_told_before_it_is_cleared(judged) -> None:
    trace = Trace.of([Event(A, 0, 24), Event(Op.CALLOC, 1, 40)], "two")
    run = judged(here="if (size == 40) return (void *)0x20000000;", trace=trace)
    assert run.end.reason == (
        "event 1 (calloc 1 40): the block at 0x20000000, of 40 bytes, is not within the heap, which ends at "
        "0x10000028"
    )


def test_mm_init_is_judged_too_and_its_references_are_nobodys(judged) -> None:
    run = judged(init="char *p = mem_sbrk(16); p[16] = 1; p[0] = 1;")
    assert run.end.reason == (
        "event 0 (malloc 0 24): mm.c:9 wrote 1 byte at 0x10000010, just behind the end of the heap"
    )
    run = judged(init="size_t *p = mem_sbrk(16); p[0] = p[1] = 1;")
    assert finished(run)
    assert run.mems is not None
    assert run.mems.tolist() == [1, 1, 0, 2, 0]


@pytest.mark.parametrize("where", ["here", "free"])
def test_exit_is_told_with_its_line_and_last_words(judged, where: str) -> None:
    run = judged(**{where: 'printf("first\\n"); printf("heap is broken\\n"); exit(3);'})
    assert run.end.outcome == "failed"
    line = {"here": "event 0 (malloc 0 24): mm.c:14", "free": "event 2 (free 0): mm.c:21"}[where]
    assert run.end.reason == f"{line} calls exit(3): heap is broken"


def test_an_assertion_is_told(judged) -> None:
    run = judged(before="#include <assert.h>", here="assert(size < 40);")
    assert "event 1 (malloc 1 40): the allocator ended with SIGABRT: " in run.end.reason
    assert "mm.c:14: mm_malloc: Assertion `size < 40' failed." in run.end.reason


@pytest.mark.parametrize(
    "here",
    [
        "char *q = mem_sbrk(16); *(void **)(q + 4) = q; *(char *)0 = 1;",  # links of 4 bytes, side by side
        "*(volatile char *)(size_t)0xf7fbf2a8 = 1;",  # an address of which the upper half is lost
    ],
)
def test_a_file_for_32_bits_is_suspected(judged, here: str) -> None:
    reason = judged(here=here).end.reason
    assert reason.endswith("(gcc -m32): here a pointer, size_t and long have 8 bytes"), reason


def test_a_file_for_64_bits_is_not(judged) -> None:
    assert "32 bits" not in judged(here="*(char *)8 = 1;").end.reason


def test_a_recursion_without_end_is_told(judged) -> None:
    run = judged(here="volatile char big[4096]; big[size % 4096] = 1; size += *(char *)mm_malloc(big[7]);")
    assert run.end.outcome == "crashed"
    assert run.end.reason.endswith(": the stack is used up, as by a recursion without end")


@pytest.mark.parametrize("checker", ["exit(1);", "abort();", 'printf("bad %d\\n", line);'])
def test_a_heap_checker_that_returns_nothing(judged, checker: str) -> None:
    run = judged(before=f"void mm_checkheap(int line) {{ {checker} }}", checkheap=True)
    assert run.end.outcome == ("finished" if "printf" in checker else run.end.outcome)
    if "exit" in checker:
        assert "mm.c:6 calls exit(1)" in run.end.reason
    if "abort" in checker:
        assert "SIGABRT" in run.end.reason
