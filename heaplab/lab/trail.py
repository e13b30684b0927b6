"""Where every block of a trace lies: a replay that looks at each block as the event leaves it.

The looks are csrc/replay/trail.c's; nothing in the model can tell that somebody looks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.allocators import Allocator, Span, Spec, State
from heaplab.allocators.core import CAllocator
from heaplab.allocators.parts.seal import TAG
from heaplab.kernel import Kernel
from heaplab.lab.copied import Copied, CopyWatch
from heaplab.lab.replay import Replay
from heaplab.process import Process
from heaplab.traces import Block, Event, Trace
from heaplab.traces.lives import MAKES, Lives

#: events looked at in one call of the C side
_STRETCH = 8192
#: places of the table of headers met: texts are made of half as many, the other headers have none
_WORDS = 1 << 14
_HEADER = 8
_COLUMNS = ("address", "lead", "span", "word")

Column = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Places:
    """Where blocks lie, as columns: a row for each of a trace's `Lives`.

    address: of the payload; 0: the replay ended before the block.  lead: bytes from the span's start to the
    payload.  span: bytes of the span.  word: index of texts: the header, decoded.  All as the event left it
    that made the row.
    """

    address: npt.NDArray[np.uint64]
    lead: npt.NDArray[np.uint32]
    span: npt.NDArray[np.uint64]
    word: npt.NDArray[np.uint16]
    texts: tuple[str, ...]

    @property
    def start(self) -> npt.NDArray[np.uint64]:
        """Where the spans start."""
        return cast(npt.NDArray[np.uint64], self.address - self.lead)


class Trail(Replay):
    """A replay that notes where blocks lie; `places` says so afterwards.

    It verifies no payloads.  A design in C is looked at by C, 0.2 us a block; one in Python by usable_size.
    Where a large alignment has moved a payload within its mapping, the heap is walked.
    """

    def __init__(
        self, trace: Trace, spec: Spec, kernel: Kernel, *, payload: bool = True, block: Block | None = None
    ) -> None:
        #: the heaps of the living processes, as looks see them, by number
        self.looks: dict[int, Allocator] = {}
        self._notes: list[dict[str, Column]] = []
        self._texts: dict[int, str] = {0: ""}
        self._trail: Any = ffi.new("hl_trail *")
        self._seen: Any = ffi.new("hl_heap *[]", 8)
        self._trail.seen = self._seen
        #: bytes in front of a payload; None until a block tells
        self._header: int | None = None
        self._known = np.zeros(_WORDS, np.uint64)
        self._trail.known = ffi.cast("uint64_t *", self._known.ctypes.data)
        self._trail.capacity = _WORDS
        self._copies = CopyWatch(lambda: self.done)
        if trace.header.ops.get("fork"):
            self._copies.watch(kernel.system)
        super().__init__(trace, spec, kernel, verify=False, payload=payload, samples=0, block=block)

    def _stretch(self, row: int, stop: int) -> None:
        assert self._block is not None
        trail, columns = self._trail, {name: np.zeros(stop - row, np.uint64) for name in _COLUMNS}
        trail.first = self.done
        for name, column in columns.items():
            setattr(trail, name, ffi.cast("uint64_t *", column.ctypes.data))
        while self.end is None and int(self.raw.row) < stop:
            why = lib.hl_replay_trail(self.raw, self._events, stop, trail)
            if why == lib.HL_TRAIL_ASK:
                self._ask(columns, int(self.raw.row) - 1 - row)
            elif why == lib.HL_TRAIL_WORD:
                self._decode(columns, int(self.raw.row) - 1 - row)
            else:
                self._settle(why)
        made = MAKES[self._block.op[row:stop]][: int(self.raw.row) - row]
        self._notes.append({name: column[: len(made)][made] for name, column in columns.items()})

    # ---- looks ----

    def _place(self, number: int, process: Process, heap: Allocator) -> tuple[Any, tuple[Any, ...]]:
        self.looks[number] = heap.attach(process.look())
        self._show(number)
        self._copies.begin(number, process)
        return super()._place(number, process, heap)

    def _process_event(self, event: Event) -> str | None:
        self._copies.end(event.process)
        return super()._process_event(event)

    def _leave(self, number: int) -> None:
        super()._leave(number)
        self._copies.leave(number)
        del self.looks[number]

    def _show(self, number: int) -> None:
        """Let the C side look at the blocks of a process, if it can tell where their spans start."""
        if number >= len(self._seen):
            more = ffi.new("hl_heap *[]", 2 * number + 8)
            more[0 : len(self._seen)] = list(self._seen)
            self._seen = self._trail.seen = more
        look = self.looks[number]
        told = self._header is not None and isinstance(look, CAllocator)
        self._seen[number] = look.raw if told and isinstance(look, CAllocator) else ffi.NULL

    def _ask(self, columns: dict[str, Column], row: int) -> None:
        """Find out where the span of the block lies that the last event left."""
        event = self._event_before()
        heap, address = self.looks[event.process], int(columns["address"][row])
        small = heap.root <= address < heap.process.sbrk(0)
        moved = event.align > heap.process.page_size and not small
        if self._header is None or moved:
            span = next(span for span in heap.walk() if span.payload == address and span.state.is_live)
            lead, size = address - span.start, span.size
            if self._header is None and span.state == State.ALLOCATED:
                self._learn(heap, span, small)
        else:
            lead = self._header if small else 0
            size = lead + heap.usable_size(address)
        columns["lead"][row], columns["span"][row] = lead, size
        if self._trail.mask and lead:
            word = heap.process.load64(address - lead) & self._trail.mask
            columns["word"][row] = word
            if word not in self._texts and len(self._texts) < _WORDS // 2:
                self._decode(columns, row)

    def _learn(self, heap: Allocator, span: Span, small: bool) -> None:
        """Learn from the first block of the design's own how far in front of payloads its spans start.

        A span with anything behind the payload, and one of a design that heaplab does not know, is asked for
        each time.
        """
        lead = span.payload - span.start
        if span.end != span.payload + span.usable or (lead and not small):
            return
        self._header = self._trail.header = lead
        if lead == _HEADER and next(heap.words(span.start, span.payload, span.start), None) is not None:
            self._trail.mask = TAG
        for number in self.looks:
            self._show(number)

    def _decode(self, columns: dict[str, Column], row: int) -> None:
        """Make the text of a header that was not met before, without its seal."""
        heap = self.looks[self._event_before().process]
        start, lead = int(columns["address"][row] - columns["lead"][row]), int(columns["lead"][row])
        told = "; ".join(word.text for word in heap.words(start, start + lead, start))
        self._texts[int(columns["word"][row])] = told

    def _event_before(self) -> Event:
        """The event that was carried out last, which is in the block at hand."""
        assert self._block is not None
        row = int(self.raw.row) - 1
        return next(iter(self._block[row : row + 1]))

    # ---- what it found ----

    def places(self, lives: Lives) -> Places:
        """Return where the blocks of `lives`, which are this trace's, lay, as far as the replay went."""
        none = np.empty(0, np.uint64)
        made = {name: np.concatenate([none, *(each[name] for each in self._notes)]) for name in _COLUMNS}
        texts = {word: number for number, word in enumerate(self._texts)}
        words, inverse = np.unique(made["word"], return_inverse=True)
        named = np.array([texts.get(word, 0) for word in words.tolist()], np.uint16)
        made["word"] = named[inverse] if len(words) else np.zeros(0, np.uint16)
        own = np.flatnonzero(~lives.copied)[: len(made["word"])]
        whole = {name: np.zeros(len(lives), column.dtype) for name, column in made.items()}
        for name, column in whole.items():
            column[own] = made[name]
        for rows in _forks(lives, self.done):
            for column in whole.values():
                column[rows] = column[lives.before[rows].astype(np.int64) - 1]
        return Places(
            whole["address"].astype(np.uint64),
            whole["lead"].astype(np.uint32),
            whole["span"].astype(np.uint64),
            whole["word"],
            tuple(self._texts.values()),
        )

    def copied_pages(self, number: int) -> Column:
        """Return the addresses of the pages of a process that are copies now."""
        return self._copies.pages(number)

    def copied(self) -> Copied:
        """Return which pages were copied by writes after forks, as far as the replay went."""
        return self._copies.copied(self.trace.header.events)


def _forks(lives: Lives, done: int) -> Iterator[slice]:
    """Yield the rows of each fork that was carried out; a fork's are copies of rows before them."""
    copies = np.flatnonzero(lives.copied & (lives.born < done))
    if len(copies):
        for born in np.unique(lives.born[copies]).tolist():
            yield slice(*np.searchsorted(lives.born, [born, born + 1]).tolist())
