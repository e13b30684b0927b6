"""What can be done to a heap, step by step, and the trial that does it and knows what must come out.

A trial holds one heap, or the same heap in several processes after a fork, and a dictionary of what every
block must contain.  `Twins` does each step on the Python and on the C version of a design.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from heaplab.allocators import Allocator, Spec, parse
from heaplab.kernel import Kernel
from heaplab.process import Process
from heaplab.traces import Event, Op

SIZES = (0, 1, 8, 23, 24, 25, 40, 41, 100, 250, 600, 1000, 1500, 3000, 5000, 20_000, 60_000, 140_000)
"""Bytes of requests that succeed: around the smallest blocks, around pages, above the mmap threshold."""

HUGE = (1 << 40, (1 << 47) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 24, (1 << 64) - 1)
"""Bytes of requests that no machine has memory for."""

MOST_ALIGNMENT = 14
"""Bits of the largest alignment tried."""


@dataclass(frozen=True)
class Step:
    """Something done to a heap; prints as a line of a trace."""

    process: int = field(default=0, kw_only=True)

    def event(self) -> Event:
        """Return the same as an event of a trace."""
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self.event())


@dataclass(frozen=True)
class Malloc(Step):
    """malloc(size), the block to be known as `slot`."""

    slot: int
    size: int

    def event(self) -> Event:
        return Event(Op.MALLOC, self.slot, self.size, process=self.process)


@dataclass(frozen=True)
class Calloc(Step):
    """calloc(n, size)."""

    slot: int
    n: int
    size: int

    def event(self) -> Event:
        return Event(Op.CALLOC, self.slot, self.n * self.size, process=self.process)


@dataclass(frozen=True)
class Aligned(Step):
    """aligned_alloc(alignment, size)."""

    slot: int
    alignment: int
    size: int

    def event(self) -> Event:
        return Event(Op.ALIGNED, self.slot, self.size, align=self.alignment, process=self.process)


@dataclass(frozen=True)
class Realloc(Step):
    """realloc(the block, size)."""

    slot: int
    size: int

    def event(self) -> Event:
        return Event(Op.REALLOC, self.slot, self.size, process=self.process)


@dataclass(frozen=True)
class Free(Step):
    """free(the block)."""

    slot: int

    def event(self) -> Event:
        return Event(Op.FREE, self.slot, process=self.process)


@dataclass(frozen=True)
class Fork(Step):
    """fork(), the child to be known as number `child`; its heap is attached."""

    child: int

    def event(self) -> Event:
        return Event(Op.FORK, self.child, process=self.process)


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


def spec_of(design: str | Spec | type[Allocator], language: str = "python") -> Spec:
    """Return the spec that is meant: a text, a file's path, a class, or a spec itself."""
    if isinstance(design, Spec):
        return design
    return parse(design, language) if isinstance(design, str) else Spec.of(design)


class Trial:
    """A heap on a machine of its own, and what is known of it.

    design: a spec, its text, or a class.  `do` carries a step out and raises AssertionError, with a sentence,
    when the heap breaks its contract; HeapCorruption comes from the heap itself.

    >>> trial = Trial("freelist")
    >>> for step in Malloc(0, 100), Fork(1), Free(0), Realloc(0, 500, process=1):
    ...     trial.do(step)
    >>> print(*trial.steps, sep="; ")
    malloc 0 100; fork 1; free 0; realloc 0 500 (process 1, thread 0)
    """

    def __init__(
        self,
        design: str | Spec | type[Allocator],
        language: str = "python",
        *,
        ram: str = "16 MiB",
        page_size: int = 4096,
    ) -> None:
        self.kernel = Kernel(ram=ram, page_size=page_size, seed=1)
        self.heaps: dict[int, Allocator] = {
            0: spec_of(design, language).create(self.kernel.init.fork()),
        }
        self.live: dict[int, dict[int, Payload]] = {0: {}}
        self.steps: list[Step] = []

    def process(self, number: int) -> Process:
        """The process of this number."""
        return self.heaps[number].process

    def do(self, step: Step) -> None:
        """Carry out a step and verify what it has touched."""
        self.steps.append(step)
        heap, live = self.heaps[step.process], self.live[step.process]
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
                assert address % alignment == 0, f"{step}: {address:#x} is no multiple of the alignment"
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
                heap.free(live.pop(slot).address)
            case Fork(child):
                self.heaps[child] = heap.attach(heap.process.fork())
                self.live[child] = dict(live)
                self.verify(child)
        self.verify(step.process)

    def _born(self, step: Step, slot: int, address: int, size: int) -> None:
        process = self.process(step.process)
        if not address:
            assert size >= HUGE[0], f"{step}: refused, though the machine has memory"
            assert process.errno == 12, f"{step}: errno is {process.errno}, not ENOMEM"
            return
        assert size < HUGE[0], f"{step}: granted, though no machine has so much memory"
        end = address + max(size, 1)
        for other, there in self.live[step.process].items():
            assert end <= there.address or there.address + max(there.size, 1) <= address, (
                f"{step}: block {slot} ({size} bytes at {address:#x}) overlaps "
                f"block {other} ({there.size} bytes at {there.address:#x})"
            )
        payload = self.live[step.process][slot] = Payload(address, size, len(self.steps))
        process.write(address, payload.bytes())

    def verify(self, number: int) -> None:
        """Check a process's heap, that it consists of the blocks that live, and what they contain."""
        heap, live = self.heaps[number], self.live[number]
        heap.check()
        allocated, end = {}, 0
        for span in heap.walk():
            assert span.start >= end, f"the walk's span at {span.start:#x} overlaps the one before"
            end = span.end
            if span.state.is_live:
                allocated[span.payload] = span.usable
        for slot, payload in live.items():
            assert payload.address % 16 == 0, f"block {slot} is at {payload.address:#x}, no multiple of 16"
            usable = allocated.pop(payload.address, None)
            assert usable is not None, f"block {slot} at {payload.address:#x} is not among the walk's"
            assert usable >= payload.size, f"block {slot} has {usable} bytes of {payload.size}"
            found = heap.process.read(payload.address, payload.size)
            assert found == payload.bytes(), f"block {slot} at {payload.address:#x} has other content"
        assert not allocated, (
            f"the walk has an allocated block at {next(iter(allocated)):#x} that nobody owns"
        )


def resident(process: Process) -> Iterator[tuple[int, bytes]]:
    """Yield the address and the bytes of each page of a process that has a frame."""
    machine, size = process.context.machine, process.page_size
    space = process.context.space
    assert space is not None, "the process has no address space any more"
    for line in process.maps().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        for page, entry in enumerate(space.ptes(start, (end - start) // size).tolist()):
            if entry:
                frame = (entry >> 12) & ((1 << 40) - 1)
                yield start + page * size, machine.ram[frame].tobytes()


class Twins:
    """The same steps on a design in Python and in C: equal in every address, count and byte.

    >>> twins = Twins("rbtree")
    >>> twins.do(Malloc(0, 100))
    >>> twins.verify_bytes()
    """

    def __init__(self, design: str, *, ram: str = "16 MiB", page_size: int = 4096) -> None:
        self.python, self.c = (
            Trial(design, language, ram=ram, page_size=page_size) for language in ("python", "c")
        )

    @property
    def heaps(self) -> dict[int, Allocator]:
        """The heaps of the one in Python."""
        return self.python.heaps

    @property
    def live(self) -> dict[int, dict[int, Payload]]:
        """The blocks of the one in Python."""
        return self.python.live

    def do(self, step: Step) -> None:
        """Carry out the step on both, and compare all that can be counted."""
        for trial in (self.python, self.c):
            trial.do(step)
        for number in self.heaps:
            python, c = self._seen(self.python, number), self._seen(self.c, number)
            for what in python:
                assert python[what] == c[what], (
                    f"{step}: {what} differ: {python[what]} in Python, {c[what]} in C"
                )

    @staticmethod
    def _seen(trial: Trial, number: int) -> dict[str, object]:
        process = trial.process(number)
        context = process.context
        return {
            "blocks": trial.live[number],
            "loads": context.loads,
            "stores": context.stores,
            "bytes copied and filled": context.bulk,
            "system calls": Counter(process.syscalls),
            "breaks": process.sbrk(0),
            "errors": process.errno,
        }

    def verify_bytes(self) -> None:
        """Compare the mappings of all processes, and every page that has a frame."""
        for number in self.heaps:
            python, c = self.python.process(number), self.c.process(number)
            assert python.maps() == c.maps(), f"process {number}: the mappings differ"
            pages = [dict(resident(process)) for process in (python, c)]
            assert pages[0].keys() == pages[1].keys(), f"process {number}: other pages were touched"
            for address, content in pages[0].items():
                assert content == pages[1][address], f"process {number}: the page at {address:#x} differs"


def random_step(trial: Trial | Twins, chance: Random, *, crowd: int = 40, processes: int = 3) -> Step:
    """Return a step that is possible now; around `crowd` blocks live, in at most so many processes."""
    number = chance.choice(list(trial.heaps))
    live = trial.live[number]
    slot = next(slot for slot in range(len(live) + 1) if slot not in live)
    size = chance.choice(SIZES)
    if chance.random() < 0.02:
        size = chance.choice(HUGE)
    if chance.random() < 0.005 and len(trial.heaps) < processes:
        return Fork(max(trial.heaps) + 1, process=number)
    if not live or chance.random() * 2 * crowd > len(live) + crowd / 2:
        kind = chance.random()
        if kind < 0.1:
            return Calloc(slot, chance.randrange(1, 4), size, process=number)
        if kind < 0.25:
            return Aligned(slot, 1 << chance.randrange(MOST_ALIGNMENT), size, process=number)
        return Malloc(slot, size, process=number)
    old = chance.choice(list(live))
    if chance.random() < 0.3:
        return Realloc(old, max(1, size), process=number)
    return Free(old, process=number)
