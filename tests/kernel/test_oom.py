"""Out of frames: one process goes, and the rest goes on."""

import errno
import signal

import pytest

from heaplab.abi import CLONE_VM, MAP_ANONYMOUS, MAP_SHARED
from heaplab.errors import KernelPanic, OutOfMemory
from heaplab.kernel import oom
from heaplab.kernel.elf import make_elf
from heaplab.kernel.oom import choose_victim

SIZE = 256


def eat(process, pages):
    area = process.mmap(pages * SIZE)
    for page in range(pages):
        process.store64(area + page * SIZE, process.pid)
    return area


def badness(kernel, process):
    return oom.badness(kernel.task(process.pid).group)


def test_the_largest_process_goes(boot):
    kernel = boot(frames=64)
    small, large = kernel.init.fork(), kernel.init.fork()
    eat(large, 30)
    area = eat(small, 26)
    assert large.state == "X"
    assert all(small.load64(area + page * SIZE) == small.pid for page in range(26))
    kernel.check()


def test_who_asks_too_much_goes_itself(boot):
    kernel = boot(frames=64)
    parent = kernel.init.fork()
    child = parent.fork()
    kept = eat(parent, 3)
    with pytest.raises(OutOfMemory):
        eat(child, 60)
    assert parent.wait() == (child.pid, signal.SIGKILL)
    assert parent.load64(kept) == parent.pid
    kernel.check()


def test_of_equals_the_youngest_goes(boot):
    kernel = boot(frames=40)
    family = [kernel.init.fork() for _ in range(3)]
    pages = [eat(process, 4) for process in family]
    assert [process.state for process in family] == ["R", "R", "R"]
    area = kernel.init.mmap(20 * SIZE)
    while all(process.state == "R" for process in family):
        kernel.init.store64(area, 1)
        area += SIZE
    assert [process.state for process in family] == ["R", "R", "X"]
    assert family[1].load64(pages[1]) == family[1].pid


@pytest.mark.parametrize("access", ["copy", "reuse", "shared", "zero", "wait4"])
def test_every_kind_of_fault_finds_room(boot, access):
    """A victim stands ready; each kind of fault is made with no frame free."""
    kernel = boot(frames=80)
    process = kernel.init.fork()
    page = process.mmap(SIZE)
    shared = process.mmap(SIZE, flags=MAP_SHARED | MAP_ANONYMOUS)
    process.store64(page, 1)
    child = process.fork()
    if access == "wait4":
        process.fork().exit(0)
    victim = kernel.init.fork()
    area = victim.mmap(80 * SIZE)
    at = area
    while kernel.machine.free_frames:
        victim.store64(at, 1)
        at += SIZE
    if access in ("copy", "reuse"):
        process.store64(page, 2)
        assert (process.load64(page), child.load64(page)) == (2, 1)
    elif access == "shared":
        child.store64(shared, 5)
        assert process.load64(shared) == 5
    elif access == "zero":
        process.load64(process.mmap(SIZE))
    else:
        assert process.syscall(61, -1, page, 0, 0) > 0
    assert victim.state == ("X" if access != "zero" else victim.state)
    kernel.check()


def test_fork_makes_room_too(boot):
    kernel = boot(frames=64)
    victim, process = kernel.init.fork(), kernel.init.fork()
    eat(process, 10)
    area = victim.mmap(64 * SIZE)
    while kernel.machine.free_frames > 2:
        victim.store64(area, 1)
        area += SIZE
    child = process.fork()
    assert victim.state == "X"
    assert child.state == "R"
    kernel.check()


def test_fork_of_the_largest_is_its_end(boot):
    kernel = boot(frames=64)
    process = kernel.init.fork()
    area = process.mmap(64 * SIZE)
    while kernel.machine.free_frames > 2:
        process.store64(area, 1)
        area += SIZE
    with pytest.raises(OutOfMemory):
        process.fork()
    kernel.check()
    assert kernel.init.fork().pid == process.pid + 1  # a child gets its number last


def test_pid_1_alone_gets_enomem_from_fork_and_panics_in_a_fault(boot):
    kernel = boot(frames=8)
    area = kernel.init.mmap(8 * SIZE)
    kernel.init.store64(area, 1)
    with pytest.raises(KernelPanic, match="no process but pid 1"):
        kernel.init.fill(area, 1, 8 * SIZE)
    with pytest.raises(OSError) as caught:
        kernel.init.fork()
    assert caught.value.errno == errno.ENOMEM
    kernel.check()


def test_shared_pages_do_not_die_with_the_victim(boot):
    kernel = boot(frames=64)
    process = kernel.init.fork()
    shared = process.mmap(4 * SIZE, flags=MAP_SHARED | MAP_ANONYMOUS)
    child = process.fork()
    child.write(shared, b"kept")
    with pytest.raises(OutOfMemory):
        eat(child, 60)
    assert process.read(shared, 4) == b"kept"


# ---- whom it chooses


def test_the_adjustment_is_in_thousandths_of_memory(boot):
    """With 2048 frames a thousandth is 2, for Linux divides first."""
    kernel = boot(frames=2048)
    small, large = kernel.init.fork(), kernel.init.fork()
    eat(small, 40)
    eat(large, 60)
    before = badness(kernel, large) - badness(kernel, small)
    small.oom_score_adj = before // 2
    child = small.fork()
    assert child.oom_score_adj == before // 2
    assert badness(kernel, large) - badness(kernel, small) == before % 2
    child.exit(0)
    small.oom_score_adj = before // 2 + 1
    assert choose_victim(kernel.system).tgid == small.pid
    small.oom_score_adj = -1000
    assert badness(kernel, small) is None
    assert choose_victim(kernel.system).tgid == large.pid


@pytest.mark.parametrize("value", [-1001, 1001])
def test_adjustments_that_there_are_not(process, value):
    with pytest.raises(OSError) as caught:
        process.oom_score_adj = value
    assert caught.value.errno == errno.EINVAL
    assert process.oom_score_adj == 0


def test_who_brings_less_than_nothing_is_still_chosen(boot):
    kernel = boot(frames=2000)
    process = kernel.init.fork()
    process.oom_score_adj = -999
    assert badness(kernel, process) < 0
    assert choose_victim(kernel.system).tgid == process.pid
    process.oom_score_adj = -1000
    assert choose_victim(kernel.system) is None


def test_who_is_spared_is_spared_to_the_end(boot):
    kernel = boot(frames=64)
    spared, other = kernel.init.fork(), kernel.init.fork()
    spared.oom_score_adj = -1000
    area = eat(spared, 25)
    with pytest.raises(OutOfMemory):
        eat(other, 60)
    with pytest.raises(KernelPanic):
        eat(spared, 60)
    assert spared.load64(area) == spared.pid


def test_the_adjustment_is_one_for_all_processes_in_a_memory_but_vforked_ones(kernel, process):
    thread = process.spawn_thread(SIZE)
    companion = process.clone(CLONE_VM | signal.SIGCHLD)
    process.oom_score_adj = 300
    assert (thread.oom_score_adj, companion.oom_score_adj) == (300, 300)
    child = companion.vfork()
    assert child.oom_score_adj == 300
    child.oom_score_adj = 500
    process.oom_score_adj = 400
    assert (companion.oom_score_adj, child.oom_score_adj) == (400, 500)
    assert kernel.oom_score(child.pid) == 0  # its memory is its parent's, which is chosen instead
    child.exit(0)


def test_oom_score_is_linuxs(boot):
    kernel = boot(frames=2000)
    process = kernel.init.fork()
    eat(process, 100)
    assert kernel.oom_score(1) == 0
    points = badness(kernel, process)
    for adj, total in ((0, points), (1000, points + 2000), (500, points + 1000)):
        process.oom_score_adj = adj
        assert kernel.oom_score(process.pid) == (1000 + total * 1000 // 2000) * 2 // 3
    process.oom_score_adj = -101  # towards zero: 201 - points is odd
    assert kernel.oom_score(process.pid) == (1000 - (202 - points) * 1000 // 2000) * 2 // 3
    process.oom_score_adj = -1000
    assert kernel.oom_score(process.pid) == 0


def test_exec_keeps_the_adjustment(boot):
    kernel = boot(frames=512)
    kernel.write_file("/p", make_elf(page_size=SIZE))
    process = kernel.init.fork()
    process.oom_score_adj = 7
    process.execve("/p", ["p"])
    assert process.oom_score_adj == 7
