"""What metadata costs after fork: which pages are copied, on which side, and by whose write.

A fork copies no page; the first write to a shared page does, whatever it writes.  A design that keeps its
words in and between the blocks (headers, links) writes where the payload is, so that a free copies a page of
payload that nobody changed.  A design that keeps its words elsewhere copies pages of nothing but words.

    a write to                                             is
    the block that the event hands out                     payload: the program writes it in any case
    anything else                                          metadata

    side     parent   the process has forked since it began, and writes to pages that the child had then
             child    it was forked, and has not forked itself since

What a page held is read off the heap at the fork that shared the page: nobody writes to a page while it is
shared.  A page that was only read shows the frame of zeros, and is never copied.

A trace does not record when a program writes to its blocks. A replay writes to a block when it makes or
grows the block, and at no other time. So the copies by payload here are the fewest: a real program may
write to its old blocks too, and copy more pages.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab._core import lib
from heaplab.allocators import Allocator, Spec, State, parse
from heaplab.errors import HeaplabError, UsageError
from heaplab.kernel import Kernel
from heaplab.lab import census
from heaplab.lab.copied import CopyWatch
from heaplab.lab.replay import RawLog, Replay
from heaplab.lab.room import host_memory, host_refusal
from heaplab.lab.run import RAM
from heaplab.machine import FrameKind, Pte
from heaplab.process import Process
from heaplab.traces import Block, Event, Op, Trace
from heaplab.traces.lives import Lives, lives
from heaplab.units import counted

#: events between two reports of progress
_REPORT_EVERY = 32_768

Column = npt.NDArray[Any]


class Place(IntEnum):
    """What stood at the byte written when the page was last shared."""

    PAYLOAD = 0  # of a block that was live then
    BESIDE = 1  # a header, a footer or slack of such a block
    FREE = 2  # a free block: links, or room for new blocks
    OWN = 3  # the design's own words, apart from the blocks


_WORDS = {
    Place.PAYLOAD: "in a block freed since",
    Place.BESIDE: "in a block's header",
    Place.FREE: "in a free block",
    Place.OWN: "apart from the blocks",
}


@dataclass(frozen=True, eq=False)
class Copies:
    """Pages copied after forks, as columns: a row each, in the order of the writes.

    event: during which the page was copied.  until: see `lab.copied.Copied`.  process: by the trace's number.
    in_parent: its side; False: in a child.  address: the byte written.
    metadata: whether the write was to metadata.  place: a `Place`.
    alone: the write was to metadata, and the process wrote no payload to the page up to `until`: without
    that metadata the page would not have been copied on this side.
    needless: the page had no words apart from the blocks, and no process that the frame was left to had a
    live block on it any more: if they had given the page back to the kernel, nobody would have copied it.
    payload, beside, free, own: bytes of each `Place` on the page; what is missing to a page was no heap.
    """

    event: npt.NDArray[np.uint32]
    until: npt.NDArray[np.uint32]
    process: npt.NDArray[np.uint16]
    in_parent: npt.NDArray[np.bool_]
    address: npt.NDArray[np.uint64]
    metadata: npt.NDArray[np.bool_]
    place: npt.NDArray[np.uint8]
    alone: npt.NDArray[np.bool_]
    needless: npt.NDArray[np.bool_]
    payload: npt.NDArray[np.uint16]
    beside: npt.NDArray[np.uint16]
    free: npt.NDArray[np.uint16]
    own: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.event)

    def __repr__(self) -> str:
        return f"<Copies of {counted(len(self), 'page')}>"

    def columns(self) -> dict[str, Column]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, repr=False)
class Side:
    """The pages that one side of all forks copied.

    metadata, payload: by the first write.  alone: of `metadata`, those to which no payload was ever written.
    needless: those that nobody else had any use for; see `Copies`.
    """

    metadata: int
    payload: int
    alone: int
    needless: int

    @property
    def pages(self) -> int:
        """All that the side copied."""
        return self.metadata + self.payload

    def __repr__(self) -> str:
        return f"<{self.metadata} pages by metadata ({self.alone} alone), {self.payload} by payload>"

    def __add__(self, other: "Side") -> "Side":
        return Side(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class ForkCost:
    """What the forks of a trace cost on a design.

    forks: FORK events.  shared: pages with a frame that the forking process had, summed over the forks.
    copies: each page that was copied.
    """

    trace: str
    allocator: str
    language: str
    seed: int
    forks: int
    shared: int
    copies: Copies

    def __repr__(self) -> str:
        return f"<ForkCost of {self.trace} on {self.allocator}: {counted(len(self.copies), 'page')} copied>"

    def side(self, in_parent: bool) -> Side:
        """Return what the parents, or the children, copied."""
        rows = self.copies.in_parent == in_parent
        metadata = int(np.count_nonzero(rows & self.copies.metadata))
        return Side(
            metadata,
            int(np.count_nonzero(rows)) - metadata,
            int(np.count_nonzero(rows & self.copies.alone)),
            int(np.count_nonzero(rows & self.copies.needless)),
        )

    @property
    def parent(self) -> Side:
        """What parents copied."""
        return self.side(True)

    @property
    def child(self) -> Side:
        """What children copied."""
        return self.side(False)

    @property
    def both(self) -> Side:
        """What was copied: `both.pages` is the kernel's number of copies."""
        return self.parent + self.child

    def by_place(self, in_parent: bool | None = None) -> dict[Place, int]:
        """Return how many pages metadata copied, by what stood where it wrote."""
        rows = self.copies.metadata
        if in_parent is not None:
            rows = rows & (self.copies.in_parent == in_parent)
        return {place: int(np.count_nonzero(rows & (self.copies.place == place))) for place in Place}

    def figures(self) -> dict[str, str | int]:
        """Return the figures as a flat record: a row of a table."""
        record: dict[str, str | int] = {
            "trace": self.trace,
            "allocator": self.allocator,
            "language": self.language,
            "seed": self.seed,
            "forks": self.forks,
            "shared": self.shared,
        }
        for name, side in (("parent", self.parent), ("child", self.child)):
            record |= {f"{name}_{field.name}": getattr(side, field.name) for field in fields(side)}
        return record

    def __str__(self) -> str:
        parent, child, both = self.parent, self.child, self.both
        places = [self.by_place(True), self.by_place(False), self.by_place()]
        rows: list[tuple[str, list[int]]] = [
            ("metadata", [side.metadata for side in (parent, child, both)]),
            *((f"  {words}", [each[place] for each in places]) for place, words in _WORDS.items()),
            ("payload", [side.payload for side in (parent, child, both)]),
            ("all", [side.pages for side in (parent, child, both)]),
            ("metadata alone", [side.alone for side in (parent, child, both)]),
            ("needless", [side.needless for side in (parent, child, both)]),
        ]
        title = "pages copied, first written by"
        return "\n".join(
            [
                f"{self.trace} on {self.allocator}: {counted(self.forks, 'fork')} shared "
                f"{counted(self.shared, 'page')}",
                f"{title}{'parents':>12}{'children':>10}{'both':>10}",
                *(
                    f"{name:<{len(title) + 2}}" + "".join(f"{number:>10,}" for number in numbers)
                    for name, numbers in rows
                ),
            ]
        )


def fork_cost(
    trace: Trace,
    allocator: str | Spec,
    language: str = "c",
    *,
    seed: int = 1,
    ram: int | str = RAM,
    progress: Callable[[int], None] = lambda done: None,
) -> ForkCost:
    """Replay a trace with forks, and return which pages were copied after them, and why.

    allocator, language, seed, ram, progress: as of `lab.run`.
    A trace that never forks forks where `heaplab.traces.snapshotting` lets it.
    Cost: a replay whose first writes to pages all go to the kernel, about 5 us each; a walk at each fork;
    memory for all events, 150 bytes each.
    Raises: UsageError for an unknown allocator, a damaged trace, one without a fork, or one that this
    computer has no memory for; HeaplabError with what went wrong in the replay.

    >>> from heaplab.traces import Event
    >>> live = [Event(Op.MALLOC, slot, 1000) for slot in range(8)]
    >>> trace = Trace.of([*live, Event(Op.FORK, 1), Event(Op.FREE, 0, process=1)], "server")
    >>> fork_cost(trace, "rbtree").child.metadata, fork_cost(trace, "slab").child.metadata
    (2, 1)
    """
    if not trace.header.ops.get("fork"):
        raise UsageError(
            f"{trace.header.name}: never forks, so nothing is copied: let it take a snapshot "
            "(heaplab.traces.snapshotting, or heaplab fork --snapshot)"
        )
    spec = parse(allocator, language) if isinstance(allocator, str) else allocator
    if why := host_refusal(trace.header, ram, host_memory()):
        raise UsageError(why)
    whole = Block.join(trace)
    replay = _Watching(trace, spec, Kernel(ram=ram, seed=seed), whole)
    while replay.end is None and replay.done < trace.header.events:
        replay.advance(replay.done + _REPORT_EVERY)
        progress(replay.done)
    if replay.end is not None:
        raise HeaplabError(f"{trace.header.name} on {spec}: {replay.end.reason}")
    return ForkCost(
        trace.header.name,
        str(spec),
        spec.language,
        seed,
        trace.header.ops["fork"],
        replay.shared,
        replay.copies(),
    )


class _Watching(Replay):
    """A replay that notes of each copied page what the write was.

    shared: pages that forks shared, so far.
    """

    def __init__(self, trace: Trace, spec: Spec, kernel: Kernel, whole: Block) -> None:
        self.shared = 0
        self._whole = whole
        self._layouts: dict[int, _Layout] = {}  # by process, as of the fork that it took part in last
        self._parents: set[int] = set()  # of these processes, the ones that forked in it
        self._watch = _Noting(lambda: self.done, self._look)
        self._watch.watch(kernel.system)
        self._left_to: list[list[int]] = []  # for each copy, who still has the frame
        self._log = RawLog(len(whole))
        self._address = self._log.columns["address"]
        super().__init__(trace, spec, kernel, verify=False, samples=1, block=whole)
        lib.hl_replay_log(self.raw, self._log.raw)

    def _place(self, number: int, process: Process, heap: Allocator) -> tuple[Any, tuple[Any, ...]]:
        self._watch.begin(number, process)
        return super()._place(number, process, heap)

    def _process_event(self, event: Event) -> str | None:
        number = event.process
        self._watch.end(number)
        if event.op == Op.FORK:
            heap = self.members[number].heap
            self.shared += int(heap.process.context.raw.space.rss[FrameKind.ANON])
            layout = _Layout.of(heap, self.slots(number))
            self._layouts[number] = self._layouts[event.id] = layout
            self._parents.add(number)
        else:
            self._layouts.pop(number, None)
            self._parents.discard(number)
        return super()._process_event(event)

    def _leave(self, number: int) -> None:
        super()._leave(number)
        self._watch.leave(number)

    def _look(self, number: int, va: int, frame: int) -> tuple[int, ...]:
        """What stood at an address that is written, on which side, and what the page held."""
        spaces = ((each, member.process.context.space) for each, member in self.members.items())
        self._left_to.append(
            [each for each, space in spaces if space is not None and Pte.frame(space.pte(va)) == frame]
        )
        layout, page = self._layouts[number], self.kernel.machine.page_size
        start = va // page * page
        return number in self._parents, layout.place(va), *layout.held(start, start + page)

    def copies(self) -> Copies:
        """Return what was copied, when all is over."""
        found = self._watch.copied(self.done)
        notes = np.array(self._watch.notes, np.uint64).reshape(-1, 7)
        address, event = notes[:, 0], found.event
        start, end = self._address[event], self._address[event] + self._whole.size[event]
        metadata = ~((start <= address) & (address < end))
        blocks = _Blocks.of(self._whole, self._address, self.trace)
        page = self.kernel.machine.page_size
        writes = _OnPages(*blocks.writes(), self._whole.process, page)
        lives = _OnPages(blocks.address, blocks.address + blocks.known.size, blocks.known.process, page)
        alone, needless = metadata.copy(), notes[:, 6] == 0
        for row in range(len(event)):
            process, at = int(found.process[row]), int(found.page[row])
            written = writes.rows(process, at)
            alone[row] &= not ((event[row] <= written) & (written < found.until[row])).any()
            for other in self._left_to[row]:
                there = lives.rows(other, at)
                born, died = blocks.known.born[there], blocks.known.died[there]
                needless[row] &= not ((born <= event[row]) & (event[row] < died)).any()
        return Copies(
            event,
            found.until,
            found.process,
            notes[:, 1].astype(np.bool_),
            address,
            metadata,
            notes[:, 2].astype(np.uint8),
            alone,
            needless,
            *(notes[:, column].astype(np.uint16) for column in range(3, 7)),
        )


class _Noting(CopyWatch):
    """Keeps of each copy the address written, and what `look(process, address, frame)` says, in `notes`."""

    def __init__(self, event: Callable[[], int], look: Callable[[int, int, int], tuple[int, ...]]) -> None:
        super().__init__(event)
        self._look = look
        self.notes: list[tuple[int, ...]] = []

    def note(self, number: int, va: int, frame: int) -> None:
        self.notes.append((va, *self._look(number, va, frame)))


@dataclass(frozen=True)
class _Layout:
    """What the bytes of a heap are at a fork.  spans: of each Place rows (start, end), rising.

    before: of each Place, the bytes of the spans in front of each span.
    """

    spans: list[Column]
    before: list[Column]

    @classmethod
    def of(cls, heap: Allocator, slots: Column) -> "_Layout":
        """Walk the heap.  slots: of the replay: the payloads that live in it."""
        every, state, _ = census.walked(heap)
        live, own = census.is_block(state), state == State.METADATA
        spans = [census.live_payloads(slots), every[live], every[~live & ~own], every[own]]
        return cls(spans, [np.concatenate(([0], np.cumsum(each[:, 1] - each[:, 0]))) for each in spans])

    def place(self, va: int) -> int:
        """Return the Place of a byte; what no span has is a free block's."""
        for place, spans in enumerate(self.spans):
            at = int(np.searchsorted(spans[:, 0], va, side="right")) - 1
            if at >= 0 and va < spans[at, 1]:
                return place
        return Place.FREE

    def held(self, start: int, end: int) -> tuple[int, int, int, int]:
        """Return how many bytes from `start` to `end` each Place has."""
        payload, blocks, free, own = (
            self._reached(place, end) - self._reached(place, start) for place in range(len(Place))
        )
        return payload, blocks - payload, free, own

    def _reached(self, place: int, va: int) -> int:
        spans = self.spans[place]
        at = int(np.searchsorted(spans[:, 0], va, side="right")) - 1
        if at < 0:
            return 0
        return int(self.before[place][at]) + min(va, int(spans[at, 1])) - int(spans[at, 0])


@dataclass(frozen=True)
class _Blocks:
    """The blocks of a trace, and where they lay.  address: of each row of `known`."""

    whole: Block
    known: Lives
    address: Column

    @classmethod
    def of(cls, whole: Block, address: Column, trace: Trace) -> "_Blocks":
        """Return the blocks.  address: of the block that each event leaves."""
        known = lives(trace, whole)
        maker = np.arange(len(known))
        while (copied := known.copied[maker]).any():  # a fork's copy lies where the parent's block does
            maker[copied] = known.before[maker[copied]].astype(np.int64) - 1
        return cls(whole, known, address[known.born[maker]])

    def writes(self) -> tuple[Column, Column]:
        """Return where each event's payload is written, start and end: as csrc/replay/rows.c does it.

        A block that grew in its place keeps what it had, and the rest is written, from a whole word on.  One
        that moved is written whole: the allocator moves what is kept.
        """
        op, known = self.whole.op, self.known
        start = np.zeros(len(op), np.uint64)
        made = np.flatnonzero((op == Op.MALLOC) | (op == Op.CALLOC) | (op == Op.ALIGNED) | (op == Op.REALLOC))
        row = known.row[made].astype(np.int64) - 1
        start[made] = self.address[row]
        end = start + self.whole.size
        resized, row = made[op[made] == Op.REALLOC], row[op[made] == Op.REALLOC]
        before = known.before[row].astype(np.int64) - 1
        kept = np.minimum(known.size[before], known.size[row]) & ~np.uint64(7)
        start[resized] += np.where(self.address[before] == self.address[row], kept, np.uint64(0))
        return start, end


class _OnPages:
    """Which of many ranges of bytes lie on a page of a process.

    start, end, process: columns, a row each.  page: bytes.
    """

    def __init__(self, start: Column, end: Column, process: Column, page: int) -> None:
        row, number = census.pages_of(start.astype(np.int64), end.astype(np.int64), page)
        keys = process[row].astype(np.uint64) << np.uint64(48) | number.astype(np.uint64)
        order = np.argsort(keys, kind="stable")
        self._page, self._keys, self._rows = page, keys[order], row[order]

    def rows(self, process: int, address: int) -> Column:
        """Return the rows on the page that begins at an address, in their order."""
        key = np.uint64(process << 48 | address // self._page)
        found: Column = self._rows[
            np.searchsorted(self._keys, key) : np.searchsorted(self._keys, key, "right")
        ]
        return found
