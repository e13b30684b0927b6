"""One heap at one moment, as plain data: its blocks, its free structure, its pages.

    regions   | brk                                         |     | mmap          |
    blocks    | metadata | allocated | free | allocated | free    | large         |
    pages     |   own    |   own     |  shared  | absent  |       |  own  | absent|

All of it is looked at: nothing in the model can tell that somebody did.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from heaplab.allocators import Allocator, Entry, Span, State
from heaplab.errors import HeapCorruption, UsageError
from heaplab.lab.moments import Label, Moment
from heaplab.machine import FrameKind, Pte
from heaplab.process import Process
from heaplab.units import format_size

#: blocks and free blocks that the text tells of one by one
MOST_LINES = 48


class PageState(Enum):
    """What a page of a heap has.

    A page of zeros was read and never written.  Copied: its own again, since a copy after fork; only who saw
    the fork can tell.
    """

    ABSENT = "absent"
    ZERO = "the page of zeros"
    OWN = "resident"
    SHARED = "shared"
    COPIED = "copied"


@dataclass(frozen=True)
class PageView:
    """A page of a heap.  frame: it is in, None when absent.  sharers: processes that have it mapped."""

    address: int
    state: PageState
    frame: int | None
    sharers: int


@dataclass(frozen=True)
class RegionView:
    """A run of pages that belong to a heap: [start, end).  name: "brk", or "mmap"."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class BlockView:
    """A span of the walk; label: what the program calls the block, None when nobody told.

    start, size: with header and padding.  payload, usable: what the program may use.
    """

    start: int
    size: int
    payload: int
    usable: int
    state: State
    label: Label | None = None

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size

    @property
    def name(self) -> str:
        """What it is, in a word or two: a live block by its slot.

        >>> BlockView(8, 32, 16, 24, State.ALLOCATED, Label(3, 20, 7, 0, 0)).name
        'block 3'
        """
        return f"block {self.label.slot}" if self.label is not None else _STATES[self.state]


_STATES = {
    State.FREE: "free",
    State.ALLOCATED: "allocated",
    State.LARGE: "large",
    State.CACHED: "cached",
    State.METADATA: "metadata",
}


@dataclass(frozen=True)
class HeapView:
    """A heap: its regions, blocks and pages in address order, its free blocks in the design's own order.

    design: the name.  pid: of the process, 0 of one that is dead.  brk: the program break.
    structure: what keeps the free blocks, in words; "" when the design does not tell of it.
    fault: why the walk broke off, "" when it did not: then `blocks` are those before it.

    >>> from heaplab import allocators
    >>> from heaplab.kernel import Kernel
    >>> process = Kernel(ram="1 MiB").init.fork()
    >>> heap = allocators.create("freelist", process)
    >>> p, q = heap.malloc(400), heap.malloc(100)
    >>> heap.free(p)
    >>> view = heap_view(heap)
    >>> [(block.name, block.size) for block in view.blocks][:3]
    [('metadata', 88), ('free', 416), ('allocated', 112)]
    >>> [entry.size for entry in view.free][:1], view.pages[0].state.name
    ([416], 'OWN')
    """

    design: str
    language: str
    pid: int
    root: int
    brk: int
    page_size: int
    structure: str
    regions: tuple[RegionView, ...]
    blocks: tuple[BlockView, ...]
    free: tuple[Entry, ...]
    pages: tuple[PageView, ...]
    fault: str = ""

    def __repr__(self) -> str:
        return f"<HeapView of {self.title}: {self.summary()}>"

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"{self.design} in process {self.pid}" if self.pid else self.design

    @property
    def live(self) -> tuple[BlockView, ...]:
        """The blocks that the program has."""
        return tuple(block for block in self.blocks if block.state.is_live)

    def bytes_of(self, *states: State) -> int:
        """Return the bytes of all blocks in these states, headers included."""
        return sum(block.size for block in self.blocks if block.state in states)

    @property
    def unlisted(self) -> int:
        """Bytes that are free and that the free structure does not hold: not cut into blocks yet."""
        if not self.structure:
            return 0
        return max(self.bytes_of(State.FREE, State.CACHED) - sum(entry.size for entry in self.free), 0)

    def place(self, address: int) -> str:
        """Return an address as this view's texts write it: the offset in its region.

        Of the region at the break that is `+0x68`, of the n-th mapping `mmap2+0x40`.
        """
        mapping = 0
        for region in self.regions:
            mapping += region.name != "brk"
            if region.start <= address < region.end:
                return f"{'' if region.name == 'brk' else f'mmap{mapping}'}+{address - region.start:#x}"
        return hex(address)

    def summary(self) -> str:
        """Return how much there is of what, in one line."""
        live, free = self.live, self.bytes_of(State.FREE, State.CACHED)
        heap = sum(region.end - region.start for region in self.regions)
        resident = sum(page.state is not PageState.ABSENT for page in self.pages)
        return (
            f"{len(live):,} live block{'' if len(live) == 1 else 's'}, "
            f"{format_size(sum(block.size for block in live))} with headers, {format_size(free)} free, "
            f"{format_size(self.bytes_of(State.METADATA))} metadata; heap {format_size(heap)}, "
            f"{resident:,} of {len(self.pages):,} pages resident"
        )

    def text(self, most: int = MOST_LINES) -> str:
        """Return all of it as text, but of blocks and free blocks the first `most` each."""
        lines = [f"{self.title}: {self.summary()}"]
        blocks = iter(self.blocks)
        left = most
        block = next(blocks, None)
        for region in self.regions:
            size = format_size(region.end - region.start)
            end = ", the break" if region.name == "brk" else ""
            lines.append(f"{region.name} {region.start:#x} to {region.end:#x}{end}: {size}")
            while block is not None and block.start < region.end:
                if left > 0:
                    lines.append(f"  {self.place(block.start):>10}  {block.size:>9,}  {_told(block)}")
                left -= 1
                block = next(blocks, None)
        if left < 0:
            lines.append(f"  and {-left:,} spans more")
        lines += self._free_lines(most)
        lines += [f"pages: {', '.join(_page_runs(self.pages)) or 'none'}"]
        if self.fault:
            lines.append(f"the heap is broken: {self.fault}")
        return "\n".join(lines) + "\n"

    def _free_lines(self, most: int) -> Iterator[str]:
        if not self.structure:
            return
        yield f"free blocks, in {self.structure}{'' if self.free else ': none'}"
        if self.unlisted:
            yield f"  {self.unlisted:,} bytes more are free, and in no block yet"
        for group, entries in groupby(self.free[:most], key=lambda entry: entry.group):
            if group:
                yield f"  {group}"
            for entry in entries:
                yield f"  {self.place(entry.start):>10}  {entry.size:>9,}  {entry.place}"
        if len(self.free) > most:
            yield f"  and {len(self.free) - most:,} more"

    def __str__(self) -> str:
        return self.text()


def _told(block: BlockView) -> str:
    label = block.label
    if label is None:
        return block.name
    large = ", large" if block.state is State.LARGE else ""
    return f"{block.name}: {label.size:,} bytes, event {label.event}{large}"


def _page_runs(pages: Iterable[PageView]) -> Iterator[str]:
    """Tell of pages of one state side by side together."""
    first = 0
    for state, run in groupby(pages, key=lambda page: page.state):
        last = first + len(list(run)) - 1
        yield f"{first:,} {state.value}" if first == last else f"{first:,} to {last:,} {state.value}"
        first = last + 1


def heap_view(
    heap: Allocator,
    labels: Mapping[int, Label] | None = None,
    sharers: Callable[[int], int] | None = None,
) -> HeapView:
    """Return what can be seen of a heap now.

    labels: of live blocks, by the payload's address.  sharers: of a page by its address, instead of the count
    of all processes that have its frame mapped.
    A heap that is broken is shown as far as its walk goes, and `fault` says what is wrong.
    Cost: one walk, one pass over the free blocks, and one entry for each page.
    """
    named = labels or {}
    spans: list[Span] = []
    free: tuple[Entry, ...] = ()
    fault = ""
    try:
        spans += heap.walk()
        free = tuple(heap.index())
    except UsageError:  # a design without a twin does not tell of its free blocks
        pass
    except HeapCorruption as error:
        fault = str(error)
    except Exception as error:  # a walk of somebody's own may raise what it likes
        fault = f"{type(error).__name__}: {error}"
    process = heap.process
    page = process.page_size
    brk = process.sbrk(0)
    regions = tuple(_regions(spans, page, brk))
    return HeapView(
        design=heap.NAME,
        language=heap.LANGUAGE,
        pid=process.pid if isinstance(process, Process) else 0,
        root=heap.root,
        brk=brk,
        page_size=page,
        structure=heap.STRUCTURE,
        regions=regions,
        blocks=tuple(BlockView(*span, named.get(span.payload)) for span in spans),
        free=free,
        pages=tuple(_pages(heap, regions, sharers)),
        fault=fault,
    )


def moment_view(moment: Moment, number: int = 0) -> HeapView:
    """Return the heap of one process of a trace, with its blocks named, at a moment of a replay."""
    return heap_view(moment.heap(number), moment.labels(number), lambda page: moment.sharers(number, page))


def _regions(spans: Iterable[Span], page: int, brk: int) -> Iterator[RegionView]:
    """The runs of pages that the spans, which are in address order, lie in."""
    start = end = 0
    for span in spans:
        first, last = span.start & -page, (span.end + page - 1) & -page
        if first > end:
            if end:
                yield RegionView(start, end, "brk" if start < brk <= end else "mmap")
            start = first
        end = max(end, last)
    if end:
        yield RegionView(start, end, "brk" if start < brk <= end else "mmap")


def _pages(
    heap: Allocator, regions: Iterable[RegionView], sharers: Callable[[int], int] | None
) -> Iterator[PageView]:
    context = heap.process.look().context
    machine = context.machine
    page = machine.page_size
    for region in regions:
        entries = context.ptes(region.start, (region.end - region.start) // page)
        for address, entry in zip(range(region.start, region.end, page), entries.tolist(), strict=True):
            if not entry & Pte.PRESENT:
                yield PageView(address, PageState.ABSENT, None, 0)
                continue
            frame = Pte.frame(entry)
            if machine.kind[frame] == FrameKind.ZERO:
                yield PageView(address, PageState.ZERO, frame, 0)
                continue
            count = sharers(address) if sharers is not None else int(machine.mapcount[frame])
            yield PageView(address, PageState.SHARED if count > 1 else PageState.OWN, frame, count)
