"""Booting: machines of all sizes, the layout, and what a user may get wrong."""

import pytest

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.layout import Layout
from heaplab.machine import FrameKind, Machine


@pytest.mark.parametrize("page_size", [64, 128, 256, 512, 1024, 2048, 4096])
def test_every_page_size_boots_and_works(boot, page_size):
    kernel = boot(frames=48, page_size=page_size)
    parent = kernel.init.fork()
    heap = parent.sbrk(3 * page_size)
    page = parent.mmap(page_size)
    for address in (heap, heap + 2 * page_size, page):
        parent.store64(address, address)
    child = parent.fork()
    child.store64(page, 1)
    assert [parent.load64(address) for address in (heap, heap + 2 * page_size, page)] == [
        heap,
        heap + 2 * page_size,
        page,
    ]
    kernel.check()


def test_boot_takes_two_frames(boot):
    kernel = boot(frames=24)
    assert kernel.machine.used(FrameKind.ZERO) == kernel.machine.used(FrameKind.TABLE) == 1
    assert kernel.machine.free_frames == 22
    kernel.init.fork()
    assert kernel.machine.free_frames == 21


def test_pid_1(kernel):
    init = kernel.init
    assert (init.pid, init.getpid(), init.getppid()) == (1, 1, 0)
    assert kernel.process(1).pid == 1
    assert kernel.tree() == "init(1)\n"


def test_handles_of_one_process_are_alike(kernel, process):
    page = process.mmap(process.page_size)
    other = kernel.process(process.pid)
    other.store64(page, 5)
    other.errno = 7
    assert process.load64(page) == 5
    assert process.errno == 7
    assert other.context is process.context


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ram": "4 KiB"}, "fewer than 2 frames"),
        ({"ram": 100}, "no machine has"),
        ({"page_size": 300}, "page size"),
        ({"overcommit_memory": 3}, "overcommit_memory 3 does not exist"),
        ({"ram": "many"}, "is not a size"),
        ({"pid_max": 1}, "pid_max"),
    ],
)
def test_what_no_kernel_can_be(settings, words):
    with pytest.raises(UsageError, match=words):
        Kernel(**{"ram": "1 MiB", **settings})


def test_a_pid_that_is_not_there(kernel):
    with pytest.raises(UsageError, match="no process has pid 99"):
        kernel.process(99)


def test_the_layout_is_chances_and_chance_is_the_seeds():
    machine = Machine("64 KiB")

    def bases(seed):
        process = Kernel(ram="1 MiB", seed=seed).init.fork()
        return process.sbrk(0), process.mmap(4096), process.maps()

    assert bases(1) == bases(1)
    assert bases(1) != bases(2)
    fixed = Layout.choose(machine, None)
    assert fixed == Layout.choose(machine, None)
    assert (fixed.stack_top, fixed.task_size) == (0x7FFFFFFFF000, 0x7FFFFFFFF000)
    assert fixed.min_addr == 0x10000
    assert fixed.stack_limit == 8 << 20
    assert fixed.guard_gap == 1 << 20


def test_spans_of_randomisation_are_linuxs():
    layouts = [Kernel(ram="1 MiB", seed=seed).system.init.mm.layout for seed in range(60)]
    for field, bits in (("start_brk", 30), ("stack_top", 34), ("mmap_base", 40)):
        places = [getattr(layout, field) for layout in layouts]
        assert 2 ** (bits - 1) < max(places) - min(places) < 2**bits
        assert all(place % 4096 == 0 for place in places)


def test_the_parts_keep_their_order():
    for page_size in (64, 256, 4096):
        for seed in range(50):
            kernel = Kernel(ram=40 * page_size, page_size=page_size, seed=seed)
            layout = kernel.system.init.mm.layout
            assert (
                0
                < layout.min_addr
                <= layout.start_brk
                < layout.mmap_base
                < layout.stack_top
                <= layout.task_size
            )
            assert layout.stack_top - layout.mmap_base >= layout.stack_limit + layout.guard_gap


def test_the_counters_start_at_zero_and_are_exact(process):
    assert (process.minflt, sum(process.syscalls.values()), process.context.mems) == (0, 0, 0)
    page = process.mmap(process.page_size)
    process.store64(page, 1)
    process.load64(page)
    process.munmap(page, process.page_size)
    process.fork()
    assert process.syscalls == {"mmap": 1, "munmap": 1, "fork": 1}
    assert (process.minflt, process.context.loads, process.context.stores) == (1, 1, 1)


def test_two_runs_are_equal(boot):
    def run():
        kernel = boot(seed=3)
        parent = kernel.init.fork()
        heap = parent.sbrk(5000)
        for step in range(200):
            parent.store64(heap + step * 24 % 4992, step)
        child = parent.fork()
        child.fill(heap, 9, 5000)
        context = parent.context
        return parent.maps(), child.status(), kernel.machine.ram.tobytes(), context.tlb_misses, context.faults

    assert run() == run()


@pytest.mark.parametrize(
    "wrong", [{"ram": -5}, {"ram": 1 << 80}, {"page_size": -4}, {"tlb": -1}, {"tlb": 1 << 70}]
)
def test_machines_that_cannot_be(wrong):
    with pytest.raises(UsageError, match="no machine has"):
        Kernel(**wrong)
