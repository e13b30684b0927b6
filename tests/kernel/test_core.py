"""Cores: what a process leaves that a signal ends, and what can still be seen in it."""

import gc
import os
import signal

import pytest

from heaplab.abi import (
    CLD_DUMPED,
    CLD_KILLED,
    MADV_DONTDUMP,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    SEGV_ACCERR,
    SEGV_MAPERR,
    Rlimit,
)
from heaplab.allocators import create
from heaplab.errors import BusError, SegmentationFault, Unreadable, UsageError
from heaplab.kernel import Kernel
from tests.kernel.test_look import peeks

PAGE = 256


@pytest.fixture
def process(boot):
    kernel = boot(1024, core=True)
    kernel.write_file("/disk", b"disk" * 100)
    return kernel.init.fork()


def die(process, access, *args):
    with pytest.raises((SegmentationFault, BusError)) as caught:
        access(*args)
    assert process.core.died is caught.value
    return process.core


def test_a_core_shows_all_that_could_be_read(process):
    process.write(process.mmap(3 * PAGE) + PAGE, b"written")
    process.load64(process.mmap(PAGE))
    process.mmap(PAGE, prot=PROT_NONE)
    process.store64(process.mmap(PAGE, flags=MAP_SHARED | MAP_ANONYMOUS), 5)
    process.mmap(4 * PAGE, flags=MAP_PRIVATE, fd=process.open("/disk"))
    process.sbrk(1000)
    process.store64(process.sbrk(0) - 8, 9)
    seen, maps, brk = peeks(process), process.maps(), process.sbrk(0)
    core = die(process, process.store64, 16, 1)
    assert {va: core.peek(va, PAGE) for va in seen} == seen
    assert (core.maps, core.sbrk(0), core.page_size) == (maps, brk, PAGE)
    assert core.load64(brk - 8) == 9
    assert core.pages == sum(page is not None and any(page) for page in seen.values())


def test_it_tells_how_the_process_ended(process):
    process.name = "sh"
    core = die(process, process.store64, 16, 1)
    assert (core.pid, core.tid, core.name) == (process.pid, process.tid, "sh")
    assert (core.signum, core.si_code, core.access, core.address) == (
        signal.SIGSEGV,
        SEGV_MAPERR,
        "store",
        16,
    )
    assert str(core).splitlines()[:2] == [
        "core of sh: process 2 was ended by SIGSEGV: store at 0x10: SEGV_MAPERR, nothing is mapped there",
        f"0 pages of 256 bytes hold something; the break is at {core.sbrk(0):#x}",
    ]
    assert "[stack]" in str(core)


def test_a_load_and_a_bus_error(process):
    child = process.fork()
    page = process.mmap(PAGE, prot=PROT_NONE)
    core = die(process, process.load64, page)
    assert (core.access, core.si_code) == ("load", SEGV_ACCERR)
    page = child.mmap(4 * PAGE, flags=MAP_PRIVATE, fd=child.open("/disk"))
    core = die(child, child.load64, page + 3 * PAGE)
    assert (core.signum, core.address) == (signal.SIGBUS, page + 3 * PAGE)
    assert (core.read(page, 8), core.peek(page + 2 * PAGE, 1)) == (b"diskdisk", None)


def test_it_outlives_process_frames_and_kernel(process):
    parent, child = process, process.fork()
    page = child.mmap(2 * PAGE)
    child.write(page, b"x" * 2 * PAGE)
    core = die(child, child.load64, 0)
    parent.wait()
    assert (child.state, child.core) == ("X", core)
    other = parent.fork()
    other.fill(other.mmap(50 * PAGE), 0xFF, 50 * PAGE)
    assert core.read(page, 2 * PAGE) == b"x" * 2 * PAGE
    del parent, process, child, other
    gc.collect()
    assert core.load(page, 1) == ord("x")


def test_the_status_says_that_there_is_one(process):
    for core, code in ((True, CLD_DUMPED), (False, CLD_KILLED)):
        child = process.fork()
        if not core:
            child.setrlimit(Rlimit.CORE, (0, 0))
        with pytest.raises(SegmentationFault):
            child.load64(0)
        info = process.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert (info.code, info.status) == (code, signal.SIGSEGV)
        status = process.waitpid(child.pid)[1]
        assert (os.WCOREDUMP(status), os.WTERMSIG(status)) == (core, signal.SIGSEGV)
        assert (child.core is not None) == core


@pytest.mark.parametrize("signum", [signal.SIGQUIT, signal.SIGABRT, signal.SIGXCPU, signal.SIGSEGV])
def test_signals_that_are_sent_leave_one_too(process, signum):
    child = process.fork()
    page = child.mmap(PAGE)
    child.store64(page, 7)
    process.kill(child.pid, signum)
    assert (child.core.signum, child.core.address, child.core.access) == (signum, None, "")
    assert child.core.load64(page) == 7
    assert str(child.core.died) == f"process {child.pid} was ended by {signum.name}: it was sent"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_others_do_not(process, signum):
    child = process.fork()
    process.kill(child.pid, signum)
    assert child.core is None
    assert process.wait()[1] == signum


def test_there_is_none_unless_asked_for(boot):
    process = boot().init.fork()
    assert process.core is None
    assert process.getrlimit(Rlimit.CORE)[0] == 0
    with pytest.raises(SegmentationFault):
        process.load64(0)
    assert process.core is None
    exited = boot(core=True).init.fork()
    exited.exit(3)
    assert exited.core is None


def test_what_was_not_to_be_dumped_is_not(process):
    page = process.mmap(2 * PAGE)
    process.fill(page, 1, 2 * PAGE)
    process.madvise(page, PAGE, MADV_DONTDUMP)
    core = die(process, process.load64, 0)
    assert (core.peek(page, 1), core.peek(page + PAGE, 1), core.pages) == (None, b"\x01", 1)


def test_a_thread_takes_its_process_along(process):
    thread = process.spawn_thread(stack_size=PAGE)
    core = die(thread, thread.load64, 0)
    assert process.core is core
    assert (core.pid, core.tid) == (process.pid, thread.tid)


def test_a_core_is_frozen(process):
    core = die(process, process.load64, 0)
    for change in (
        lambda: setattr(core, "address", 1),
        lambda: core.store64(0, 1),
        lambda: core.sbrk(8),
    ):
        with pytest.raises((AttributeError, UsageError)):
            change()
    with pytest.raises(Unreadable):
        core.load64(0)


@pytest.mark.parametrize("page_size", [1024, 4096])
@pytest.mark.parametrize("language", ["python", "c"])
def test_the_heap_of_the_dead_can_be_walked(language, page_size):
    kernel = Kernel(ram="4 MiB", page_size=page_size, core=True)
    process = kernel.init.fork()
    heap = create("rbtree", process, language=language)
    blocks = [heap.malloc(size) for size in range(8, 2000, 24)]
    for block in blocks[::3]:
        heap.free(block)
    walked = list(heap.walk())
    core = die(process, process.store64, 0, 1)
    dead = heap.attach(core)
    assert list(dead.walk()) == walked
    dead.check()
