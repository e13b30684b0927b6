"""A few requests on several designs: what each heap is after each request, in the order of addresses and in
the free structure's own.
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from heaplab.allocators import Allocator, Entry, Spec, State, parse
from heaplab.errors import OutOfFuel, UsageError
from heaplab.kernel import Kernel
from heaplab.lab.moments import Label
from heaplab.traces import Event, Op
from heaplab.traces.script import parse_script
from heaplab.units import counted
from heaplab.views.heap import BlockView, HeapView, heap_view

#: of the film's machine; committed as it is touched
RAM = "1 GiB"
#: references that one request may make: more is a loop
MOST_MEMS = 1_000_000


@dataclass(frozen=True)
class Still:
    """The heap after a request; the first still of a reel is the empty heap, before any.

    request: in words.  process: that made it, in the film's numbers.  address: that it got, 0 for none.
    mems, faults: that it took, the writing of the payload included in the faults alone.
    view: the heap of that process afterwards.  problem: a sentence when something went wrong, else "".
    over: nothing can come after it.
    """

    request: str
    process: int
    address: int
    mems: int
    faults: int
    view: HeapView = field(repr=False)
    problem: str = ""
    over: bool = False


@dataclass(frozen=True)
class Reel:
    """One design's stills.  It ends where a request broke the heap, killed the process or never returned."""

    allocator: str
    stills: tuple[Still, ...]

    def __repr__(self) -> str:
        return f"<Reel of {self.allocator}: {counted(len(self.stills), 'still')}>"


@dataclass(frozen=True)
class Film:
    """The same requests on several designs, still by still.

    >>> print(film(["freelist"], "a0 400; a1 100; f0"), end="")
    freelist, in Python: ...
      at first
        heap  {88} (135,072) {8}
        free  135,072 at +0x58
      malloc 0 400   13 mems, 0 faults
        heap  {88} [0: 416] (134,656) {8}
        free  134,656 at +0x1f8
      malloc 1 100   13 mems, 0 faults
        heap  {88} [0: 416] [1: 112] (134,544) {8}
        free  134,544 at +0x268
      free 0   12 mems, 0 faults
        heap  {88} (416) [1: 112] (134,544) {8}
        free  416 at +0x58  134,544 at +0x268
    """

    requests: tuple[str, ...]
    reels: tuple[Reel, ...]

    def __repr__(self) -> str:
        return f"<Film of {self.title}>"

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"{' against '.join(reel.allocator for reel in self.reels)}: {'; '.join(self.requests)}"

    def text(self, width: int = 80) -> str:
        """Return all stills as text, no line wider than `width` if words allow."""
        return "\n".join(line for reel in self.reels for line in _reel_lines(reel, width)) + "\n"

    def __str__(self) -> str:
        return self.text()


#: what the marks of the text mean
LEGEND = (
    "heap: by address: {metadata} [block: bytes] (free) <cached>; | is a gap",
    "free: in the design's own order: bytes, and the place in the heap",
    "bytes are the whole block's: header, request, rounding; mems: memory references",
)


def _reel_lines(reel: Reel, width: int) -> Iterator[str]:
    first = reel.stills[0].view
    structure = f": {first.structure}" if first.structure else ""
    language = {"python": ", in Python", "c": ", in C"}.get(first.language, "")
    yield from _folded("", f"{reel.allocator}{language}{structure}".split(), width)
    for still in reel.stills:
        head = still.request or "at first"
        cost = f"   {counted(still.mems, 'mem')}, {counted(still.faults, 'fault')}" if still.request else ""
        yield f"  {head}{cost}"
        yield from _folded("    heap  ", heap_words(still.view), width)
        if still.view.structure:
            yield from _folded("    free  ", free_words(still.view), width)
        if still.problem:
            yield from _folded("    !     ", still.problem.split(" "), width)
    yield ""


def heap_words(view: HeapView) -> list[str]:
    """Return the heap in address order, a word for each span.

    >>> from heaplab import allocators
    >>> from heaplab.kernel import Kernel
    >>> heap = allocators.create("freelist", Kernel(ram="1 MiB").init.fork())
    >>> heap_words(heap_view(heap))
    ['{88}', '(135,072)', '{8}']
    """
    words = []
    for at, region in enumerate(view.regions):
        words += ["|"] if at else []
        inside = [block for block in view.blocks if region.start <= block.start < region.end]
        end = region.start
        for block in inside:
            words += ["|"] if block.start > end else []
            words.append(block_word(block))
            end = block.end
    return _together(words) or ["nothing"]


def _together(words: Iterable[str]) -> list[str]:
    """Write a row of three equal words or more as one.

    >>> _together(["(16)", "(16)", "(16)", "[16]", "[16]"])
    ['3 x (16)', '[16]', '[16]']
    """
    told: list[str] = []
    for word, run in groupby(words):
        count = len(list(run))
        told += [f"{count} x {word}"] if count > 2 else [word] * count
    return told


def block_word(block: BlockView) -> str:
    """Return a span in a word: {metadata} [allocated] (free) <cached>."""
    left, right = {
        State.METADATA: ("{", "}"),
        State.FREE: ("(", ")"),
        State.CACHED: ("<", ">"),
    }.get(block.state, ("[", "]"))
    name = f"{block.label.slot}: " if block.label is not None else ""
    return f"{left}{name}{block.size:,}{right}"


def free_words(view: HeapView) -> list[str]:
    """Return the free structure in its own order: bytes and place of each block, its group before them."""
    words: list[str] = []
    for group, entries in groupby(view.free, key=lambda entry: entry.group):
        words += [f"{group}:"] if group else []
        for run in _rows(list(entries)):
            first = run[0]
            told = f"{first.size:,} at {view.place(first.start)}{_way(first)}"
            words.append(f"{len(run)} x {told} and on" if len(run) > 1 else told)
    if view.unlisted:
        words.append(f"{view.unlisted:,} in no block yet")
    return words or ["none"]


def _way(entry: Entry) -> str:
    """The place of an entry in its structure, unless it is but a number in a row."""
    last = entry.place.rpartition(", ")[2]
    return "" if last.isdecimal() else f" ({last})"


def _rows(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Put three entries or more together that are equally large and lie side by side, in this order."""
    run: list[Entry] = []
    for entry in entries:
        if run and (entry.size != run[0].size or entry.start != run[-1].start + run[-1].size):
            yield from [run] if len(run) > 2 else [[each] for each in run]
            run = []
        run.append(entry)
    yield from [run] if len(run) > 2 else [[each] for each in run]


def _folded(head: str, words: Sequence[str], width: int) -> Iterator[str]:
    """Yield the words in lines that are not wider than `width`, the first one begun by `head`."""
    line, first = head, True
    for word in words:
        apart = "" if first else "  " if head.strip() == "free" else " "
        if not first and len(line) + len(apart) + len(word) > width:
            yield line
            line, apart = " " * len(head), ""
        line, first = f"{line}{apart}{word}", False
    yield line


def film(
    specs: Sequence[str | Spec], requests: str | Sequence[Event], language: str = "python", *, seed: int = 1
) -> Film:
    """Carry the requests out on each design, on a new machine each, and keep what can be seen after each.

    specs: designs, or their texts, in `language`.  requests: events, or a script as
    `heaplab.traces.script` reads it: "a0 400; a1 100; f0".  Payloads are written, as a program would.
    Cost: one walk for each request.
    Raises: UsageError for a script that nobody can read, or that uses a block nobody allocated.

    >>> shown = film(["freelist:fit=first", "freelist:fit=best"], "a0 400; f0; a1 100")
    >>> [len(reel.stills) for reel in shown.reels], shown.requests
    ([4, 4], ('malloc 0 400', 'free 0', 'malloc 1 100'))
    """
    events = parse_script(requests) if isinstance(requests, str) else list(requests)
    designs = [parse(spec, language) if isinstance(spec, str) else spec for spec in specs]
    if not designs:
        raise UsageError("there is nothing to show: name at least one design")
    reels = [Reel(str(spec), tuple(_Stage(spec, seed).play(events))) for spec in designs]
    return Film(tuple(map(_told, events)), tuple(reels))


class _Stage:
    """One design on a machine of its own, its processes, and what is known of their blocks."""

    def __init__(self, spec: Spec, seed: int) -> None:
        process = Kernel(ram=RAM, seed=seed).init.fork()
        self.heaps: dict[int, Allocator] = {0: spec.create(process)}
        #: the blocks of each process: by slot, address and label, freed ones too
        self.known: dict[int, dict[int, tuple[int, Label]]] = {0: {}}
        self.live: dict[int, set[int]] = {0: set()}
        self.seen: HeapView = heap_view(self.heaps[0])

    def play(self, events: Sequence[Event]) -> Iterator[Still]:
        yield Still("", 0, 0, 0, 0, self.seen)
        for number, event in enumerate(events):
            yield (still := self._do(number, event))
            if still.over:
                return

    def _do(self, number: int, event: Event) -> Still:
        heap = self.heaps.get(event.process)
        if heap is None:
            gone = event.process in self.known
            why = "has exited" if gone else "is not there: `fork` makes it"
            raise UsageError(f"{_told(event)}: process {event.process} {why}")
        process = heap.process
        loads, stores, faults = process.context.loads, process.context.stores, process.minflt
        address, problem, over = 0, "", True
        process.context.fuel = MOST_MEMS
        try:
            address = self._carry_out(number, event, heap)
            over = False
            if event.op in _GIVES and not address and not _frees(event):
                problem = _refusal(event, process.errno)
        except UsageError:
            raise
        except OutOfFuel:
            problem = f"it does not return: it has made {MOST_MEMS:,} memory references"
        except Exception as error:  # an allocator of somebody's own may raise what it likes
            problem = f"{type(error).__name__}: {error}"
        finally:
            process.context.fuel = None
        mems = process.context.loads + process.context.stores - loads - stores
        if process.state in "ZX":
            self.seen = replace(self.seen, regions=(), blocks=(), free=(), pages=())
        else:
            self.seen = heap_view(heap, self._labels(event.process))
        faults = process.minflt - faults
        return Still(_told(event), event.process, address, mems, faults, self.seen, problem, over)

    def _carry_out(self, number: int, event: Event, heap: Allocator) -> int:
        process, known, live = heap.process, self.known[event.process], self.live[event.process]
        if event.op == Op.FORK:
            child = process.fork()
            self.heaps[event.id] = heap.attach(child)
            self.known[event.id], self.live[event.id] = known.copy(), live.copy()
            return 0
        if event.op == Op.EXIT:
            process.exit()
            del self.heaps[event.process]
            return 0
        if event.op in (Op.FREE, Op.REALLOC) and event.id not in known:
            raise UsageError(f"{_told(event)}: nobody has allocated block {event.id}")
        if event.op not in (Op.FREE, Op.REALLOC) and event.id in live:
            raise UsageError(f"{_told(event)}: block {event.id} is live: give the new block another number")
        if event.op == Op.FREE:
            live.discard(event.id)
            heap.free(known[event.id][0])
            return 0
        address = _allocate(heap, event, known)
        if _frees(event):
            live.discard(event.id)
        if address:
            known[event.id] = address, Label(event.id, event.size, number, event.thread, event.process)
            live.add(event.id)
            process.fill(address, 0x5A, event.size)
        return address

    def _labels(self, number: int) -> dict[int, Label]:
        known = self.known[number]
        return {known[slot][0]: known[slot][1] for slot in self.live[number]}


def _told(event: Event) -> str:
    """A request in words: `malloc 0 400`, with its process where that is not the first.

    >>> _told(Event(Op.ALIGNED, 2, 400, 64, process=1)), _told(Event(Op.FORK, 1))
    ('aligned 2 400, at a multiple of 64 (process 1)', 'fork: process 1 begins')
    """
    process = f" (process {event.process})" if event.process else ""
    if event.op == Op.FORK:
        return f"fork: process {event.id} begins{process}"
    if event.op == Op.ALIGNED:
        return f"aligned {event.id} {event.size}, at a multiple of {event.align}{process}"
    return f"{event._replace(process=0, thread=0)}{process}"


def _refusal(event: Event, code: int) -> str:
    """Why the allocator has returned no block."""
    if code == errno.EINVAL and event.op == Op.ALIGNED:
        return f"refused: {event.align} is no power of two (EINVAL)"
    return f"no memory: the allocator returned 0, {errno.errorcode.get(code, 'no errno')}"


def _frees(event: Event) -> bool:
    """Whether a request is realloc to 0 bytes, which frees and returns no block."""
    return event.op == Op.REALLOC and not event.size


#: what returns an address
_GIVES = (Op.MALLOC, Op.CALLOC, Op.REALLOC, Op.ALIGNED)


def _allocate(heap: Allocator, event: Event, known: dict[int, tuple[int, Label]]) -> int:
    if event.op == Op.CALLOC:
        return heap.calloc(1, event.size)
    if event.op == Op.ALIGNED:
        return heap.aligned_alloc(event.align, event.size)
    if event.op == Op.REALLOC:
        return heap.realloc(known[event.id][0], event.size)
    return heap.malloc(event.size)
