"""What one request changed in a heap: the blocks that are not what they were, and the pages.

before   | block 7 | free                    | block 9 |
after    | block 7 | block 8 | free          | block 9 |
                   | allocated, split        |
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from heaplab.machine.context import Reference
from heaplab.views.heap import BlockView, HeapView, PageState, PageView


@dataclass(frozen=True)
class BlockChange:
    """A stretch of memory whose blocks are not what they were.

    before, after: its blocks in address order; none where the heap had no memory there.
    """

    before: tuple[BlockView, ...]
    after: tuple[BlockView, ...]

    @property
    def start(self) -> int:
        """The lowest address that changed."""
        return min(block.start for block in self.before + self.after)

    @property
    def words(self) -> str:
        """What happened: allocated or freed, and whether blocks were split or merged.

        >>> from heaplab.allocators import State
        >>> free, taken = BlockView(8, 96, 16, 88, State.FREE), BlockView(8, 32, 16, 24, State.ALLOCATED)
        >>> rest = BlockView(40, 64, 48, 56, State.FREE)
        >>> BlockChange((free,), (taken, rest)).words, BlockChange((taken, rest), (free,)).words
        ('allocated, split', 'freed, merged')
        """
        if not self.before:
            return "new memory"
        if not self.after:
            return "given back"
        words = [self._verb()]
        if len(self.after) > len(self.before):
            words.append("split")
        if len(self.after) < len(self.before):
            words.append("merged")
        grown = _extent(self.after) - _extent(self.before)
        if grown:
            words.append("the heap grew" if grown > 0 else "the heap shrank")
        return ", ".join(word for word in words if word) or "changed"

    def _verb(self) -> str:
        more = _live(self.after) - _live(self.before)
        if more:
            return "allocated" if more > 0 else "freed"
        resized = [_size_of_live(self.before), _size_of_live(self.after)]
        return "resized" if resized[0] != resized[1] else ""


def _extent(blocks: Sequence[BlockView]) -> int:
    return blocks[-1].end - blocks[0].start


def _live(blocks: Iterable[BlockView]) -> int:
    return sum(block.state.is_live for block in blocks)


def _size_of_live(blocks: Iterable[BlockView]) -> list[tuple[int, int]]:
    return [(block.size, block.label.size if block.label else 0) for block in blocks if block.state.is_live]


def block_changes(before: HeapView | None, after: HeapView | None) -> tuple[BlockChange, ...]:
    """Return the stretches that differ between two views of one heap, in address order.

    None: no heap, like that of a process that is no more.  Cost: O(blocks).
    """
    was, now = before.blocks if before else (), after.blocks if after else ()
    first = _equal(zip(was, now, strict=False))
    most = min(len(was), len(now)) - first
    last = min(_equal(zip(reversed(was), reversed(now), strict=False)), most)
    old = {_identity(block): block for block in was[first : len(was) - last]}
    new = {_identity(block): block for block in now[first : len(now) - last]}
    gone = [block for key, block in old.items() if key not in new]
    come = [block for key, block in new.items() if key not in old]
    return tuple(_clusters(gone, come))


def _equal(pairs: Iterable[tuple[BlockView, BlockView]]) -> int:
    """Count the pairs up to the first that differs: most blocks of a heap stay what they were."""
    n = 0
    for a, b in pairs:
        if a.start != b.start or a.size != b.size or a.state is not b.state or a.label != b.label:
            break
        n += 1
    return n


def _identity(block: BlockView) -> tuple[object, ...]:
    label = block.label
    return (block.start, block.size, block.state, block.payload, label and (label.slot, label.size))


def _clusters(gone: list[BlockView], come: list[BlockView]) -> Iterator[BlockChange]:
    """Put together what overlaps or stands side by side."""
    rows = sorted(
        [(block.start, 0, block) for block in gone] + [(block.start, 1, block) for block in come],
        key=lambda row: row[:2],
    )
    sides: tuple[list[BlockView], list[BlockView]] = ([], [])
    end = 0
    for start, side, block in rows:
        if start > end and end:
            yield BlockChange(tuple(sides[0]), tuple(sides[1]))
            sides = ([], [])
        sides[side].append(block)
        end = max(end, block.end)
    if end:
        yield BlockChange(tuple(sides[0]), tuple(sides[1]))


@dataclass(frozen=True)
class PageChange:
    """`count` pages side by side, from `address` on, that went from one state to another.

    faults: that this took, of each page.
    """

    address: int
    count: int
    before: PageState
    after: PageState
    faults: int

    @property
    def words(self) -> str:
        """What happened to them.

        >>> PageChange(0x5000, 1, PageState.ABSENT, PageState.OWN, 1).words
        'came'
        """
        words = _PAGE_WORDS.get((self.before, self.after), f"{self.before.value}, now {self.after.value}")
        return f"{words}, read before written: {self.faults} faults" if self.faults > 1 else words


_TAKE_FAULT = {
    (PageState.ABSENT, PageState.OWN),
    (PageState.ABSENT, PageState.ZERO),
    (PageState.ZERO, PageState.OWN),
    (PageState.SHARED, PageState.COPIED),
}
_PAGE_WORDS = {
    (PageState.ABSENT, PageState.OWN): "came",
    (PageState.ABSENT, PageState.ZERO): "read: mapped to the page of zeros",
    (PageState.ZERO, PageState.OWN): "written for the first time",
    (PageState.ABSENT, PageState.SHARED): "shared with the parent",
    (PageState.OWN, PageState.SHARED): "shared with a child now",
    (PageState.SHARED, PageState.COPIED): "copied",
    (PageState.SHARED, PageState.OWN): "no longer shared",
    (PageState.OWN, PageState.ABSENT): "given back",
    (PageState.ZERO, PageState.ABSENT): "given back",
    (PageState.SHARED, PageState.ABSENT): "given back, others keep it",
}


def page_changes(
    before: HeapView | None,
    after: HeapView | None,
    references: Iterable[Reference] = (),
    *,
    acting: bool = True,
) -> tuple[PageChange, ...]:
    """Return the pages whose state differs between two views of one heap, in address order.

    references: of the event.  A page that comes by a load has the page of zeros first, and takes two faults
    if it is written after that.
    acting: the heap's process made the event, so that a shared page that it has alone now was copied: COPIED;
    else it is the other process that has a copy, or is no more.  Cost: O(pages).
    """
    old = {page.address: page for page in before.pages} if before else {}
    new = {page.address: page for page in after.pages} if after else {}
    view = after or before
    size = view.page_size if view else 0
    stored_first: dict[int, bool] = {}
    for address, is_store in references:
        stored_first.setdefault(address & -size, is_store)
    rows = []
    for address in sorted(old.keys() | new.keys()):
        was, now = _state(old.get(address)), _state(new.get(address))
        if acting and (was, now) == (PageState.SHARED, PageState.OWN):
            now = PageState.COPIED
        if was is not now:
            came = (was, now) == (PageState.ABSENT, PageState.OWN)
            faults = int(acting and (was, now) in _TAKE_FAULT) + int(
                came and not stored_first.get(address, True)
            )
            rows.append((address, was, now, faults))
    runs = []
    for _, run in groupby(enumerate(rows), lambda row: (row[1][0] - row[0] * size, *row[1][1:])):
        pages = [row for _, row in run]
        address, was, now, faults = pages[0]
        runs.append(PageChange(address, len(pages), was, now, faults))
    return tuple(runs)


def unseen_faults(faults: int, changes: Iterable[PageChange]) -> int:
    """Return how many faults of an event changed no page's state.

    These are first writes since a fork to pages that no other process has any more: the kernel only makes the
    entry writable.  And faults on pages that came and went within the event.
    """
    return faults - sum(change.count * change.faults for change in changes)


def _state(page: PageView | None) -> PageState:
    return page.state if page else PageState.ABSENT
