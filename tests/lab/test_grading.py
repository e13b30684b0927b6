"""Submissions side by side: what each gets, and what none can do to the others, or to the host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from heaplab import confining
from heaplab.csrc import c_sources
from heaplab.errors import UsageError
from heaplab.lab.course import Exam, Weight
from heaplab.lab.grading import grade
from heaplab.traces import Event, Op, Trace, synthetic

try:
    confining.layers()
except (UsageError, OSError) as error:  # another system than Linux on x86-64
    pytest.skip(f"nothing is graded here: {error}", allow_module_level=True)

SUBMISSIONS = Path(__file__).parents[1] / "outside" / "submissions"
REFERENCE = (c_sources() / "outside" / "reference.c").read_text()
SHORT = Exam("short", synthetic(300, seed=1, slots=40, median=200, aligned=0))
MOVING = Exam("moving", synthetic(300, seed=2, slots=20, median=200, aligned=0, realloc=0.6))
TWO = [Event(Op.MALLOC, 0, 64), Event(Op.MALLOC, 1, 4096), Event(Op.FREE, 0), Event(Op.FREE, 1)]
PLAIN = Exam("plain", Trace.of(TWO))

#: an allocator that never uses memory again; `{}` is text of its own
BUMP = """
#define _GNU_SOURCE
#include "memlib.h"
#include "mm.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static char *latest;
%s
#ifndef OWN_INIT
int mm_init(void) { return 0; }
#endif
#ifndef OWN_MALLOC
void *mm_malloc(size_t n) { return latest = mem_sbrk((n + 15) & ~15ul); }
#endif
void mm_free(void *p) {}
void *mm_realloc(void *p, size_t n) { char *q = mm_malloc(n); return p ? memcpy(q, p, n) : q; }
"""


@pytest.fixture
def one(tmp_path):
    """Grades one submission of this text; returns its grade."""

    def graded(text, *exams, **settings):
        (tmp_path / "mm.c").write_text(text)
        [found] = grade([str(tmp_path / "mm.c")], list(exams or (PLAIN,)), **settings).grades
        return found

    return graded


# ---- many variants of one heap ----

#: file: traces on which it is valid, and what is said of it otherwise
EXPECTED = {
    "first_fit": ("short moving", ""),
    "next_fit": ("short moving", ""),
    "lifo": ("short moving", ""),
    "never_merges": ("short moving", ""),
    "chatters": ("short moving", ""),
    "missing_merge": ("", r"implicit\.c:\d+ wrote 8 bytes"),
    "wrong_split": ("", r"implicit\.c:\d+ wrote 8 bytes (into block \d+ |at 0x)"),
    "overflow": ("", r"implicit\.c:\d+"),
    "endless_loop": ("", r"no end after [\d,]+ mems in all, at implicit\.c:\d+"),
    "wild_pointer": ("", r"implicit\.c:\d+ (wrote|read) 8 bytes at 0x\w+, .*(heap|memory)"),
    "misaligned": ("", r"is not a multiple of 16: if the lab asks for 8 bytes, write .*:align=8"),
    "realloc_loses": ("", r"realloc .*has lost what was written to it"),
    "encloses": ("", r"implicit\.c:\d+ wrote|overlaps block"),
    "crashes": ("", r"SIGSEGV.*implicit\.c:\d+"),
}


@pytest.fixture(scope="module")
def side_by_side():
    return grade([str(SUBMISSIONS / f"{name}.c") for name in EXPECTED], [SHORT, MOVING], max_mems=3_000_000)


@pytest.mark.parametrize("name", EXPECTED)
def test_variants_of_one_heap(side_by_side, name):
    [found] = [each for each in side_by_side.grades if each.name == f"{name}.c"]
    valid, said = EXPECTED[name]
    assert [mark.trace for mark in found.marks if mark.valid] == valid.split()
    for mark in found.marks:
        assert mark.valid == (mark.utilisation > 0) == (mark.throughput > 0) == (mark.why == "")
        if not mark.valid:
            assert re.match(r"event \d+ \((malloc|realloc|free) ", mark.why)
            assert re.search(said, mark.why), mark.why


def test_the_order_is_that_of_the_index(side_by_side):
    order = [(-each.index, each.name) for each in side_by_side.grades]
    assert order == sorted(order)
    assert side_by_side.reference.throughput == 1
    assert side_by_side.reference.valid == 2


def test_what_is_never_merged_costs_utilisation(side_by_side):
    by_name = {each.name: each for each in side_by_side.grades}
    assert by_name["never_merges.c"].utilisation < 0.8 * by_name["first_fit.c"].utilisation


def test_the_mark_is_the_same_in_every_run(side_by_side):
    again = grade([str(SUBMISSIONS / f"{name}.c") for name in EXPECTED][:3], [SHORT, MOVING], jobs=1)
    before = {each.name: each for each in side_by_side.grades}
    assert all(each == before[each.name] for each in again.grades)


# ---- the defects of known drivers ----


def test_payloads_are_compared_as_bytes_whatever_their_id(one):
    """A driver compares signed chars, and rejects a correct realloc of ids whose low byte is 128 or more."""
    events = [Event(Op.MALLOC, number, 40) for number in range(300)]
    events += [Event(Op.REALLOC, number, 90) for number in range(300)]
    assert one(REFERENCE, Exam("many", Trace.of(events))).valid == 1


def test_one_that_crashes_costs_its_own_row():
    files = [str(SUBMISSIONS / f"{name}.c") for name in ("crashes", "lifo", "wild_pointer")]
    assert [(each.name, each.valid) for each in grade(files, [SHORT]).grades] == [
        ("lifo.c", 1),
        ("crashes.c", 0),
        ("wild_pointer.c", 0),
    ]


def test_a_block_that_strictly_encloses_another_is_found(one):
    text = """
    #define OWN_MALLOC
    void *mm_malloc(size_t n)
    {
        if (!mem_heapsize())
            mem_sbrk(8192);
        return (char *)mem_heap_lo() + (n < 100 ? 1024 : 0);
    }"""
    [mark] = one(BUMP % text).marks
    assert "of 4096 bytes, overlaps block 0" in mark.why


def test_each_trace_has_a_fresh_process(one):
    """Bytes of one trace are not there in the next, and static variables begin anew."""
    text = """
    #define OWN_INIT
    static int begun;
    int mm_init(void)
    {
        char *heap = mem_sbrk(4096);
        for (int i = 0; i < 4096; i++)
            if (heap[i])
                return -1;
        memset(heap, 1, 4096);
        return begun++ ? -1 : 0;
    }"""
    second = Exam("again", PLAIN.trace)
    assert one(BUMP % text, PLAIN, second, jobs=1).valid == 2


def test_payloads_are_verified_at_free_too(one):
    """No hook sees the store of an assembly instruction; the payload does."""
    text = """
    #define OWN_MALLOC
    void *mm_malloc(size_t n)
    {
        if (latest)
            __asm__ volatile("movb $0x5a, 5(%0)" : : "r"(latest) : "memory");
        return latest = mem_sbrk((n + 15) & ~15ul);
    }"""
    [mark] = one(BUMP % text).marks
    assert re.match(
        r"event 2 \(free 0\): block 0 .* has lost what was written to it, from byte 5 on", mark.why
    )


def test_throughput_is_a_ratio_of_references_and_not_of_seconds(one):
    """Idle instructions take time, and make no reference: nothing changes."""
    idle = REFERENCE.replace("word size = size_for(payload);", "word size = size_for(payload);\n%s")
    idle %= 'for (int i = 0; i < 10000; i++) __asm__ volatile("");'
    assert one(idle, SHORT).throughput == 1


def test_by_time_the_ratio_is_to_the_reference_in_the_same_rounds(one):
    found = one(REFERENCE, SHORT, throughput="time", rounds=1)
    assert found.marks[0].valid
    assert found.marks[0].ns_per_op is not None


# ---- weights, formulas, names ----


def test_weights_and_a_formula(one):
    exams = [SHORT, Exam("nothing", MOVING.trace, Weight.NOTHING)]
    found = one(REFERENCE, *exams, formula=lambda marks: sum(int(mark.weight) for mark in marks))
    assert (found.index, found.valid) == (1, 2)
    assert found.throughput == 1
    assert found.utilisation == found.marks[0].utilisation


def test_a_trace_that_an_mm_c_cannot_play(one):
    aligned = Exam("aligned", Trace.of([Event(Op.ALIGNED, 0, 10, 64)]))
    with pytest.raises(UsageError, match="aligned: nobody can be graded on this trace"):
        one(REFERENCE, aligned)


# ---- what cannot be taken costs its own row ----


def test_what_cannot_be_taken(tmp_path):
    for name, text in [("good", REFERENCE), ("typo", "int mm_init(void) { return }"), ("other", "int x;")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mm.c").write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("I could not finish")
    graded = grade([str(path) for path in sorted(tmp_path.iterdir())], [PLAIN])
    assert graded.grades[0].name == "good"
    refused = {each.name: each.refused for each in graded.grades}
    assert refused["good"] == ""
    assert re.search(r"cannot be compiled: mm\.c:1.*error", refused["typo"])
    assert "is no allocator" in refused["other"]
    assert refused["empty"] == "a folder without mm.c"
    assert "no allocator from outside" in refused["words.txt"]
    assert all(
        not mark.valid and mark.why == each.refused for each in graded.grades[1:] for mark in each.marks
    )


def test_a_submission_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="there is no submission"):
        grade([str(tmp_path / "mm.c")], [PLAIN])


# ---- foreign code ----


DEEDS = [
    'open("/etc/passwd", O_RDONLY)',
    'open("{folder}/mm.c", O_RDONLY)',
    'open("{folder}/left-behind", O_CREAT | O_WRONLY, 0600)',
    'open("/dev/shm/left-behind", O_CREAT | O_WRONLY, 0600)',
    "socket(AF_INET, SOCK_STREAM, 0)",
    "fork()",
    "kill(getppid(), SIGKILL)",
    'getenv("HOME") ? 0 : -1',
    'system("true") == 0 ? 0 : -1',
]


def test_what_a_submission_is_kept_from(one, tmp_path, monkeypatch):
    """mm_init ends the process, with the deed's number, if one succeeds: what is valid could do none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    tries = "".join(
        f'if (({deed.format(folder=tmp_path)}) >= 0) {{ fputs("deed {number}\\n", stderr); abort(); }}\n'
        for number, deed in enumerate(DEEDS)
    )
    found = one(BUMP % f"#define OWN_INIT\nint mm_init(void) {{ {tries} return 0; }}")
    assert found.valid == 1, found.marks[0].why
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mm.c"]


@pytest.mark.parametrize("how", ['#include "/etc/passwd"', '__asm__(".incbin \\"/etc/passwd\\"");'])
def test_the_compiler_is_kept_from_it_too(one, how):
    found = one(BUMP % how)
    assert "cannot be compiled" in found.refused
    assert "root:" not in found.refused


def test_one_that_prints_megabytes_is_graded(one):
    text = "#define OWN_INIT\nint mm_init(void) { for (int i = 0; i < 100000; i++) %s return 0; }"
    assert one(BUMP % (text % 'fputs("0123456789 0123456789 0123456789 0123456789\\n", stderr);')).valid == 1


def test_one_that_sleeps_is_ended(one):
    text = "#define OWN_INIT\nint mm_init(void) { for (;;) pause(); }"
    [mark] = one(BUMP % text, max_seconds=0.5).marks
    assert "no end after 0.5 s" in mark.why


def test_one_that_eats_memory_gets_what_it_may_have(one):
    text = """
    #include <sys/mman.h>
    #define OWN_INIT
    int mm_init(void)
    {
        unsigned long taken = 0;
        while (syscall(9, 0, 1ul << 26, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != -1)
            taken += 1ul << 26;
        return taken > (4ul << 30) ? -1 : 0;
    }"""
    assert one(BUMP % text).valid == 1


def test_ctrl_c_shows_who_is_complete():
    """The signal comes when the first submission is complete."""
    program = f"""
import os, signal
from heaplab.lab.grading import grade
from heaplab.lab.course import bundled_exams
def progress(step):
    if step.done == 1:
        os.kill(os.getpid(), signal.SIGINT)
files = [{str(SUBMISSIONS / "lifo.c")!r}, {str(SUBMISSIONS / "first_fit.c")!r}]
grading = grade(files, bundled_exams()[-1:], jobs=1, progress=progress)
print(grading.interrupted, len(grading.grades), grading.planned)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True 1 2\n"
