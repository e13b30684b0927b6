"""What can be done to a heap, step by step; and steps drawn at random.

checked_heap.py carries steps out and knows what must come of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from heaplab.allocators import Allocator, Spec, Trait, parse
from heaplab.traces import Event, Op

SIZES = (0, 1, 8, 23, 24, 25, 40, 41, 100, 250, 600, 1000, 1500, 3000, 5000, 20_000, 60_000, 140_000)
"""Bytes of requests that succeed: around the smallest blocks, around pages, above the mmap threshold."""

HUGE = (1 << 40, (1 << 47) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 24, (1 << 64) - 1)
"""Bytes of requests that no machine has memory for."""

MOST_ALIGNMENT = 14
"""Bits of the largest alignment tried."""

MOST_THREADS = 4
"""Threads that take steps on a heap that keeps something for each."""


@dataclass(frozen=True)
class Step:
    """Something done to a heap; prints as a line of a trace.

    thread: who does it, numbered within the process.
    """

    process: int = field(default=0, kw_only=True)
    thread: int = field(default=0, kw_only=True)

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
        return Event(Op.MALLOC, self.slot, self.size, thread=self.thread, process=self.process)


@dataclass(frozen=True)
class Calloc(Step):
    """calloc(n, size)."""

    slot: int
    n: int
    size: int

    def event(self) -> Event:
        return Event(Op.CALLOC, self.slot, self.n * self.size, thread=self.thread, process=self.process)


@dataclass(frozen=True)
class Aligned(Step):
    """aligned_alloc(alignment, size)."""

    slot: int
    alignment: int
    size: int

    def event(self) -> Event:
        return Event(
            Op.ALIGNED, self.slot, self.size, align=self.alignment, thread=self.thread, process=self.process
        )


@dataclass(frozen=True)
class Realloc(Step):
    """realloc(the block, size)."""

    slot: int
    size: int

    def event(self) -> Event:
        return Event(Op.REALLOC, self.slot, self.size, thread=self.thread, process=self.process)


@dataclass(frozen=True)
class Free(Step):
    """free(the block)."""

    slot: int

    def event(self) -> Event:
        return Event(Op.FREE, self.slot, thread=self.thread, process=self.process)


@dataclass(frozen=True)
class Fork(Step):
    """fork(), the child to be known as number `child`; its heap is attached.

    The child has one thread, with the number of the one that forked.
    """

    child: int

    def event(self) -> Event:
        return Event(Op.FORK, self.child, thread=self.thread, process=self.process)


@dataclass(frozen=True)
class ThreadExit(Step):
    """The thread ends; its blocks stay.  A later step of this number is another thread's."""

    def event(self) -> Event:
        return Event(Op.THREAD_EXIT, thread=self.thread, process=self.process)


@dataclass(frozen=True)
class Exec(Step):
    """execve: the process begins anew with an empty heap and one thread, number 0."""

    def event(self) -> Event:
        return Event(Op.EXEC, thread=self.thread, process=self.process)


@dataclass(frozen=True)
class Exit(Step):
    """The process ends, and its blocks with it."""

    def event(self) -> Event:
        return Event(Op.EXIT, thread=self.thread, process=self.process)


KINDS: Final[Mapping[str, type[Step]]] = {
    "malloc": Malloc,
    "free": Free,
    "realloc": Realloc,
    "calloc": Calloc,
    "aligned": Aligned,
    "fork": Fork,
    "thread_exit": ThreadExit,
    "exec": Exec,
    "exit": Exit,
}
"""The kinds of steps by the word that begins their line, the simplest first."""


def requested(step: Step) -> int:
    """Return the bytes that a step asks for, 0 where it asks for none.

    >>> requested(Calloc(0, 3, 100)), requested(Free(0))
    (300, 0)
    """
    match step:
        case Calloc(_, n, size):
            return n * size
        case Malloc(_, size) | Realloc(_, size) | Aligned(_, _, size):
            return size
    return 0


def step_of(event: Event) -> Step:
    """Return an event of a trace as a step.

    >>> step_of(Event(Op.ALIGNED, 4, 100, align=64, process=2))
    Aligned(process=2, thread=0, slot=4, alignment=64, size=100)
    """
    who = {"process": event.process, "thread": event.thread}
    match event.op:
        case Op.MALLOC:
            return Malloc(event.id, event.size, **who)
        case Op.CALLOC:
            return Calloc(event.id, 1, event.size, **who)
        case Op.ALIGNED:
            return Aligned(event.id, event.align, event.size, **who)
        case Op.REALLOC:
            return Realloc(event.id, event.size, **who)
        case Op.FREE:
            return Free(event.id, **who)
        case Op.FORK:
            return Fork(event.id, **who)
        case Op.EXEC:
            return Exec(**who)
        case Op.EXIT:
            return Exit(**who)
        case Op.THREAD_EXIT:
            return ThreadExit(**who)


def spec_of(design: str | Spec | type[Allocator], language: str = "python") -> Spec:
    """Return the spec that is meant: a text, a file's path, a class, or a spec itself."""
    if isinstance(design, Spec):
        return design
    return parse(design, language) if isinstance(design, str) else Spec.of(design)


class Stage(Protocol):
    """What a step is drawn for: heaps by the number of their process, and what lives in them."""

    @property
    def traits(self) -> Trait:
        """What the design promises."""

    @property
    def live(self) -> Mapping[int, Mapping[int, object]]:
        """The blocks of each process by slot, the newest last."""


def can_be_freed(stage: Stage, process: int) -> list[int]:
    """Return the slots that may be freed now: all, or the newest for a design without ANY_ORDER."""
    live = list(stage.live[process])
    return live if Trait.ANY_ORDER in stage.traits else live[-1:]


def can_move(stage: Stage) -> bool:
    """Return whether a step may be a realloc: a block that moves is freed behind a newer one."""
    return Trait.ANY_ORDER in stage.traits


def most_threads(stage: Stage) -> int:
    """Return how many threads take steps: several for a design that keeps something for each."""
    return MOST_THREADS if Trait.THREADS in stage.traits else 1


def random_step(stage: Stage, chance: Random, *, crowd: int = 40, processes: int = 3) -> Step:
    """Return a step that is possible now; around `crowd` blocks live, in at most so many processes."""
    number = chance.choice(list(stage.live))
    live = stage.live[number]
    slot = next(slot for slot in range(len(live) + 1) if slot not in live)
    size = chance.choice(SIZES)
    if chance.random() < 0.02:
        size = chance.choice(HUGE)
    threads = most_threads(stage)
    thread = chance.randrange(threads) if threads > 1 else 0
    if threads > 1 and chance.random() < 0.03:
        return ThreadExit(process=number, thread=thread)
    if chance.random() < 0.005 and len(stage.live) < processes:
        return Fork(max(stage.live) + 1, process=number, thread=thread)
    if not live or chance.random() * 2 * crowd > len(live) + crowd / 2:
        kind = chance.random()
        if kind < 0.1:
            return Calloc(slot, chance.randrange(1, 4), size, process=number, thread=thread)
        if kind < 0.25:
            alignment = 1 << chance.randrange(MOST_ALIGNMENT + 1)
            return Aligned(slot, alignment, size, process=number, thread=thread)
        return Malloc(slot, size, process=number, thread=thread)
    old = chance.choice(can_be_freed(stage, number))
    if can_move(stage) and chance.random() < 0.3:
        return Realloc(old, max(1, size), process=number, thread=thread)
    return Free(old, process=number, thread=thread)
