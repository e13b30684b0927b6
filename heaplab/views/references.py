"""The references of one event, one by one, and the words of the heap that they met."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heaplab.allocators import Allocator, State
from heaplab.allocators.base import Word
from heaplab.machine.context import Reference
from heaplab.views.heap import HeapView
from heaplab.views.memory import block_at, named, words_of

#: references whose addresses are no farther apart have their words decoded together
_NEAR = 64


@dataclass(frozen=True)
class ReferenceView:
    """One load or store of the design's own, and the word that it met.

    owner: whose word it is, as "block 270", "free block +0x68" or "root"; word: its name, as "header"; ""
    where the design has no word.  before, after: what the word said before the event, and says after it.
    to: where the word leads; 0: it is no link.
    """

    address: int
    is_store: bool
    owner: str
    word: str
    before: str = ""
    after: str = ""
    to: int = 0

    @property
    def what(self) -> str:
        """Which word it is.

        >>> ReferenceView(0x5008, False, "block 270", "header").what
        "block 270's header"
        >>> ReferenceView(0x5000, True, "root", "tree").what
        'root: tree'
        """
        if not self.owner:
            return "outside of the heap"
        if not self.word:
            return f"inside {self.owner}"
        of_block = "block" in self.owner.split()
        return f"{self.owner}'s {self.word}" if of_block else f"{self.owner}: {self.word}"


@dataclass(frozen=True)
class Side:
    """A heap before or after an event, and what can be seen of it."""

    heap: Allocator
    view: HeapView

    def words(self, addresses: Sequence[int]) -> dict[int, Word]:
        """Return the word that each of the addresses, which rise, lies in; none where there is none."""
        found: dict[int, Word] = {}
        for cluster in _clusters(self.view, addresses):
            words = words_of(self.heap, self.view, cluster[0], cluster[-1] + 1)
            for address in cluster:
                inside = (word for word in words if word.address <= address < word.address + word.size)
                if (word := next(inside, None)) is not None:
                    found[address] = word
        return found

    def owner(self, address: int) -> str:
        """Return whose memory an address is."""
        block = block_at(self.view, address)
        if block is None:
            return ""
        if block.state is State.METADATA and block.start <= self.view.root < block.end:
            return "root"
        return named(self.view, block)


def _clusters(view: HeapView, addresses: Sequence[int]) -> Iterable[list[int]]:
    """Put together addresses that are near one another, and in one block."""
    cluster: list[int] = []
    for address in addresses:
        if cluster and (
            address - cluster[-1] > _NEAR or block_at(view, address) != block_at(view, cluster[0])
        ):
            yield cluster
            cluster = []
        cluster.append(address)
    if cluster:
        yield cluster


def reference_views(
    references: Sequence[Reference], before: Side | None, after: Side | None
) -> tuple[ReferenceView, ...]:
    """Return the references with the words that they met.

    A load is named by the heap before the event, a store by the heap after it, and each by the other side
    where this one has no word there.  None: no heap.
    Cost: a lookup a reference, and decoding what they met on both sides.
    """
    addresses = sorted({reference.address for reference in references})
    words = [side.words(addresses) if side else {} for side in (before, after)]
    views = []
    for address, is_store in references:
        sides = list(zip((before, after), words, strict=True))
        said = [known[address].text if address in known else "" for known in words]
        if is_store:
            sides.reverse()
        owner, name, to = "", "", 0
        for side, known in sides:
            if side is None:
                continue
            owner = owner or side.owner(address)
            if address in known:
                owner, name, to = side.owner(address), known[address].name, known[address].to
                break
        views.append(ReferenceView(address, is_store, owner, name, said[0], said[1], to))
    return tuple(views)
