"""Every failure of memory in turn: the kernel refuses the first call, then the second one, and so on.

A script runs once to count what the kernel is asked for.  Then it runs once for each: with that call refused,
or with so many frames in the machine.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

from heaplab.abi import Sys
from heaplab.allocators import Allocator, Trait
from heaplab.errors import OutOfMemory
from heaplab.kernel.syscalls import TABLE
from heaplab.kernel.task import Task
from heaplab.machine import FrameKind
from heaplab.testing.contract.factory import KIB, Clause, HeapFactory, allocated, clause, fill, holds

#: calls that ask for memory
_ASKING: Final = (Sys.BRK, Sys.MMAP, Sys.MREMAP)
#: options with which a short script makes many calls
_TIGHT: Final = {"top_pad": 0, "trim_threshold": 4 * KIB, "mmap_threshold": 64 * KIB}


class Refusals:
    """Counts the calls that ask the kernel for memory, and refuses one of them.

    asked: how many there were.  refused: whether the one was reached.
    """

    def __init__(self, which: int | None) -> None:
        self._which = which
        self.asked = 0
        self.refused = False

    def _refuses_now(self) -> bool:
        self.asked += 1
        if self.asked != self._which:
            return False
        self.refused = True
        return True

    def instead_of(self, number: int, call: Callable[..., int]) -> Callable[..., int]:
        """The system call with refusals: brk then says where the break is, the others ENOMEM."""

        def refusing(task: Task, first: int, *rest: int) -> int:
            if number != Sys.BRK:
                if self._refuses_now():
                    raise OSError(errno.ENOMEM, "refused")
            elif first > (now := call(task, 0, *rest)) and self._refuses_now():
                return now
            return call(task, first, *rest)

        return refusing


@contextmanager
def refusals(which: int | None = None) -> Iterator[Refusals]:
    """Let the kernel refuse the `which`-th call that asks for memory, counted from 1; none without a number.

    >>> from heaplab.kernel import Kernel
    >>> process = Kernel(ram="1 MiB", seed=1).init.fork()
    >>> with refusals(1) as seen:
    ...     process.mmap(4096)
    Traceback (most recent call last):
    OSError: [Errno 12] Cannot allocate memory
    >>> seen.asked, seen.refused
    (1, True)
    """
    seen = Refusals(which)
    before = [(number, *TABLE[number]) for number in _ASKING]
    for number, name, call in before:
        TABLE[number] = name, seen.instead_of(number, call)
    try:
        yield seen
    finally:
        for number, name, call in before:
            TABLE[number] = name, call


class _Block(NamedTuple):
    size: int
    byte: int


class _Script:
    """Requests of many sizes, some freed and some moved, on a heap whose kernel may refuse at any of them."""

    def __init__(self, heap: Allocator, traits: Trait, seen: Refusals) -> None:
        self.heap = heap
        self.live: dict[int, _Block] = {}
        self._any_order = Trait.ANY_ORDER in traits
        self._seen = seen
        self._made = 0

    def run(self) -> None:
        """Carry the script out, and free everything."""
        heap = self.heap
        for size in (24, 3000, 100, 9000, 70 * KIB, 40, 20 * KIB):
            p = self.malloc(size)
            half = size // 2
            self._had(f"calloc(2, {half})", partial(heap.calloc, 2, half), 2 * half)
            if self._any_order:
                self._had(f"aligned_alloc(256, {size})", partial(heap.aligned_alloc, 256, size), size)
                self._grow(p)
                self._free(min(self.live))
        self.verify("the script")
        for p in reversed(list(self.live)):
            self._free(p)
        self.verify("the last free")
        assert not allocated(heap), "blocks are left, though everything was freed"

    def malloc(self, size: int) -> int:
        """A new block."""
        return self._had(f"malloc({size})", partial(self.heap.malloc, size), size)

    def _grow(self, p: int) -> None:
        size, byte = self.live[p]
        more = 2 * size + 40 * KIB
        q = self._asked(f"realloc to {more}", partial(self.heap.realloc, p, more))
        assert holds(self.heap, q, byte, size), f"realloc to {more} lost the content"
        del self.live[p]
        self._born(q, more)

    def _had(self, what: str, call: Callable[[], int], size: int) -> int:
        p = self._asked(what, call)
        self._born(p, size)
        return p

    def _asked(self, what: str, call: Callable[[], int]) -> int:
        """What the call returns; if it was refused, once more: now the kernel gives."""
        process, refused = self.heap.process, self._seen.refused
        process.errno = 0
        p = call()
        if p:
            return p
        told = f"{what}, of which the kernel refused call {self._seen.asked}"
        assert self._seen.refused != refused, f"{what} returned 0, though the kernel refused nothing"
        assert process.errno == errno.ENOMEM, f"{told}: errno is {process.errno}, not ENOMEM"
        self.verify(told)
        p = call()
        assert p, f"{told}: the next time it returned 0 too, though the kernel gives"
        return p

    def _born(self, p: int, size: int) -> None:
        self._made += 1
        self.live[p] = _Block(size, self._made % 256)
        fill(self.heap, p, self._made % 256, size)

    def _free(self, p: int) -> None:
        size, byte = self.live.pop(p)
        assert holds(self.heap, p, byte, size), f"a block of {size} bytes has other content"
        self.heap.free(p)

    def verify(self, after: str) -> None:
        """The heap is sound, and has the blocks that live, with their content."""
        self.heap.check()
        there = allocated(self.heap)
        assert sorted(there) == sorted(self.live), f"after {after} the walk has other blocks than live"
        for p, (size, byte) in self.live.items():
            assert holds(self.heap, p, byte, size), f"after {after} a block of {size} bytes has other content"


def _one_run(factory: HeapFactory, which: int | None) -> int:
    """Run the script with one call refused; return how many there were."""
    with refusals(which) as seen:
        try:
            heap = factory.heap(ram="64 MiB", **_TIGHT)
        except MemoryError:
            assert seen.refused, "the heap could not be made, though the kernel refused nothing"
            return seen.asked
        _Script(heap, factory.traits, seen).run()
    return seen.asked


@clause
def every_refusal_in_turn_loses_nothing(factory: HeapFactory) -> None:
    """Whichever brk or mmap is refused: 0 and ENOMEM, or another way; and the heap is as it was."""
    for which in range(1, _one_run(factory, None) + 1):
        _one_run(factory, which)


@clause
def a_lack_of_frames_harms_no_other_process(factory: HeapFactory) -> None:
    """A child that gets no more frames has 0 and ENOMEM, or is ended; its parent's heap is as it was."""
    most, needed = 0, None
    while needed is None or most < needed:
        heap = factory.heap(ram="4 MiB", **_TIGHT)
        parent = _Script(heap, factory.traits, Refusals(None))
        blocks = [parent.malloc(size) for size in (100, 3000, 100)]
        child = heap.attach(heap.process.fork())
        heap.process.oom_score_adj = -1000  # a child would inherit it
        machine = child.process.context.machine
        before = machine.free_frames
        if needed is not None:
            for _ in range(machine.free_frames - most):
                machine.alloc(FrameKind.ANON, zero=False)
            most += 1
        try:
            for size in (50, 2000, 9000, 70 * KIB):
                if p := child.malloc(size):
                    fill(child, p, 0xCC, size)
                else:
                    assert child.process.errno == errno.ENOMEM, "malloc returned 0, and errno is not ENOMEM"
            if Trait.ANY_ORDER in factory.traits:
                child.free(blocks[-1])
        except OutOfMemory:
            assert needed is not None, "the child was ended, though there were frames"
        if needed is None:
            needed = before - machine.free_frames
        parent.verify("its child's end")


CLAUSES: tuple[Clause, ...] = (every_refusal_in_turn_loses_nothing, a_lack_of_frames_harms_no_other_process)
