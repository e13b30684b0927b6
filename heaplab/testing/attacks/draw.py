"""Attacks at random: every kind of mistake, drawn from a seed."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from heaplab.testing.attacks.attack import Attack, Forge, FreeWrong, Place, Spill, Step, Value, Write
from heaplab.testing.steps import Free, Malloc, Realloc

SMALL: Final = (8, 24, 40, 56, 88, 100, 120, 250, 600, 1000, 3000)
LARGE: Final = (150_000, 200_000, 300_000, 1_000_000)


class Draw:
    """One attack as it is being drawn: the steps so far, and which slots have a block."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.steps: list[Step] = []
        self.sizes = chance.sample(SMALL, chance.randrange(1, 4))
        self.size_of: dict[int, int] = {}
        self.live: list[int] = []
        self.freed: list[int] = []

    # ---- what the program does rightly ----

    def history(self, large: int) -> None:
        """A few mallocs, `large` of them large, and frees of some; at least one block is freed."""
        chance = self.chance
        count = chance.randrange(4, 10)
        for _ in range(count):
            self.malloc(chance.choice(self.sizes))
        for _ in range(large):
            self.malloc(chance.choice(LARGE))
        for _ in range(chance.randrange(1, count // 2 + 1)):
            self.free(chance.choice([slot for slot in self.live if not self.is_large(slot)]))

    def aftermath(self) -> None:
        """What the program does after its mistake: 5 to 20 steps."""
        chance = self.chance
        for _ in range(chance.randrange(5, 21)):
            what = chance.random()
            if what < 0.55 or not self.live:
                self.malloc(self._next_size())
            elif what < 0.9:
                self.free(chance.choice(self.live))
            else:
                slot = chance.choice(self.live)
                self.size_of[slot] = self._next_size()
                self.steps.append(Realloc(slot, self.size_of[slot]))

    def _next_size(self) -> int:
        return self.chance.choice((*self.sizes, *self.sizes, 5000, 20_000, self.chance.randrange(1, 9000)))

    def malloc(self, size: int) -> None:
        slot = len(self.size_of)
        self.size_of[slot] = size
        self.live.append(slot)
        self.steps.append(Malloc(slot, size))

    def free(self, slot: int) -> None:
        self.live.remove(slot)
        self.freed.append(slot)
        self.steps.append(Free(slot))

    def is_large(self, slot: int) -> bool:
        return self.size_of[slot] >= LARGE[0]

    # ---- values that look like something ----

    def value(self, own: int) -> Value:
        """A word that a mistaken program may write: a link, a number, text, or anything.

        own: the slot of the block that is written to.
        """
        chance = self.chance
        near = chance.choice((-8, -8, 0, 0, 8, 16, 24, -16))
        return chance.choice(
            (
                lambda: Value(Place.BLOCK, near, own),
                lambda: Value(Place.BLOCK, near, chance.randrange(len(self.size_of))),
                lambda: Value(Place.BLOCK, near, chance.randrange(len(self.size_of))),
                lambda: Value(Place.BLOCK, near, chance.choice(self.freed)),
                lambda: Value(Place.BLOCK, chance.randrange(-64, 64), own),  # mostly misaligned
                lambda: Value(Place.ROOT, 8 * chance.randrange(52)),
                lambda: Value(Place.END, -8 * chance.randrange(4)),
                lambda: Value(Place.MAPPING, 8 * chance.randrange(1, 40)),
                lambda: Value(Place.STACK, 8 * chance.randrange(1, 40)),
                lambda: Value(Place.NOWHERE, chance.choice((0, 0, 0, 1, 2, 8, 16, 48, 4096))),
                lambda: Value(Place.NOWHERE, 0x4141414141414141),
                lambda: Value(Place.NOWHERE, 8 * chance.randrange(1 << 44)),  # unmapped
                lambda: Value(Place.NOWHERE, chance.randrange(1 << 64)),
                lambda: Value(Place.THERE, chance.choice((-64, -16, -8, 8, 16, 64))),
            )
        )()


def links(draw: Draw) -> None:
    """One to four words written into a block after its free: most of them look like links."""
    victim = draw.freed[-1]
    for _ in range(draw.chance.randrange(1, 5)):
        offset = draw.chance.choice((0, 0, 8, 8, 16, draw.size_of[victim] // 8 * 8))
        draw.steps.append(Write(Value(Place.BLOCK, offset, victim), draw.value(victim)))


def header(draw: Draw) -> None:
    """One or two words written over the headers of small blocks, allocated and free."""
    chance = draw.chance
    for _ in range(chance.randrange(1, 3)):
        victim = chance.choice([slot for slot in draw.size_of if not draw.is_large(slot)])
        word = draw.value(victim)
        if chance.random() < 0.4:
            word = Value(Place.THERE, chance.choice((1, -1, 2, 16, -16, 32, 64, 1 << 48, 1 << 60)))
        draw.steps.append(Write(Value(Place.BLOCK, chance.choice((-8, -8, -8, -16)), victim), word))


def metadata(draw: Draw) -> None:
    """One to three words written over what a heap keeps apart from its blocks, such as of large ones."""
    chance = draw.chance
    large = [slot for slot in draw.live if draw.is_large(slot)]
    for _ in range(chance.randrange(1, 4)):
        word = draw.value(chance.choice(large))
        if chance.random() < 0.4:
            word = Value(Place.THERE, 4096 * chance.choice((-100, -2, -1, 1, 2, 100)))
        elif chance.random() < 0.2:
            word = Value(chance.choice((Place.MAPPING, Place.END)), 4096 * chance.randrange(-2, 3))
        at = Value(Place.METADATA, chance.choice((0, 0, 0, 8, -8, 32)), chance.randrange(200))
        draw.steps.append(Write(at, word))


def overflow(draw: Draw) -> None:
    """1 to 64 bytes written past the end of an allocated block."""
    chance = draw.chance
    victim = chance.choice(draw.live)
    count = chance.choice((1, 8, 16, chance.randrange(1, 65)))
    byte = chance.choice((0x00, 0x41, 0xFF, chance.randrange(256)))
    data = chance.choice((bytes([byte]) * count, chance.randbytes(count)))
    draw.steps.append(Spill(Value(Place.BEHIND, 0, victim), data))


def double_free(draw: Draw) -> None:
    """A block freed again."""
    draw.steps.append(FreeWrong(Value(Place.BLOCK, 0, draw.chance.choice(draw.freed))))


def foreign_pointer(draw: Draw) -> None:
    """Something freed that never came from malloc, with a word before it that looks like something."""
    chance = draw.chance
    victim = chance.choice(draw.live)
    inside = Value(Place.BLOCK, 8 * chance.randrange(1, draw.size_of[victim] // 8 + 1), victim)
    if chance.random() < 0.5:
        for back in chance.sample((8, 16, 24, 32), 2):
            before = Value(Place.BLOCK, inside.offset - back, victim)
            if before.offset >= 0:
                draw.steps.append(Write(before, draw.value(victim)))
    draw.steps.append(FreeWrong(chance.choice((inside, inside, draw.value(victim)))))


def forged(draw: Draw) -> None:
    """A header with a valid seal, and a wrong size or state; words beside it that look like links."""
    chance = draw.chance
    for _ in range(chance.randrange(1, 3)):
        victim = chance.choice([slot for slot in draw.size_of if not draw.is_large(slot)])
        offset = chance.choice((-8, -8, 8 * chance.randrange(draw.size_of[victim] // 8)))
        tag = chance.choice(
            (
                Value(Place.THERE, chance.choice((1, -1, 2, -2, 4, 16, -16, 64, -64, 4096))),
                Value(Place.NOWHERE, 16 * chance.randrange(2, 200) + chance.randrange(8)),
                Value(Place.NOWHERE, chance.randrange(128)),
            )
        )
        draw.steps.append(Forge(Value(Place.BLOCK, offset, victim), tag, chance.choice((0, 8))))
        if chance.random() < 0.5:
            draw.steps.append(Write(Value(Place.BLOCK, 8 * chance.randrange(4), victim), draw.value(victim)))
    if chance.random() < 0.3:
        draw.steps.append(FreeWrong(Value(Place.BLOCK, offset + 8, victim)))


def none(draw: Draw) -> None:
    """No mistake: every sound design is to be found sound."""


#: every kind of mistake, by name
KINDS: Final[dict[str, Callable[[Draw], None]]] = {
    "none": none,
    "links": links,
    "header": header,
    "metadata": metadata,
    "overflow": overflow,
    "double": double_free,
    "foreign": foreign_pointer,
    "forged": forged,
}


def draw(kind: str, seed: int, number: int) -> Attack:
    """Return attack number `number` of a kind (a key of KINDS); the same arguments give the same attack."""
    chance = Random(f"{kind} {seed} {number}")
    drawing = Draw(chance)
    drawing.history(large=chance.randrange(1, 4) if kind == "metadata" else chance.choice((0, 0, 1, 2)))
    KINDS[kind](drawing)
    drawing.aftermath()
    return Attack(tuple(drawing.steps))


def drawn(kind: str, seed: int, start: int, stop: int) -> Iterator[Attack]:
    """Yield the attacks of a kind with the numbers from `start` to below `stop`."""
    return (draw(kind, seed, number) for number in range(start, stop))
