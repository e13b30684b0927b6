"""Looking changes nothing: peeks leave the whole machine as it was, and tell what a read finds."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab._core import ffi
from heaplab.abi import (
    MADV_DONTNEED,
    MADV_FREE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from heaplab.allocators import create
from heaplab.errors import HeaplabError, Unreadable, UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import make_elf
from heaplab.kernel.vma import VM_GROWSDOWN
from heaplab.process import Process

PAGE = 256
RW = PROT_READ | PROT_WRITE
MASK = (1 << 64) - 1


def everything(kernel: Kernel) -> dict[str, Any]:
    """All that looking must leave alone: memory, TLB, tables, counters, VMAs, files, the kernel's notes."""
    machine, system = kernel.machine, kernel.system
    raw = machine.raw
    tlb = ffi.buffer(raw.tlb, raw.tlb_size * ffi.sizeof("hl_tlb_entry"))
    spaces = {id(task.mm): task.mm for task in system.living()}
    inodes = {vma.file.inode for mm in spaces.values() for vma in mm.vmas if vma.file is not None}
    return {
        "memory": machine.ram[: raw.fresh].tobytes(),
        "frames": [
            machine.refcount.tobytes(),
            machine.mapcount.tobytes(),
            machine.kind.tobytes(),
            machine.flags.tobytes(),
            list(raw.used),
            raw.fresh,
            raw.peak_anon,
        ],
        "tlb": bytes(tlb),
        "spaces": [
            [
                getattr(mm.space.raw, name)
                for name in ("root", "cached", "peak_rss", "tables", "vm_pages", "heap_pages", "brk")
            ]
            + list(mm.space.raw.rss)
            for mm in spaces.values()
        ],
        "vmas": [
            [(vma.start, vma.end, vma.flags, vma.pgoff, vma.anon_vma, vma.inherited) for vma in mm.vmas]
            + [mm.vmas.last, mm.vmas.data, mm.vmas.locked, mm.vmas.peak]
            for mm in spaces.values()
        ],
        "tasks": [
            (
                task.minflt,
                task.majflt,
                dict(task.syscalls),
                task.context.mems,
                task.context.stores,
                task.context.bulk,
                task.context.tlb_misses,
                task.context.faults,
                task.context.raw.failed,
                task.context.fuel,
                task.context.order,
                task.state,
            )
            for task in system.tasks.values()
        ],
        "files": [(inode.size, dict(inode.pages), len(inode.mappings)) for inode in inodes],
        "system": (
            list(system.reclaimable),
            system.committed,
            system.disk_reads,
            system.current,
            dict(system.signalled),
            system.lazily_freed,
        ),
    }


def interesting(process: Process) -> list[int]:
    """Page addresses in and around everything mapped, and wild ones."""
    edges = {0, (1 << 28) - PAGE, 1 << 28, 1 << 47, 1 << 48, (1 << 64) - PAGE}
    for line in process.maps().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        edges |= set(range(start - PAGE, min(end, start + 8 * PAGE) + PAGE, PAGE)) | {end - PAGE, end}
    return sorted(va & MASK for va in edges)


def peeks(process: Process) -> dict[int, bytes | None]:
    look = process.look()

    def peek(va: int) -> bytes | None:
        try:
            return look.read(va, PAGE)
        except Unreadable as error:
            wrong = error.address != va
            return b"a wrong address" if wrong else None

    found = {va: peek(va) for va in interesting(process)}
    for va, page in found.items():
        assert process.peek(va, PAGE) == page
        if page is not None:
            assert look.load64(va + 8) == int.from_bytes(page[8:16], "little")
            assert look.load(va + 3, 1) == page[3]
            after = found.get(va + PAGE)
            across = None if after is None else page[-3:] + after[:4]
            assert process.peek(va + PAGE - 3, 7) == across
    return found


def agrees_with_reads(kernel: Kernel, process: Process, found: dict[int, bytes | None]) -> None:
    """Compare what was seen with real reads, each by a child of its own, which may die of it."""
    for va, page in found.items():
        mm = kernel.task(process.pid).mm
        assert mm is not None
        above = mm.vmas.first_ending_after(va)
        if page is None and above is not None and above.flags & VM_GROWSDOWN:
            continue  # a read makes the stack grow
        reader = process.fork()
        try:
            read: bytes | None = reader.read(va, PAGE)
            reader.exit(0)
        except HeaplabError:
            read = None
        process.waitpid(reader.pid)
        assert read == page, f"a look at {va:#x} and a read differ"


def do(process: Process, step: str, page: int, prot: int, value: int) -> None:
    """A step of a program, as well as it can be done."""
    place = process.area + page * PAGE  # type: ignore[attr-defined]
    length = (value % 4 + 1) * PAGE
    flags = MAP_FIXED | (MAP_SHARED if value % 2 else MAP_PRIVATE)
    steps: dict[str, Callable[[], object]] = {
        "map": lambda: process.mmap(length, place, prot, flags | MAP_ANONYMOUS),
        "file": lambda: process.mmap(length, place, prot, flags, fd=3 + value % 2, offset=value % 3 * PAGE),
        "unmap": lambda: process.munmap(place, length),
        "protect": lambda: process.mprotect(place, length, prot),
        "drop": lambda: process.madvise(place, length, MADV_DONTNEED if value % 2 else MADV_FREE),
        "cut": lambda: process.ftruncate(3 + value % 2, value % (5 * PAGE)),
        "write": lambda: process.pwrite(3 + value % 2, bytes([value % 256]) * 100, value % (4 * PAGE)),
        "brk": lambda: process.brk(process.start + value % 2000),  # type: ignore[attr-defined]
    }
    if step in ("load", "store"):
        # what would end the process is left alone
        entry = process.peek(place, 8)
        line = next((line for line in process.maps().splitlines() if _holds(line, place)), "")
        if step == "load" and entry is not None:
            process.load64(place)
        elif step == "store" and entry is not None and line.split()[1][1] == "w":
            process.store64(place, value)
        return
    with suppress(OSError):
        steps[step]()


def _holds(line: str, va: int) -> bool:
    start, end = (int(word, 16) for word in line.split(maxsplit=1)[0].split("-"))
    return start <= va < end


STEP = st.tuples(
    st.sampled_from(
        ["map", "file", "unmap", "protect", "drop", "cut", "write", "brk", "load", "store", "store", "fork"]
    ),
    st.integers(0, 11),
    st.sampled_from([RW, RW, PROT_READ, PROT_NONE, PROT_WRITE, PROT_EXEC]),
    st.integers(0, 1 << 20),
)


@pytest.mark.parametrize("fork", ["copy-on-write", "eager", "shared-tables"])
@settings(deadline=None, max_examples=40)
@given(st.lists(STEP, max_size=25))
def test_looking_changes_nothing_and_sees_what_a_read_finds(
    fork: str, steps: list[tuple[str, int, int, int]]
) -> None:
    kernel = Kernel(ram=1024 * PAGE, page_size=PAGE, tlb=16, poison=True, fork=fork)
    kernel.write_file("/disk", bytes(range(256)) * 3)
    process = kernel.init.fork()
    process.open("/disk", os.O_RDWR)
    process.memfd_create("memory")
    process.write_fd(4, b"m" * 300)
    area, start = process.mmap(16 * PAGE, prot=PROT_NONE), process.sbrk(0)
    family = [process]
    for each in family:
        each.area, each.start = area, start  # type: ignore[attr-defined]
    for step, page, prot, value in steps:
        who = family[value % len(family)]
        if step == "fork" and len(family) < 3:
            child = who.fork()
            child.area, child.start = area, start  # type: ignore[attr-defined]
            family.append(child)
        elif step != "fork":
            do(who, step, page, prot, value)
    before = everything(kernel)
    found = [peeks(each) for each in family]
    assert found == [peeks(each) for each in family]
    for each in family:
        for va in interesting(each):
            each.frame_of(va)
    after = everything(kernel)
    assert [name for name in before if before[name] != after[name]] == []
    kernel.check()
    for each, pages in zip(family, found, strict=True):
        agrees_with_reads(kernel, each, pages)


def test_frames_are_told_and_none_is_none(kernel: Kernel, process: Process) -> None:
    page = process.mmap(2 * PAGE)
    assert process.frame_of(page) is None
    process.load64(page)
    assert process.frame_of(page) == kernel.system.zero_frame == 0
    process.store64(page, 1)
    frame = process.frame_of(page + PAGE - 1)
    assert frame
    assert kernel.machine.ram[frame][0] == 1
    process.mprotect(page, PAGE, PROT_NONE)
    assert (process.frame_of(page), process.peek(page, 1)) == (frame, None)
    for va in (0, 1 << 47, 1 << 63, -1, (1 << 64) + 5):
        assert process.frame_of(va) is None


def test_a_stack_does_not_grow_under_a_look(kernel: Kernel, process: Process) -> None:
    top = kernel.task(process.pid).memory.start_stack
    start = kernel.task(process.pid).memory.vmas.at(top).start  # type: ignore[union-attr]
    assert process.peek(start, 8) == bytes(8)
    assert process.peek(start - 8, 8) is None
    assert process.peek(start - 4, 8) is None
    process.load64(start - 8)
    assert process.peek(start - 8, 8) == bytes(8)


def test_a_file_on_disk_is_seen_without_being_read_in(kernel: Kernel, process: Process) -> None:
    kernel.write_file("/file", b"x" * (PAGE + 10))
    page = process.mmap(3 * PAGE, prot=PROT_READ, flags=MAP_PRIVATE, fd=process.open("/file"))
    assert process.peek(page + PAGE, PAGE) == b"x" * 10 + bytes(PAGE - 10)
    assert process.peek(page + 2 * PAGE, 1) is None
    assert (kernel.system.disk_reads, len(kernel.system.reclaimable)) == (0, 0)
    with pytest.raises(Unreadable) as caught:
        process.look().read(page, 3 * PAGE)
    assert caught.value.address == page + 2 * PAGE


def test_threads_sleepers_and_the_stopped_can_be_looked_at(kernel: Kernel, process: Process) -> None:
    page = process.mmap(PAGE)
    process.store64(page, 7)
    thread = process.spawn_thread(stack_size=PAGE)
    assert thread.peek(page, 1) == b"\x07"
    thread.exit_thread()
    kernel.init.kill(process.pid, signal.SIGSTOP)
    assert (process.state, process.look().load64(page)) == ("T", 7)
    kernel.init.kill(process.pid, signal.SIGCONT)
    child = process.vfork()
    assert (process.state, process.look().load64(page), child.look().load64(page)) == ("D", 7, 7)
    child.exit(0)
    process.wait()


def test_the_dead_cannot_be_looked_at_and_exec_begins_another_memory(
    kernel: Kernel, process: Process
) -> None:
    kernel.write_file("/bin/true", make_elf(data=b"values"))
    page = process.mmap(PAGE)
    process.store64(page, 7)
    look = process.look()
    child = process.vfork()
    theirs = child.look()
    child.execve("/bin/true", ["true"])
    assert (look.load64(page), theirs.load64(page)) == (7, 7), "vfork lent it, and it is still there"
    assert child.look().sbrk(0) == child.sbrk(0) != look.sbrk(0)
    process.execve("/bin/true", ["true"])
    for old in (look, theirs):
        assert old.sbrk(0) == 0
        with pytest.raises(Unreadable):
            old.load64(page)
    look = process.look()
    assert look.load64(process.stack) == 1
    process.exit(0)
    for ask in (process.look, lambda: process.peek(0, 1), lambda: process.frame_of(0)):
        with pytest.raises(ProcessLookupError):
            ask()
    with pytest.raises(Unreadable):
        look.load64(0)


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_heap_is_walked_through_a_look_as_through_its_process(language: str) -> None:
    kernel = Kernel(ram="4 MiB", seed=1)
    process = kernel.init.fork()
    heap = create("rbtree", process, language=language)
    blocks = [heap.malloc(size) for size in range(8, 1000, 24)]
    for block in blocks[::3]:
        heap.free(block)
    before = everything(kernel)
    seen = type(heap)(process.look(), heap.options, heap.root)  # type: ignore[arg-type]
    seen.check()
    walked = list(seen.walk())
    with pytest.raises(UsageError, match=r"a store at .* through a look"):
        seen.malloc(16)
    if language == "c":
        with pytest.raises(UsageError, match="system call 9 through a look"):
            seen.malloc(1 << 20)
    assert everything(kernel) == before
    assert walked == list(heap.walk())
    assert process.peek(heap.root, 64) == process.read(heap.root, 64)
