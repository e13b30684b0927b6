"""What a rule of the generator sees, and how it draws what it needs: mostly valid, and often at an edge."""

from collections.abc import Generator, Sequence
from random import Random
from typing import Final, TypeVar

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.observe import Vma
from heaplab.testing.conform.play import Known, World
from heaplab.testing.conform.steps import Birth, Step

T = TypeVar("T")

RW: Final = PROT_READ | PROT_WRITE
PRIVATE: Final = MAP_PRIVATE | MAP_ANONYMOUS
SHARED: Final = MAP_SHARED | MAP_ANONYMOUS

#: processes at once, pid 1 and the dead included, above which no rule makes more
MOST: Final = 9

#: where mappings at a chosen place go: small, so that they meet
ARENA: Final = range(0x1000_0000, 0x1000_0000 + 48 * PAGE, PAGE)
TASK_SIZE: Final = (1 << 47) - PAGE

_RIGHTS = {"r": PROT_READ, "w": PROT_WRITE, "x": PROT_EXEC}


class Scene:
    """One process, in the world as it is, and a source of chance."""

    def __init__(self, chance: Random, world: World, pid: int) -> None:
        self.chance = chance
        self.world = world
        self.pid = pid

    # chance

    def likely(self, probability: float) -> bool:
        """True with this probability."""
        return self.chance.random() < probability

    def one(self, choices: Sequence[T]) -> T:
        """One of them, all equally likely."""
        return self.chance.choice(choices)

    def weighted(self, choices: dict[T, int]) -> T:
        """One of them, by their weights."""
        return self.chance.choices(list(choices), list(choices.values()))[0]

    # what is there

    @property
    def vmas(self) -> tuple[Vma, ...]:
        """The process's VMAs; none once it is gone, for a rule may outlive the process it is about."""
        view = self.world.views.get(self.pid)
        return view.maps.vmas if view is not None else ()

    @property
    def known(self) -> Known:
        """What was learnt of it."""
        return self.world.of(self.pid)

    @property
    def brk(self) -> int:
        """Where its break is, or where it was before exec."""
        return self.known.heap.brk or self.world.start.brk

    @property
    def start_brk(self) -> int:
        """Where its break began, or somewhere else if that is not known."""
        return self.known.heap.start or self.world.start.brk

    def fd(self) -> int:
        """A descriptor: one of its own, seldom a pipe's, more seldom one that is none."""
        fds = self.files()
        if not fds or self.likely(0.15):
            fds = list(self.known.fds)
        return self.one(fds) if fds and not self.likely(0.04) else self.one((-1, 0, 3, 50))

    def files(self) -> list[int]:
        """Its descriptors but for those of pipes."""
        return [fd for fd, what in self.known.fds.items() if not what.pipe]

    def pipe_ends(self, *, writes: bool) -> list[int]:
        """Its descriptors to read from pipes, or to write to them."""
        return [fd for fd, what in self.known.fds.items() if what.pipe and what.writes == writes]

    def pipes(self) -> list[tuple[int, int]]:
        """The pipes of which it has both ends: (a descriptor to read from, one to write to)."""
        known = self.known.fds
        return [
            (source, sink)
            for source in self.pipe_ends(writes=False)
            for sink in self.pipe_ends(writes=True)
            if known[source].pipe == known[sink].pipe
        ]

    def vma(self) -> Vma | None:
        """One of its VMAs, seldom the stack."""
        vmas = [vma for vma in self.vmas if vma.name != "[stack]" or self.likely(0.1)]
        return self.one(vmas) if vmas else None

    # numbers

    def pages(self) -> int:
        """A number of pages: mostly few, at times more than the 16 of a fault-around window."""
        return self.chance.randint(1, 4) if self.likely(0.8) else self.chance.randint(5, 40)

    def length(self) -> int:
        """A length for mmap."""
        length = self.pages() * PAGE
        return length - self.chance.randrange(PAGE) if self.likely(0.1) else length

    def prot(self) -> int:
        """A protection, mostly read and write."""
        some = {
            RW: 60,
            PROT_READ: 15,
            PROT_NONE: 8,
            PROT_WRITE: 4,
            PROT_READ | PROT_EXEC: 3,
            RW | PROT_EXEC: 3,
        }
        return self.weighted(some)

    def map_flags(self) -> int:
        """Flags for mmap, of the kinds that the model has."""
        flags = self.weighted({PRIVATE: 80, SHARED: 20})
        if self.likely(0.05):
            flags |= MAP_NORESERVE
        if self.likely(0.08):
            flags |= MAP_POPULATE
        return flags

    # places

    def arena_page(self) -> int:
        """A page of the arena."""
        return self.one(ARENA)

    def edge(self) -> int:
        """An address at which something begins or ends, or a page away from that."""
        vma = self.vma()
        if vma is None:
            return self.arena_page()
        return self.one((vma.start, vma.end)) + self.one((-PAGE, 0, 0, 0, PAGE))

    def page_of(self, vma: Vma) -> int:
        """A page of the VMA; of a large one, near an end."""
        count = (vma.end - vma.start) // PAGE
        index = self.chance.randrange(min(count, 24))
        return vma.end - (index + 1) * PAGE if self.likely(0.3) else vma.start + index * PAGE

    def address(self) -> int:
        """An address to access: mostly inside of something, often where a page was used before."""
        where = self.chance.random()
        present = self.present_pages() if where < 0.35 else []
        if present:
            page = self.one(present)
        elif where < 0.85 and (vma := self.vma()) is not None:
            page = self.page_of(vma)
        elif where < 0.92:
            page = self.edge()
        elif where < 0.94:
            page = self.brk + self.one((-PAGE, -1, 0, PAGE))
        elif where < 0.96:
            page = self.below_stack()
        else:
            page = self.arena_page()
        return max(0, page) // PAGE * PAGE

    def below_stack(self) -> int:
        """A page below the stack: one to which it can grow, or one too far."""
        stack = next((vma for vma in self.vmas if vma.name == "[stack]"), None)
        if stack is None:
            return self.arena_page()
        return stack.start - self.one((1, 1, 2, 3, 20, 255, 256, 257, 2015, 2016, 5000)) * PAGE

    def present_pages(self) -> list[int]:
        """The pages that are mapped in the process."""
        tables = self.world.tables
        assert tables is not None
        found, base = [], 0
        for pid, start, count in tables.spans:
            if pid == self.pid:
                present = tables.real.present[base : base + count].nonzero()[0].tolist()
                found += [start + index * PAGE for index in present]
            base += count
        return found

    def range(self) -> tuple[int, int]:
        """A range of pages that cuts something: (address, bytes)."""
        vma = self.vma()
        if vma is None or self.likely(0.1):
            return self.arena_page(), self.pages() * PAGE
        if self.likely(0.3):
            return vma.start, vma.end - vma.start
        start = vma.start if self.likely(0.3) else self.page_of(vma)
        if self.likely(0.1):
            start -= self.chance.randint(1, 3) * PAGE
        end = start + self.pages() * PAGE
        if self.likely(0.4):
            end = vma.end
        elif self.likely(0.5):
            end = min(end, vma.end)
        return start, max(end - start, PAGE)


def born(scene: Scene, birth: Birth) -> Generator[Step, None, int | None]:
    """Let a task be made; the value of `yield from` is its pid, None when it was not."""
    before = set(scene.world.views)
    yield birth
    return next((pid for pid in scene.world.views if pid not in before), None)


def others(scene: Scene) -> list[int]:
    """The children of the process."""
    return [pid for pid, view in scene.world.views.items() if view.ppid == scene.pid]
