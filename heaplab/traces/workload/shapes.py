"""What a workload is composed of beside distributions: phases, kinds of blocks, reallocs, threads, forks.

Each has a text, for a spec in one line, and is read by `read` of its class.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from heaplab.errors import UsageError
from heaplab.traces.workload.distributions import Distribution, _number
from heaplab.traces.workload.joint import BySize, Joint

SHAPES = ("plateau", "ramp", "peak", "sawtooth", "drain")
"""Of a phase; see `Phase`."""

ORDERS = ("drawn", "lifo", "fifo", "random")
"""Who dies when a lifetime is over: the block whose it is, the youngest, the oldest, or any."""


@dataclass(frozen=True)
class Phase:
    """A part of a workload.

    shape: what the number of live blocks does.
        plateau    blocks come and die as drawn, so that the number goes to arrival x mean lifetime and stays
        ramp       a block that comes in the ramp does not die in it: its lifetime begins at the ramp's end
        peak       a ramp for half of the events; then nobody comes, and the blocks of the ramp die, the
                   shortest lifetimes first, one a tick
        sawtooth   `teeth` times: half of the events are allocations; blocks die as drawn, and what is left of
                   the tooth's own blocks dies at once at its end
        drain      nobody comes; blocks die one a tick, in the order in which they would have died
    share: of the workload's events; all shares are scaled so that they add up to 1.
    sizes, lifetimes, arrival, joint: of the blocks that come in this phase, if not as in the whole workload.
    ticks: if given, a plateau is as long as that, whatever its share; its blocks and the ticks between them,
    `joint` and an empirical arrival, are dealt like cards: each row comes as often as its weight says.

    >>> from heaplab.traces.workload.distributions import Constant
    >>> str(Phase("sawtooth", 0.5, teeth=4)), str(Phase("ramp", 1, sizes=Constant(64)))
    ('sawtooth,0.5,4', 'ramp,1(sizes=constant,64)')
    """

    shape: str = "plateau"
    share: float = 1.0
    teeth: int = 1
    sizes: Distribution | None = None
    lifetimes: Distribution | BySize | None = None
    arrival: Distribution | str | None = None
    joint: Joint | None = None
    ticks: int = 0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UsageError(f"phases={self.shape}: there is no such shape: write one of {', '.join(SHAPES)}")
        if not 0 < self.share < math.inf:
            raise UsageError(f"phases={self}: the share must be above 0: write {self.shape},0.5")
        if self.ticks < 0 or (self.ticks and self.shape != "plateau"):
            raise UsageError(
                f"phases={self}: ticks are of a plateau, and above 0: leave them out, or its shape"
            )
        if self.teeth < 1:
            raise UsageError(f"phases={self}: needs at least one tooth: write sawtooth,0.5,8")

    def __str__(self) -> str:
        numbers = f",{self.teeth}" if self.teeth != 1 else ""
        own = _inner(self, "sizes", "lifetimes", "arrival", "joint", "ticks")
        return f"{self.shape},{_number(self.share)}{numbers}{own}"


@dataclass(frozen=True)
class Kind:
    """One kind of block of a mixture: each block is of one, by weight.

    >>> from heaplab.traces.workload.distributions import Constant, Exponential
    >>> str(Kind(0.1, Constant(4096), Exponential(9000)))
    '0.1(sizes=constant,4096;lifetimes=exponential,9000)'
    """

    weight: float
    sizes: Distribution | None = None
    lifetimes: Distribution | BySize | None = None
    realloc: "Realloc | None" = None
    joint: Joint | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise UsageError(f"kinds={_number(self.weight)}: a weight must be above 0: write 0.1(sizes=...)")

    def __str__(self) -> str:
        return f"{_number(self.weight)}{_inner(self, 'sizes', 'lifetimes', 'realloc', 'joint')}"


def _inner(part: object, *keys: str) -> str:
    """What of a part is not as in the whole workload, in parentheses."""
    given = [f"{key}={getattr(part, key)}" for key in keys if getattr(part, key)]
    return f"({';'.join(given)})" if given else ""


@dataclass(frozen=True)
class Realloc:
    """How some blocks are reallocated during their lives.

    pattern: what a realloc makes of the size: `multiply` by the amount, `add` the amount in bytes, or `draw`
    a new size.  share: of the blocks.  times: of each of them, at random moments of its life.
    amount: a factor above 1 grows like a vector, one below 1 gives back.

    >>> str(Realloc("multiply", 0.05, 4, 2.0))
    'multiply,0.05,4,2'
    """

    PATTERNS: ClassVar[tuple[str, ...]] = ("multiply", "add", "draw")
    pattern: str
    share: float
    times: int = 1
    amount: float = 2.0

    def __post_init__(self) -> None:
        if self.pattern not in self.PATTERNS:
            raise UsageError(
                f"realloc={self.pattern}: there is no such pattern: write one of {', '.join(self.PATTERNS)}"
            )
        if not (0 <= self.share <= 1 and 1 <= self.times <= 1000 and 0 < self.amount < 1 << 40):
            raise UsageError(
                f"realloc={self}: needs a share from 0 to 1, 1 to 1000 times, and an amount above 0: write "
                "multiply,0.05,4,2"
            )

    def __str__(self) -> str:
        amount = "" if self.pattern == "draw" else f",{_number(self.amount)}"
        return f"{self.pattern},{_number(self.share)},{self.times}{amount}"

    @classmethod
    def read(cls, text: str) -> "Realloc":
        """Return what `str` gave."""
        pattern, *numbers = text.split(",")
        share, times, amount = _numbers("realloc", text, "multiply,0.05,4,2", numbers, (0.05, 1, 2.0))
        return cls(pattern, share, int(times), amount)


@dataclass(frozen=True)
class Threads:
    """Which thread allocates and frees a block.

    pattern:
        private    `number` threads; a block is freed by its own, with probability `other` by another one
        producer   `number` threads allocate, and `other` more free
        larson     `number` threads run for `other` allocations each, and end; the next thread takes over the
                   blocks of one, and frees them (Larson and Krishnan's server)

    >>> str(Threads("larson", 4, 1000)), Threads().total, Threads("producer", 2, 3).total
    ('larson,4,1000', 1, 5)
    """

    PATTERNS: ClassVar[tuple[str, ...]] = ("private", "producer", "larson")
    pattern: str = "private"
    number: int = 1
    other: float = 0.0

    def __post_init__(self) -> None:
        if self.pattern not in self.PATTERNS:
            raise UsageError(
                f"threads={self.pattern}: there is no such pattern: write one of {', '.join(self.PATTERNS)}"
            )
        if not 1 <= self.number <= 1024:
            raise UsageError(f"threads={self}: needs 1 to 1024 threads: write {self.pattern},4")
        holds, mend = {
            "private": (0 <= self.other <= 1, "the part freed by others is from 0 to 1: write private,4,0.3"),
            "producer": (1 <= self.other <= 1024, "needs at least one consumer: write producer,2,2"),
            "larson": (1 <= self.other < math.inf, "needs allocations a thread: write larson,4,1000"),
        }[self.pattern]
        if not holds:
            raise UsageError(f"threads={self}: {mend}")

    def __str__(self) -> str:
        return f"{self.pattern},{self.number},{_number(self.other)}"

    @property
    def total(self) -> int:
        """How many there are at a time."""
        return self.number + int(self.other) * (self.pattern == "producer")

    @classmethod
    def read(cls, text: str) -> "Threads":
        """Return what `str` gave."""
        pattern, *numbers = text.split(",")
        rest = {"producer": 1.0, "larson": 1000.0}.get(pattern, 0.0)
        number, other = _numbers("threads", text, "private,4,0.3", numbers, (1, rest))
        return cls(pattern, int(number), other)


@dataclass(frozen=True)
class Snapshots:
    """A server that forks to write a snapshot: the child lives for a while, the parent goes on.

    every: events of the parent between two forks.  life: events of the parent until the child ends.
    requests: blocks that the child allocates, one after the other, and frees at once.

    >>> str(Snapshots(20_000, 5_000))
    '20000,5000,0'
    """

    every: int
    life: int
    requests: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.every and 1 <= self.life and 0 <= self.requests <= 1 << 20):
            raise UsageError(
                f"fork={self}: needs events between forks and events that a child lives, at least 1, and the "
                "child's requests: write 20000,5000,100"
            )

    def __str__(self) -> str:
        return f"{self.every},{self.life},{self.requests}"

    @classmethod
    def read(cls, text: str) -> "Snapshots":
        """Return what `str` gave."""
        every, life, requests = _numbers("fork", text, "20000,5000,100", text.split(","), (0, 0, 0))
        return cls(int(every), int(life), int(requests))


def _numbers(
    key: str, text: str, example: str, given: list[str], usual: tuple[float, ...]
) -> tuple[float, ...]:
    """As many numbers as `usual` has, which stands for those not given."""
    try:
        numbers = [float(each) for each in given]
    except ValueError:
        numbers = [math.nan]
    if len(numbers) > len(usual) or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{key}={text}: takes up to {len(usual)} numbers here: write {example}")
    return (*numbers, *usual[len(numbers) :])


def split(text: str, separator: str) -> Iterator[str]:
    """The parts of a text between separators outside parentheses.

    >>> list(split("a(b/c)/d", "/"))
    ['a(b/c)', 'd']
    """
    depth, part = 0, ""
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == separator and not depth:
            yield part
            part = ""
        else:
            part += letter
    yield part
