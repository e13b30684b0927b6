"""What of a step stands in which panel: a title and lines for a width."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from textwrap import wrap
from typing import NamedTuple, overload

from heaplab.views.changes import PageChange
from heaplab.views.free import free_lines, is_tree
from heaplab.views.heap import BlockView, HeapView, PageState
from heaplab.views.lines import (
    Line,
    Place,
    block_text,
    change_lines,
    count,
    free_texts,
    memory_lines,
    page_lines,
    reference_lines,
)
from heaplab.views.memory import MemoryView
from heaplab.views.step import StepView

#: a page on the map
_PAGES = {
    PageState.ABSENT: ".",
    PageState.ZERO: "z",
    PageState.OWN: "#",
    PageState.SHARED: "s",
    PageState.COPIED: "c",
}
_CAME, _COPIED = "N", "C"
_LEGEND = "# resident  . absent  z zeros, only read  s shared  N came now  C copied now"


class Content(NamedTuple):
    """What a panel shows."""

    title: str
    lines: Sequence[Line]


class _AndBlocks(Sequence[Line]):
    """Lines, and behind them one for each block, made when it is seen: a heap has thousands."""

    def __init__(self, first: list[Line], blocks: Sequence[BlockView], place: Place) -> None:
        self._first, self._blocks, self._place = first, blocks, place

    def __len__(self) -> int:
        return len(self._first) + len(self._blocks)

    @overload
    def __getitem__(self, at: int) -> Line: ...
    @overload
    def __getitem__(self, at: slice) -> list[Line]: ...
    def __getitem__(self, at: int | slice) -> Line | list[Line]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        if at < len(self._first):
            return self._first[at]
        block = self._blocks[at - len(self._first)]
        return Line(block_text(block, self._place), block.start)


def references(step: StepView, width: int) -> Content:
    """Return the loads and stores of the event."""
    lines = list(reference_lines(step.references, step.place, width))
    none = Line("none" if step.acting else "the event is another process's")
    return Content(count(len(step.references), "reference"), lines or [none])


def changes(step: StepView, width: int) -> Content:
    """Return the blocks and pages that changed, and the system calls."""
    lines = list(change_lines(step.blocks, step.place)) or [Line("no block changed")]
    page_size = step.heap.page_size if step.heap else 0
    lines += [Line(f"{count(step.faults, 'fault')}, system calls: {len(step.calls)}", 0, "heading")]
    lines += [Line(f"  {line.text}", line.to) for line in page_lines(step.pages, step.place, page_size)]
    lines += [Line(f"  {row}") for text in (*step.unseen_text, *step.calls) for row in wrap(text, width - 2)]
    return Content("what changed", lines)


def memory(step: StepView, view: MemoryView | None, width: int, depth: int) -> Content:
    """Return a hexdump.  depth: links that were followed to come here."""
    if view is None:
        return Content("memory", [Line("the event is about no block: Enter on a line shows what is there")])
    title = view.title if not depth else f"{view.title}; Backspace: back"
    return Content(title, list(memory_lines(view, step.place, width)))


def free(step: StepView, tree: bool | None) -> Content:
    """Return the free blocks, as a list or as a tree."""
    if step.heap is None or not step.heap.structure:
        return Content(step.free_title, [Line("-")])
    return Content(
        step.free_title, list(free_texts(free_lines(step.heap.free, tree=tree), step.place)) or [Line("none")]
    )


def heap(step: StepView, width: int) -> Content:
    """Return a map of the pages, a character each, and all blocks."""
    if step.heap is None:
        return Content("heap", [Line(f"process {step.process} is no more: it has no heap")])
    lines = [Line(row) for row in wrap(step.heap.summary(), width)]
    lines += _map(step.heap, step.pages, width)
    lines += [Line(row, 0, "heading") for row in wrap(_LEGEND, width)]
    if step.heap.fault:
        lines.insert(0, Line(f"the heap is broken: {step.heap.fault}", 0, "heading"))
    return Content("pages and blocks", _AndBlocks(lines, step.heap.blocks, step.place))


def _map(view: HeapView, changes: Iterable[PageChange], width: int) -> Iterator[Line]:
    now = {
        change.address + number * view.page_size: _COPIED if change.after is PageState.COPIED else _CAME
        for change in changes
        if change.after in (PageState.COPIED, PageState.OWN, PageState.ZERO)
        and change.before in (PageState.ABSENT, PageState.ZERO, PageState.SHARED)
        for number in range(change.count)
        if (change.before, change.after) != (PageState.SHARED, PageState.OWN)
    }
    pages = iter(view.pages)
    room = max((len(view.place(region.end - 1)) for region in view.regions), default=0) + 1
    per_row = max(width - room, 8) // 8 * 8
    for region in view.regions:
        yield Line(
            f"{region.name} {region.start:#x} to {region.end:#x}, "
            f"{count((region.end - region.start) // view.page_size, 'page')} of {view.page_size:,} bytes",
            0,
            "heading",
        )
        for start in range(region.start, region.end, per_row * view.page_size):
            end = min(start + per_row * view.page_size, region.end)
            on_row = islice(pages, (end - start) // view.page_size)
            row = "".join(now.get(page.address, _PAGES[page.state]) for page in on_row)
            yield Line(f"{view.place(start):<{room}}{row}", start)


def drawn_as_tree(step: StepView) -> bool:
    """Return whether the free blocks are drawn as a tree if nobody says otherwise."""
    return step.heap is not None and is_tree(step.heap.free)
