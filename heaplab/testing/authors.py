"""Steps as programs take them: few sizes, again and again, in phases that grow, stay, churn and drain.

Independent draws rarely ask for one size twice, and never hold two hundred blocks and then let all go.
Programs do little else; a fault in what a heap does with a hole of just the right size shows only then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from heaplab.allocators import Trait
from heaplab.errors import UsageError
from heaplab.testing.steps import (
    HUGE,
    KINDS,
    MOST_ALIGNMENT,
    SIZES,
    Aligned,
    Calloc,
    Fork,
    Free,
    Malloc,
    Realloc,
    Stage,
    Step,
    ThreadExit,
    can_be_freed,
    can_move,
    most_threads,
)

#: kinds that a design is tried with unless told otherwise: all that a program does to one heap
USUAL: Final = (Malloc, Free, Realloc, Calloc, Aligned, Fork, ThreadExit)
#: bytes of payload that live at once, at most, and that are asked for in all: a machine has so much
MOST_LIVE: Final = 8 << 20
MOST_ASKED: Final = 96 << 20


class Phase(NamedTuple):
    """How a program goes on for a while: how often a step takes a block, and which block one gives back."""

    name: str
    takes: float
    order: str


PHASES: Final = (
    Phase("grow", 0.95, "any"),
    Phase("plateau", 0.5, "any"),
    Phase("churn", 0.5, "newest"),
    Phase("queue", 0.5, "oldest"),
    Phase("thin out", 0.1, "every other"),
    Phase("drain", 0.02, "oldest"),
    Phase("unwind", 0.02, "newest"),
)


def some_size(chance: Random) -> int:
    """Return a size that a program may ask for: small, around a power of two or a page, or large.

    >>> chance = Random(1)
    >>> sizes = [some_size(chance) for _ in range(1000)]
    >>> min(sizes), max(sizes) < 1 << 20, sum(size < 300 for size in sizes) > 300
    (0, True, True)
    """
    kind = chance.random()
    if kind < 0.3:
        return chance.choice(SIZES)
    if kind < 0.6:
        return chance.randrange(260)
    if kind < 0.75:
        return chance.randrange(6000)
    if kind < 0.95:
        return max(
            0, (1 << chance.randrange(4, 15)) + chance.choice((-32, -17, -16, -9, -8, -1, 0, 1, 8, 16))
        )
    return chance.randrange(100_000, 300_000)


@dataclass
class Author:
    """Writes a script: the next step, given what lives.

    chance: where all choices come from.  kinds: of steps.  crowd: about how many blocks live at most in one
    process.  processes: how many there are at most.  refused: ask now and then for more than there is.
    """

    chance: Random
    kinds: tuple[type[Step], ...] = USUAL
    crowd: int = 40
    processes: int = 3
    refused: bool = True

    def __post_init__(self) -> None:
        self._sizes = [some_size(self.chance) for _ in range(self.chance.choice((1, 2, 3, 6)))]
        self._repeats = self.chance.choice((0.5, 0.9, 1.0))
        self._asked = 0
        self._begin()

    @classmethod
    def drawn(cls, chance: Random, kinds: Iterable[type[Step]] = USUAL) -> "Author":
        """Return an author of a drawn habit: of a small heap or of a large one."""
        return cls(chance, tuple(kinds), chance.choice((3, 8, 20, 40, 120)))

    def _begin(self) -> None:
        self._phase = self.chance.choice(PHASES)
        self._left = self.chance.choice((5, 10, 20, 60))
        self._place = 0

    def step(self, stage: Stage) -> Step:
        """Return a step that is possible now."""
        chance = self.chance
        if not self._left:
            self._begin()
        self._left -= 1
        number = chance.choice(sorted(stage.live))
        threads = most_threads(stage)
        who = {"process": number, "thread": chance.randrange(threads) if threads > 1 else 0}
        live = stage.live[number]
        if threads > 1 and ThreadExit in self.kinds and chance.random() < 0.02:
            return ThreadExit(**who)
        if Fork in self.kinds and len(stage.live) < self.processes and chance.random() < 0.004:
            return Fork(max(stage.live) + 1, **who)
        held = sum(getattr(payload, "size", 0) for payload in live.values())
        full = len(live) >= self.crowd or held > MOST_LIVE or self._asked > MOST_ASKED
        takes = chance.random() < self._phase.takes
        if full and takes and self._phase.name == "grow":
            self._left = 0
        gives = Free in self.kinds or (Realloc in self.kinds and can_move(stage))
        if gives and live and (full or not takes):
            return self._give_back(stage, number, who)
        return self._take(live, who)

    def _give_back(self, stage: Stage, number: int, who: Mapping[str, int]) -> Step:
        moves = Realloc in self.kinds and can_move(stage)
        if moves and (Free not in self.kinds or self.chance.random() < 0.2):
            slot = self.chance.choice(sorted(stage.live[number]))
            return Realloc(slot, max(1, self._size()), **who)
        slots = can_be_freed(stage, number)  # the newest last
        match self._phase.order:
            case "newest":
                return Free(slots[-1], **who)
            case "oldest":
                return Free(slots[0], **who)
            case "every other":
                self._place += 1
                return Free(slots[self._place % len(slots)], **who)
        return Free(self.chance.choice(slots), **who)

    def _take(self, live: Mapping[int, object], who: Mapping[str, int]) -> Step:
        slot = next(slot for slot in range(len(live) + 1) if slot not in live)
        kind = self.chance.random()
        size = self._size()
        if kind < 0.08 and Calloc in self.kinds:
            return Calloc(slot, self.chance.randrange(1, 4), size, **who)
        if kind < 0.16 and Aligned in self.kinds:
            return Aligned(slot, 1 << self.chance.randrange(MOST_ALIGNMENT + 1), size, **who)
        if Malloc not in self.kinds and Calloc in self.kinds:
            return Calloc(slot, 1, size, **who)
        if Malloc not in self.kinds and Aligned in self.kinds:
            return Aligned(slot, 1 << self.chance.randrange(MOST_ALIGNMENT + 1), size, **who)
        return Malloc(slot, size, **who)  # also where no kind takes: something must be there to be given

    def _size(self) -> int:
        if self.refused and self.chance.random() < 0.005:
            return self.chance.choice(HUGE)
        if self.chance.random() < self._repeats:
            size = self.chance.choice(self._sizes)
        else:
            size = some_size(self.chance)
        if self._asked > MOST_ASKED:
            size %= 64
        self._asked += size
        return size


def usual_kinds(traits: Trait) -> tuple[type[Step], ...]:
    """Return the kinds of steps that make sense for a design with these traits."""
    threaded = Trait.THREADS in traits
    return tuple(kind for kind in USUAL if threaded or kind is not ThreadExit)


#: the kinds that an author writes, by the words that lines of steps begin with
WRITTEN: Final = {word: kind for word, kind in KINDS.items() if kind in USUAL}


def kinds_of(text: str) -> tuple[type[Step], ...]:
    """Return the kinds that a list such as "malloc,free" names.

    Raises: UsageError for one that no author writes.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in WRITTEN]
    if unknown or not words:
        said = repr(unknown[0]) if unknown else "an empty list"
        raise UsageError(f"{said} is no kind of step to be drawn: there are {', '.join(WRITTEN)}")
    return tuple(WRITTEN[word] for word in dict.fromkeys(words))
