"""Allocators from outside: what they are, what is counted of them, and the sentence for each fault."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heaplab import lab
from heaplab.errors import UsageError
from heaplab.native.playing import play_space
from heaplab.native.stage import Stage
from heaplab.outside import Kind, Outside, find_outside, judge
from heaplab.traces import Event, Op, Trace
from tests.programs import host_environment

PROGRAM = """
import ctypes, json
own = ctypes.CDLL(None)
own.memalign.restype = ctypes.c_void_p
print(len(json.dumps([1, 2, 3, 4])), own.memalign(64, 100) is None)
"""

#: an mm.c whose blocks follow each other; MARKED lines are exchanged for faults
BUMP = """\
#include "memlib.h"
#include "mm.h"
#include <string.h>

static char *top;

int mm_init(void)
{
    top = mem_sbrk(16);
    return top == (void *)-1 ? -1 : 0;
}

void *mm_malloc(size_t size)
{
    size_t whole = (size + 31) / 16 * 16;
    char *block = top;
    if (mem_sbrk(whole) == (void *)-1)
        return NULL;
    *(size_t *)(block + 8) = size; /* HEADER */
    top = block + whole;
    return block + 16;
}

void mm_free(void *p)
{
    (void)p; /* FREE */
}

void *mm_realloc(void *old, size_t size)
{
    void *p = mm_malloc(size);
    if (p && old) {
        size_t kept = ((size_t *)old)[-1];
        memcpy(p, old, kept < size ? kept : size);
    }
    return p;
}
"""
A, B, F = Op.MALLOC, Op.REALLOC, Op.FREE
EVENTS = [Event(A, 0, 24), Event(A, 1, 40), Event(F, 0), Event(B, 1, 100), Event(Op.CALLOC, 2, 8)]
TRACE = Trace.of(EVENTS, "five")


def line(text: str, mark: str) -> int:
    return next(number for number, row in enumerate(text.splitlines(), 1) if mark in row)


@pytest.fixture
def made(tmp_path: Path):
    def make(text: str, options: str = "", name: str = "mm.c") -> Outside:
        path = tmp_path / name
        path.write_text(text)
        found = find_outside(f"{path}{options}")
        assert found is not None
        return found

    return make


def with_line(mark: str, text: str) -> str:
    rows = [text if mark in row else row for row in BUMP.splitlines()]
    return "\n".join(rows) + "\n"


def test_references_are_counted_one_by_one(made) -> None:
    """malloc: load top, store the header, store top; realloc one load more; free none."""
    judged = judge(TRACE, made(BUMP))
    assert judged.end.outcome == "finished"
    assert judged.mems is not None
    assert judged.mems.tolist() == [3, 3, 0, 4, 3]
    assert (judged.peak_live, judged.peak_heap, judged.growths) == (108, 16 + 48 + 64 + 128 + 32, 5)
    assert judged.heap == (0x10000000, 288)


def test_two_counts_are_equal(made) -> None:
    outside = made(BUMP)
    first, second = judge(TRACE, outside), judge(TRACE, outside)
    assert first.mems is not None
    assert np.array_equal(first.mems, second.mems)


def test_what_a_file_is_is_seen_from_its_functions(made, tmp_path: Path) -> None:
    course = made(BUMP)
    assert (course.kind, course.has) == (Kind.COURSE, {"init", "malloc", "free", "realloc"})
    renamed = BUMP.replace("mm_malloc", "malloc").replace("mm_free", "free").replace("mm_realloc", "realloc")
    renamed = renamed.replace("char *block = top;", "char *block = top ? top : (mm_init(), top);")
    own = made(renamed, name="mine.c")
    assert (own.kind, own.has) == (Kind.MALLOC, {"malloc", "free", "realloc"})
    assert judge(TRACE, own).end.outcome == "finished"
    assert own.library is not None
    library = find_outside(str(tmp_path / "copy.so")) if own.library.rename(tmp_path / "copy.so") else None
    assert library is not None
    assert (library.kind, library.hooked) == (Kind.LIBRARY, None)
    assert judge(TRACE, library).mems is None


def test_mmap_and_sbrk_are_memory_of_its_own(made) -> None:
    text = """
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>
void *malloc(size_t size)
{
    int rights = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    size_t *p = size > 1000 ? mmap(NULL, size + 16, rights, flags, -1, 0) : sbrk((size + 31) / 16 * 16);
    if (p == (void *)-1)
        return NULL;
    p[1] = size;
    return p + 2;
}
void free(void *p) { if (p && ((size_t *)p)[-1] > 1000) munmap((size_t *)p - 2, ((size_t *)p)[-1] + 16); }
void *realloc(void *old, size_t size)
{
    size_t *p = malloc(size), i;
    for (i = 0; p && old && i < size / 8 && i < ((size_t *)old)[-1] / 8; i++)
        p[i] = ((size_t *)old)[i];
    return p;
}
"""
    events = [Event(A, 0, 24), Event(A, 1, 8192), Event(B, 0, 16), Event(F, 1), Event(F, 0)]
    judged = judge(Trace.of(events, "mapped"), made(text, name="mapped.c"))
    assert judged.end.outcome == "finished", judged.end.reason
    assert judged.mems is not None
    assert judged.mems.tolist() == [1, 1, 1 + 2 * (2 + 1), 1, 1]
    assert judged.growths == 3


@pytest.mark.parametrize(
    ("mark", "text", "outcome", "sentence"),
    [
        (
            "HEADER",
            "    *(size_t *)(block + 8 - (size == 40) * 32) = size;",
            "failed",
            "event 1 (malloc 1 40): mm.c:{line} wrote 8 bytes into block 0 (event 0, malloc 0 24; "
            "24 bytes at 0x10000010)",
        ),
        (
            "HEADER",
            "    *(size_t *)(block + 64) = size;",
            "failed",
            "event 0 (malloc 0 24): mm.c:{line} wrote 8 bytes at 0x10000040, just behind the end of the heap",
        ),
        (
            "HEADER",
            "    for (;;) ((volatile char *)block)[8]++;",
            "stopped",
            "event 0 (malloc 0 24): no end after 1,000 mems in all, at mm.c:{line}",
        ),
        ("HEADER", "    for (;;) ;", "hung", "event 0 (malloc 0 24): no end after 0.5 s"),
        (
            "HEADER",
            "    *(volatile int *)0x5000;",
            "crashed",
            "ended with SIGSEGV at 0x5000, at or after mm.c:{line}",
        ),
        (
            "return block + 16",
            "    return block + 24;",
            "failed",
            "event 0 (malloc 0 24): the block at 0x10000018 is not a multiple of 16: "
            "if the lab asks for 8 bytes, write",
        ),
        (
            "top = block + whole",
            "    top = block;",
            "failed",
            "event 1 (malloc 1 40): the block at 0x10000010, of 40",
        ),
        (
            "return block + 16",
            "    return block + 64;",
            "failed",
            "event 0 (malloc 0 24): the block at 0x10000040, of 24 bytes, is not within the heap, "
            "which ends at",
        ),
        ("memcpy", "        memcpy(p, old, 3);", "failed", "event 3 (realloc 1 100): block 1 at"),
        ("FREE", "    __builtin_trap();", "crashed", "event 2 (free 0): the allocator ended with SIGILL"),
        ("return top ==", "    return -1;", "failed", "event 0 (malloc 0 24): mm_init says that it failed"),
        (
            "(void)p; /* FREE",
            "    memset(p, 0, 100);",
            "failed",
            "event 2 (free 0): mm.c:{line} wrote 100 bytes into",
        ),
    ],
)
def test_each_fault_is_a_sentence(made, mark: str, text: str, outcome: str, sentence: str) -> None:
    judged = judge(TRACE, made(with_line(mark, text)), max_mems=1000, max_seconds=0.5)
    assert judged.end.outcome == outcome, judged.end.reason
    assert sentence.format(line=line(BUMP, mark)) in judged.end.reason


def test_a_refused_growth_gives_null_and_harms_nobody(made) -> None:
    trace = Trace.of([Event(A, 0, 24), Event(A, 1, 40)], "two")
    judged = judge(trace, made(BUMP), refuse=3)  # mm_init's is the first
    assert (judged.end.outcome, judged.events_done) == ("failed", 1)
    assert judged.end.reason.endswith("the allocator gave no memory")


@pytest.mark.parametrize("kind", ["int", "_Bool", "void"])
def test_mm_checkheap_is_asked_after_each_request(made, kind: str) -> None:
    answer = "" if kind == "void" else "return !bad;"
    text = BUMP + f"static int bad;\n{kind} mm_checkheap(int line) {{ {answer} }}\n"
    text = text.replace("static char *top;", "static char *top; static int bad;").replace(
        "(void)p; /* FREE */", "bad = 1;"
    )
    judged = judge(TRACE, made(text), checkheap=True)
    if kind == "void":
        assert judged.end.outcome == "finished"
    else:
        assert judged.end.reason == "event 2 (free 0): mm_checkheap is not satisfied with the heap"
    assert judge(TRACE, made(text)).end.outcome == "finished"


def test_blocks_of_a_lab_with_8_bytes(made) -> None:
    text = with_line("return block + 16", "    return block + 8;").replace(
        "block + 8) = size", "block) = size"
    )
    assert judge(TRACE, made(text)).end.outcome == "failed"
    outside = made(text, ":align=8")
    assert judge(TRACE, outside).end.outcome == "finished"
    [run] = lab.compare([TRACE], [], native=[outside], rounds=1).runs
    assert (run.outcome, run.mems.total) == ("finished", 13)


def test_files_flags_and_a_memlib_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "memlib.h").write_text("void *mem_sbrk(int increment);\n#define THEIRS 1\n")
    (tmp_path / "config.h").write_text("#define HEADER_AT 8\n")
    (tmp_path / "mm.c").write_text(
        BUMP.replace("block + 8)", "block + HEADER_AT)")
        .replace("static char *top;", '#include "config.h"\nextern int more(void);\nstatic char *top;')
        .replace("return block + 16;", "return block + 16 * more();")
    )
    (tmp_path / "more.c").write_text("int more(void) { return MORE; }\n")
    files = f"{tmp_path / 'mm.c'}+{tmp_path / 'more.c'}"
    outside = find_outside(f"{files}:cflags=-DMORE=1")
    assert outside is not None
    assert judge(TRACE, outside).end.outcome == "finished"
    with pytest.raises(UsageError, match=r"cannot be compiled: more.c:1:\d+: error: .*MORE"):
        find_outside(files)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("int main(void) { return 0; }", "is no allocator: it defines neither mm_malloc, nor malloc"),
        ("void *mm_malloc(unsigned long n) { return 0; }", "does not define mm_init, mm_free"),
        ("int mm_init(void) { return 0 }", r"cannot be compiled: mm.c:1:\d+: error: expected"),
        ('#include "absent.h"\n', "cannot be compiled: mm.c:1:10: fatal error: absent.h: No such file"),
    ],
)
def test_what_is_no_allocator_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "mm.c").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        find_outside(str(tmp_path / "mm.c"))


def test_wrong_options(tmp_path: Path) -> None:
    (tmp_path / "mm.c").write_text(BUMP)
    for option, sentence in (("align=4", "none of 8, 16"), ("fit=best", "no parameter 'fit'")):
        with pytest.raises(UsageError, match=sentence):
            find_outside(f"{tmp_path / 'mm.c'}:{option}")
    with pytest.raises(UsageError, match="no file"):
        find_outside(str(tmp_path / "absent.c"))


def test_it_stands_in_the_table(made) -> None:
    trace = Trace.of([*EVENTS, Event(F, 1), Event(F, 2)], "seven")
    outside = [made(BUMP), made(with_line("FREE", "*(int *)0=1;"), name="b.c")]
    mine, lost = lab.compare([trace], [], native=outside, rounds=1).runs
    assert (mine.outcome, mine.mems.total, mine.mems.max, mine.brk_calls) == ("finished", 13, 4, 5)
    assert mine.heap_map is not None
    assert sum(mine.heap_map.payload) == 108
    assert lost.outcome == "failed"
    assert "wrote 4 bytes at 0x0" in lost.reason


def test_the_plain_library_is_a_malloc_of_programs(made) -> None:
    outside = made(BUMP)
    stage = Stage(TRACE)
    space = play_space(stage, outside)
    stage.close()
    assert (space.end.outcome, space.peak_heap) == ("finished", 4096)


def test_a_program_runs_on_it(made) -> None:
    """And what it cannot give, aligned blocks, is refused rather than taken from another allocator."""
    outside = made(BUMP)
    command = ["native", "run", outside.name, "--", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "heaplab", *command],
        capture_output=True,
        text=True,
        env=host_environment(),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "12 True\n", "")


def test_a_limit_used_up_by_many_requests_is_no_endless_loop(made) -> None:
    trace = Trace.of([Event(A, number, 24) for number in range(100)], "hundred")
    end = judge(trace, made(BUMP), max_mems=100).end
    assert end.outcome == "stopped"
    assert (
        "(malloc 33 24): stopped at the limit of 100 mems in all, which the requests before took"
        in end.reason
    )
