"""The logs of tools that watch C programs: what their lines look like when things are not simple."""

import pytest

from heaplab.errors import UsageError
from heaplab.traces import Event, Op

VALGRIND = """\
==27161== Memcheck, a memory error detector
==27161== Command: ./t
--27161-- malloc(100) = 0x4A40040
--27161-- realloc(0x0,10)malloc(10) = 0x4A403F0
--27161-- malloc(4611686018427387904) = 0x0
--27161-- realloc(0x4A403F0,4611686018427387904) = 0x0
--27161-- realloc(0x4A403F0,0)free(0x4A403F0)
--27161--  = 0
--27161-- _ZnwmSt11align_val_t(size 128, al 64) = 0x4A50000
--27161-- _ZdlPvmSt11align_val_t(0x4A50000)
--27161-- _Znam(40) = 0x4A50040
--27161-- _ZdaPv(0x4A50040)
--27161-- malloc_usable_size(0x4A40040) = 100
--27161-- REDIR: 0x4a (libc.so.6:malloc) redirected to 0x4b (malloc)
hello malloc(3) = 0x5
--27161-- free(0x0)
==27161== HEAP SUMMARY:
"""


def test_valgrind(lines):
    assert lines(VALGRIND) == [
        *("malloc 0 100", "malloc 1 10", "free 1", "aligned 1 128 64", "free 1", "malloc 1 40", "free 1"),
        "free NULL",
    ]


def test_valgrind_of_children_and_with_times(opened):
    trace = opened(
        "==00:00:00:01.250 1== Command: ./a\n"
        "--00:00:00:01.250 1-- malloc(100) = 0x40\n"
        "--00:00:00:01.500 2-- free(0x40)\n"
        "==00:00:00:02.250 2== Command: ./b\n"
        "--00:00:01:01.250 2-- malloc(7) = 0x40\n"
        "--00:00:01:01.000 1-- free(0x40)\n"
    )
    assert [str(event) for event in trace.events()] == [
        *("malloc 0 100", "fork 1", "free 0 (process 1, thread 0)", "exec (process 1, thread 0)"),
        *("malloc 0 7 (process 1, thread 0)", "free 0"),
    ]
    assert [event.time // 10**6 for event in trace.events()] == [0, 250, 250, 1000, 60_000, 60_000]
    assert trace.header.peak_live == 200


LTRACE = """\
mtrace()                                         = <void>
malloc(100)                                      = 0x5585beda72a0
memalign(128, 50, 0x5585beda74c0, 3)             = 0x5585beda7580
realloc(0, 10)                                   = 0x5585beda7980
malloc(4611686018427387904)                      = 0
malloc@libc.so.6(7)                              = 0x5585beda0000
libfoo.so->free(0x5585beda0000)                  = <void>
reallocarray(0x5585beda7980, 3, 9, 0)            = 0x5585beda7550
printf("%d) = %p\\n", 0, 0)                       = 8
puts("malloc(3) = 0x17")                         = 17
--- SIGCHLD (Child exited) ---
operator new(unsigned long, std::align_val_t)(256, 128, 0x7f, 0) = 0x560
operator delete(void*, std::align_val_t)(0x560, 128) = <void>
operator new[](unsigned long)(40, 1)             = 0x560
operator delete[](void*)(0x560)                  = <void>
_Znwm(72 <unfinished ...>
malloc(72)                                       = 0x570
<... _Znwm resumed> , 1, 1)                      = 0x570
_ZdlPvm(0x570, 72 <unfinished ...>
free(0x570)                                      = <void>
<... _ZdlPvm resumed> )                          = <void>
realloc(0x5585beda72a0, 9 <no return ...>
<... realloc resumed> )                          = 0x5585beda72a0
free(0x5585beda7550)                             = <void>
+++ exited (status 0) +++
"""


def test_ltrace(lines):
    assert lines(LTRACE) == [
        *("malloc 0 100", "aligned 1 50 128", "malloc 2 10", "malloc 3 7", "free 3", "realloc 2 27"),
        *("aligned 3 256 128", "free 3", "malloc 3 40", "free 3", "malloc 3 72", "free 3"),
        *("realloc 0 9", "free 2"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "passed"),
    [
        ("14:59:31", "14:59:32", 10**9),
        ("14:59:31.552375", "14:59:31.555980", 3_605_000),
        ("1795964372.061190", "1795964372.061509", 319_000),
        ("  0.000302", "  0.000326", 326_000),
        ("27371 14:59:32.941101", "27371 14:59:32.941425", 324_000),
        ("[pid 27371] 14:59:32.941101", "[pid 27371] 14:59:32.941425", 324_000),
        ("[pid 27371]", "[pid 27371]", 0),
        ("27371", "27371", 0),
    ],
)
def test_ltrace_has_many_clocks(opened, first, second, passed):
    trace = opened(f"{first} prog->malloc(5)   = 0x10\n{second} free(0x10) = <void>\n")
    assert [event.time for event in trace.events()] == [0, passed]


def test_ltrace_of_threads_and_forks(opened):
    trace = opened(
        "7 malloc(100)                    = 0x10\n"
        "8 malloc(9 <unfinished ...>\n"
        "7 free(0x10 <unfinished ...>\n"
        "8 <... malloc resumed> )         = 0x10\n"
        "7 <... free resumed> )           = <void>\n"
        "8 realloc(0x10, 20 <unfinished ...>\n"
        "7 malloc(30)                     = 0x10\n"
        "8 <... realloc resumed> )        = 0x20\n"
        "8 +++ exited (status 0) +++\n"
        "7 fork()                         = 9\n"
        "9 <... fork resumed> )           = 0\n"
        "9 free(0x10)                     = <void>\n"
        "9 execl(0x7, 0x7, 0, 0 <no return ...>\n"
        "9 --- Called exec() ---\n"
        "9 malloc(1)                      = 0x10\n"
        "9 +++ killed by SIGKILL +++\n"
        "7 free(0x20)                     = <void>\n"
        "7 +++ exited (status 0) +++\n"
    )
    there, child = " (process 0, thread 1)", " (process 1, thread 0)"
    assert [str(event) for event in trace.events()] == [
        *("malloc 0 100", "free 0", f"malloc 0 9{there}", "malloc 1 30", f"realloc 0 20{there}"),
        *(f"thread_exit{there}", "fork 1", f"free 1{child}", f"exec{child}", f"malloc 0 1{child}"),
        *(f"exit{child}", "free 0"),
    ]


def test_what_ltrace_does_not_print_is_told(opened):
    text = "posix_memalign(0x7ffc, 64, 100, 5)       = 0\nfree(0x5585) = <void>\n"
    with pytest.raises(
        UsageError,
        match=r"line 2 .* names an address where no block is \(heaplab trace convert --lenient skips it\)",
    ):
        opened(text)
    trace = opened(text + "malloc(5) = 0x10\n", lenient=True)
    assert trace.header.events == 1
    assert [remark.partition(": ")[2] for remark in trace.remarks] == [
        "lacks the blocks of 1 calls of posix_memalign, which ltrace does not print",
        "skipped or mended 1 frees of unknown blocks",
    ]


def test_mtrace(lines):
    text = (
        "= Start\r\n"
        "@ ./a b:[0x1286] + 0x55cac47a64a0 0x64\r\n"
        "@ /lib/x.so:(f(int, char - 0x1)+0x8)[0x1] + 0x10 0x15\n"
        "@ ./t:[0x12ae] < 0x55cac47a64a0\n"
        "@ ./t:[0x12ae] > 0x20 0x12c\n"
        "@ ./t:[0x131e] + (nil) 0x4000000000000000\n"
        "@ ./t:[0x133b] ! 0x20 0x4000000000000000\n"
        "@ ./t:[0x1353] + 0x30 0\n"
        "@ ./t:[0x1368] - 0x30\n"
        "= End\n"
    )
    assert lines(text) == ["malloc 0 100", "malloc 1 21", "realloc 0 300", "malloc 2 0", "free 2"]


def test_logalloc_of_two_processes(lines):
    text = (
        "1 1 malloc(42)=#1\n1 2 realloc(#1,24)=#2\n1 1 posix_memalign(64,10)=#3\n1 1 free(#0)\n"
        "2 7 calloc(4,42)=#1\n2 7 valloc(5)=#2\n1 1 realloc(#0,9)=#4\n1 1 jemalloc_stats()\n2 7 free(#1)\n"
    )
    assert lines(text) == [
        *("malloc 0 42", "realloc 0 24 (process 0, thread 1)", "aligned 1 10 64", "free NULL"),
        *("fork 1", "exec (process 1, thread 0)", "calloc 0 168 (process 1, thread 0)"),
        *("aligned 1 5 4096 (process 1, thread 0)", "malloc 2 9", "free 0 (process 1, thread 0)"),
    ]


def test_old_logalloc_without_threads(lines):
    assert lines("1 malloc(42)=0x1000\n1 free(0x1000)\n") == ["malloc 0 42", "free 0"]


def test_utrace_among_other_words(lines):
    text = (
        "hello\n<jemalloc>:utrace: 31532 malloc_init()\n"
        "<jemalloc>:utrace: 31532 0x800b01000 = malloc(34816)\n"
        "<jemalloc>:utrace: 31532 0x800b35230 = realloc(0x800b01000, 45)\nworld\n"
        "<jemalloc>:utrace: 31532 free(0x800b35230)\n"
    )
    assert lines(text) == ["malloc 0 34816", "realloc 0 45", "free 0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= Start\n@ x + 0x10 0x8\n@ x ? 0x10\n", "line 3 (@ x ? 0x10) is no operation of mtrace"),
        ("@ x + 0x10 0x8\n@ x > 0x10 0x8\n", "line 2 (@ x > 0x10 0x8) ends a realloc that did not begin"),
        ("@ x + 0x10 0x8\n@ x < 0x20\n", "line 2 (@ x < 0x20) names an address where no block is"),
        (
            "--1-- malloc(5) = 0x10\n--1-- malloc(5)\n",
            "line 2 (--1-- malloc(5)) is no operation of valgrind's",
        ),
        (
            "--1-- malloc(5) = 0x10\n--1-- malloc(-5) = 0x20\n",
            "line 2 (--1-- malloc(-5) = 0x20) has a size that",
        ),
        (
            "--1-- malloc(5) = 0x10\n--1-- calloc(5) = 0x20\n",
            "line 2 (--1-- calloc(5) = 0x20) is no operation of",
        ),
        ("1 1 malloc(5)=0x1\n1 1 malloc(5)\n", "line 2 (1 1 malloc(5)) is no operation of logalloc"),
        ("1 1 malloc(5)=0x1\nhello\n", "line 2 (hello) is no operation of logalloc"),
        (
            "<jemalloc>:utrace: 1 0x1 = malloc(5)\n<jemalloc>:utrace: x\n",
            "is no operation of jemalloc's utrace",
        ),
        ("malloc(5)  = 0x10\nmalloc(x)   = 0x20\n", "line 2 (malloc(x)   = 0x20) is no operation of ltrace"),
        (
            "malloc(5)  = 0x10\nmalloc(5)   = 0x10\n",
            "line 2 (malloc(5)   = 0x10) allocates a block where one is",
        ),
        (
            "memalign(99999999999, 5)  = 0x10\n",
            "line 1 (memalign(99999999999, 5)  = 0x10) has an alignment above",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(opened, text, message):
    with pytest.raises(UsageError) as caught:
        opened(text)
    assert message in str(caught.value)
    opened(text, lenient=True)


def test_a_process_that_no_process_can_fork_is_refused(opened):
    text = "".join(f"--{number}-- free(0x0)\n" for number in range(1, 70_000))
    with pytest.raises(
        UsageError, match=r"line 65537 .* belongs to a process that no process of the trace can"
    ):
        opened(text)


def test_every_event_is_at_the_time_of_the_file_or_later(opened):
    trace = opened("1: malloc 0x1 8 900 901\n1: free 0x1 800 801\n1: malloc 0x2 8 950 951\n")
    assert list(trace.events()) == [
        *(Event(Op.MALLOC, 0, 8), Event(Op.FREE, 0), Event(Op.MALLOC, 0, 8, time=50)),
    ]
    with pytest.raises(UsageError, match=r"line 1 .* has a time that no clock shows"):
        opened(f"1: malloc 0x1 8 {1 << 80} 901\n")
