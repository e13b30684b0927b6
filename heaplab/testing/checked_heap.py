"""A heap that is checked at every step: it knows what every block must contain, and what must come of a step.

A `CheckedHeap` holds one heap, or the same heap in several processes after a fork.  twins.py does each
step on the Python and on the C version of a design.
"""

import errno
from collections.abc import Callable
from typing import Any, NamedTuple

from heaplab.allocators import Allocator, Spec, Trait
from heaplab.kernel import Kernel
from heaplab.process import Process
from heaplab.testing.limits import MOST_MEMS, MOST_SECONDS, limited
from heaplab.testing.steps import (
    HUGE,
    Aligned,
    Calloc,
    Exec,
    Exit,
    Fork,
    Free,
    Malloc,
    Realloc,
    Step,
    ThreadExit,
    spec_of,
)
from heaplab.traces import NULL_ID


class Payload(NamedTuple):
    """A block that lives: where, how many bytes were asked for, and what they are."""

    address: int
    size: int
    stamp: int

    def bytes(self, n: int | None = None) -> bytes:
        """The first n bytes it must contain; all without n."""
        n = self.size if n is None else n
        word = (self.stamp * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "little")
        return (word * (n // 8 + 1))[:n]


class CheckedHeap:
    """A heap on a machine of its own, and what is known of it.

    design: a spec, its text, or a class.  seed: of the kernel's placement.  mems, seconds: the most that a
    step may take (limits.py).  `do` carries a step out and raises AssertionError, with a sentence, when the
    heap breaks its contract; HeapCorruption comes from the heap itself.

    >>> heap = CheckedHeap("freelist")
    >>> for step in Malloc(0, 100), Fork(1), Free(0, thread=2), Realloc(0, 500, process=1):
    ...     heap.do(step)
    >>> print(*heap.steps, sep="; ")
    malloc 0 100; fork 1; free 0 (process 0, thread 2); realloc 0 500 (process 1, thread 0)
    """

    def __init__(
        self,
        design: str | Spec | type[Allocator],
        language: str = "python",
        *,
        ram: str = "16 MiB",
        page_size: int = 4096,
        seed: int = 1,
        mems: int = MOST_MEMS,
        seconds: float = MOST_SECONDS,
    ) -> None:
        self.spec = spec_of(design, language)
        self.kernel = Kernel(ram=ram, page_size=page_size, seed=seed)
        self.heaps: dict[int, Allocator] = {0: self.spec.create(self.kernel.init.fork())}
        self.live: dict[int, dict[int, Payload]] = {0: {}}
        self.steps: list[Step] = []
        #: called with the number of steps that have begun, before each step and each verification
        self.note: Callable[[int], None] = lambda at: None
        self._limits: dict[str, Any] = {"mems": mems, "seconds": seconds}

    @property
    def traits(self) -> Trait:
        """What the design promises."""
        return self.spec.design.TRAITS

    def process(self, number: int) -> Process:
        """The process of this number."""
        return self.heaps[number].process

    def do(self, step: Step) -> None:
        """Carry out a step and verify what it has touched."""
        self.carry_out(step)
        if step.process in self.heaps:
            self.verify(step.process)

    def carry_out(self, step: Step) -> None:
        """Carry out a step, and verify what it returns."""
        self.steps.append(step)
        self.note(len(self.steps))
        process = self.process(step.process)
        process.context.thread = step.thread
        process.errno = 0  # a refusal has to set it
        with limited(process, step, **self._limits):
            self._carry_out(step, self.heaps[step.process], self.live[step.process])

    def _carry_out(self, step: Step, heap: Allocator, live: dict[int, Payload]) -> None:
        match step:
            case Malloc(slot, size):
                self._born(step, slot, heap.malloc(size), size)
            case Calloc(slot, n, size):
                address = heap.calloc(n, size)
                if address and n * size:
                    assert not any(heap.process.read(address, n * size)), f"{step}: not all zero"
                self._born(step, slot, address, n * size)
            case Aligned(slot, alignment, size):
                address = heap.aligned_alloc(alignment, size)
                assert address % alignment == 0, (
                    f"{step}: {address:#x} is no multiple of the alignment, {alignment}"
                )
                self._born(step, slot, address, size)
            case Realloc(slot, size):
                old = live[slot]
                address = heap.realloc(old.address, size)
                if address:
                    kept = min(old.size, size)
                    assert heap.process.read(address, kept) == old.bytes(kept), f"{step}: content was lost"
                    del live[slot]
                self._born(step, slot, address, size)
            case Free(slot):
                heap.free(0 if slot == NULL_ID else live.pop(slot).address)
            case ThreadExit():
                heap.thread_exit(step.thread)
            case Exit():
                heap.process.exit(0)
                del self.heaps[step.process], self.live[step.process]
            case Exec():
                self.heaps[step.process] = self.spec.create(self.kernel.init.fork())
                self.live[step.process] = {}
            case Fork(child):
                self.heaps[child] = heap.attach(heap.process.fork())
                self.heaps[child].process.context.thread = step.thread
                self.live[child] = dict(live)

    def _born(self, step: Step, slot: int, address: int, size: int) -> None:
        process = self.process(step.process)
        if not address:
            assert size >= HUGE[0], f"{step}: refused, though the machine has memory"
            assert process.errno == errno.ENOMEM, f"{step}: errno is {process.errno}, not ENOMEM"
            return
        assert size < HUGE[0], f"{step}: granted, though no machine has so much memory"
        end = address + max(size, 1)
        for other, there in self.live[step.process].items():
            assert end <= there.address or there.address + max(there.size, 1) <= address, (
                f"{step}: block {slot} ({size} bytes at {address:#x}) overlaps "
                f"block {other} ({there.size} bytes at {there.address:#x})"
            )
        usable = self.heaps[step.process].usable_size(address)
        assert usable >= size, f"{step}: usable_size says {usable} bytes, and {size} were asked for"
        payload = self.live[step.process][slot] = Payload(address, size, len(self.steps))
        process.write(address, payload.bytes())

    def verify(self, number: int) -> None:
        """Check a process's heap, that it consists of the blocks that live, and what they contain."""
        heap, live = self.heaps[number], self.live[number]
        self.note(len(self.steps))
        with limited(heap.process, f"after {self.steps[-1] if self.steps else 'the start'}", **self._limits):
            heap.check()
            allocated, end = {}, 0
            for start, size, payload, usable, state in heap.walk():
                assert start >= end, f"the walk's span at {start:#x} overlaps the one before"
                end = start + size
                assert start <= payload <= payload + usable <= end, (
                    f"the block at {payload:#x} has {usable} bytes, and its span ends after {end - payload}"
                )
                if state.is_live:
                    allocated[payload] = usable
            for slot, block in live.items():
                self._verify_payload(heap, slot, block, allocated.pop(block.address, None))
        assert not allocated, (
            f"the walk has an allocated block at {next(iter(allocated)):#x} that nobody owns"
        )

    @staticmethod
    def _verify_payload(heap: Allocator, slot: int, payload: Payload, usable: int | None) -> None:
        address, size, _ = payload
        assert address % 16 == 0, f"block {slot} at {address:#x} is at no multiple of 16"
        assert usable is not None, f"block {slot} at {address:#x} is not among the walk's"
        assert usable >= size, f"block {slot} has {usable} bytes of {size}"
        said = heap.usable_size(address)
        assert said == usable, (
            f"block {slot} at {address:#x}: usable_size says {said} bytes, the walk {usable}"
        )
        found = heap.process.read(address, size)
        assert found == payload.bytes(), f"block {slot} at {address:#x} has other content"
