"""The judge of an attack: it plays the attack on a heap, and knows what the heap must not do.

The judge knows the live blocks, what is written in each, and the program's own memory: a mapping and the
stack, filled with bytes that nobody but the program may change.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from heaplab.allocators import Allocator, Spec, State
from heaplab.allocators.parts.seal import TAG, Seal
from heaplab.errors import HeapCorruption, OutOfFuel, ProcessDied
from heaplab.kernel import Kernel
from heaplab.process import Process
from heaplab.testing.attacks.attack import WORD, Attack, Forge, FreeWrong, Place, Spill, Step, Value, Write
from heaplab.testing.steps import Free, Malloc, Realloc


class Outcome(StrEnum):
    """What came of an attack."""

    NAMED = "named"  # HeapCorruption
    HARMLESS = "harmless"  # all steps, check and walk went on, and nothing was lost
    REFUSED = "refused"  # as harmless, but a request was refused though there is memory
    OVERLAP = "overlap"  # two live blocks overlap
    OUTSIDE = "outside"  # a block outside the heap's memory, or not at a multiple of 16
    WROTE = "wrote"  # the heap changed bytes of a live block, or of the program's own memory
    UNMAPPED = "unmapped"  # memory of the program's is no longer mapped
    LOST = "lost"  # check and walk end without an error, but the walk does not show every live block
    SEGV = "segv"  # the process was killed
    HANG = "hang"  # more references than FUEL, or a call that never ended
    ERROR = "error"  # the heap raised something else


#: what a heap may answer to a mistake
SOUND: Final = frozenset({Outcome.NAMED, Outcome.HARMLESS, Outcome.REFUSED})

#: memory references that one attack may make; sound heaps make a few thousand
FUEL: Final = 200_000

_CANARY_PAGES: Final = 2


@dataclass(frozen=True)
class Span:
    """Bytes that only the program may change."""

    address: int
    content: bytes


class _Verdict(Exception):
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Ground:
    """A process with a heap, and with memory of its own; each attack is played in a fork of it.

    >>> from heaplab.allocators import parse
    >>> from heaplab.testing.attacks.attack import Attack, FreeWrong, Place, Value
    >>> from heaplab.testing.steps import Free, Malloc
    >>> ground = Ground(parse("freelist"))
    >>> str(ground.play(Attack((Malloc(0, 100), Free(0), FreeWrong(Value(Place.BLOCK, 0, 0))))))
    'named'
    """

    def __init__(self, spec: Spec, ram: str = "16 MiB") -> None:
        self.process = process = Kernel(ram=ram, seed=1).init.fork()
        page = process.page_size
        self.mapping = process.mmap(_CANARY_PAGES * page)
        # what is mapped before the heap is made is the program's
        self.foreign = [_range(line) for line in process.maps().splitlines()]
        self.stack = next(_range(line)[1] for line in process.maps().splitlines() if "[stack]" in line) - page
        self.canaries = [
            Span(self.mapping, b"\xc5" * _CANARY_PAGES * page),
            Span(self.stack, b"\xc7" * 512),
        ]
        for span in self.canaries:
            process.write(span.address, span.content)
        self.heap = spec.create(process)

    def play(self, attack: Attack) -> Outcome:
        """Return what comes of an attack.  One that loops without a reference does not return."""
        child = self.process.fork()
        child.context.fuel = FUEL
        outcome = _Trial(self, self.heap.attach(child)).play(attack)
        if child.state == "R":
            child.exit()
        self.process.wait()
        return outcome


def _range(line: str) -> tuple[int, int]:
    """The addresses of a line of /proc/PID/maps."""
    start, end = line.split(maxsplit=1)[0].split("-")
    return int(start, 16), int(end, 16)


class _Trial:
    """One attack on one heap."""

    def __init__(self, ground: Ground, heap: Allocator) -> None:
        self.ground = ground
        self.heap = heap
        self.process: Process = heap.process
        #: the last address of each slot, and how many bytes its block had
        self.block: dict[int, tuple[int, int]] = {}
        #: of each live slot what is written in its block: all of a small one, both ends of a large one
        self.live: dict[int, list[Span]] = {}
        self.refused = False

    def play(self, attack: Attack) -> Outcome:
        """Return what comes of the attack."""
        try:
            for step in attack.steps:
                self._do(step)
            self.heap.check()
            self._judge_walk()
            outcome = Outcome.REFUSED if self.refused else Outcome.HARMLESS
        except _Verdict as verdict:
            outcome = verdict.outcome
        except HeapCorruption:
            outcome = Outcome.NAMED
        except OutOfFuel:
            outcome = Outcome.HANG
        except ProcessDied:
            return Outcome.SEGV
        except Exception:  # whatever else an allocator raises is an outcome too
            outcome = Outcome.ERROR
        if outcome not in SOUND:
            return outcome
        self.process.context.fuel = None
        # an error that is named after the damage was done is no better than the damage
        try:
            self._judge_content(
                [*self.ground.canaries, *(span for spans in self.live.values() for span in spans)]
            )
        except _Verdict as verdict:
            return verdict.outcome
        return outcome

    # ---- steps ----

    def _do(self, step: Step) -> None:
        heap = self.heap
        match step:
            case Malloc(slot, size):
                self._born(slot, heap.malloc(size), size)
            case Free(slot) if slot in self.live:
                self._judge_content(self.live.pop(slot))
                heap.free(self.block[slot][0])
            case Realloc(slot, size) if slot in self.live:
                # a realloc that names an error may have freed the block already
                old = self.live.pop(slot)
                self._judge_content(old)
                p = heap.realloc(self.block[slot][0], size)
                if p:
                    self._judge_place(p, size)
                    self._judge_content([Span(p, old[0].content[:size])])
                else:
                    self.live[slot] = old
                self._born(slot, p, size)
            case Write(at) | Spill(at) | Forge(at):
                address = self._address(at)
                if address is not None and self._may_write(address, 8):
                    data = self._data(step, address)
                    if self._may_write(address, len(data)):
                        self._write(address, data)
            case FreeWrong(pointer):
                wrong = (self._address(pointer) or 0) & WORD
                if wrong and wrong not in {self.block[slot][0] for slot in self.live}:
                    heap.free(wrong)

    def _address(self, value: Value, there: int = 0) -> int | None:
        """The number that a value stands for; None when it speaks of a slot that never had a block."""
        match value.place:
            case Place.BLOCK | Place.BEHIND:
                if value.slot not in self.block:
                    return None
                base = self.block[value.slot][0]
                if value.place is Place.BEHIND:
                    if value.slot not in self.live:
                        return None
                    base += self.heap.usable_size(base)
            case Place.METADATA:
                words = self._metadata()
                if not words:
                    return None
                base = words[value.slot % len(words)]
            case Place.ROOT:
                base = self.heap.root
            case Place.END:
                base = self.process.sbrk(0)
            case Place.MAPPING:
                base = self.ground.mapping
            case Place.STACK:
                base = self.ground.stack
            case Place.THERE:
                if not there:  # a pointer that is freed is not written anywhere
                    return None
                base = self.process.load64(there)
            case Place.NOWHERE:
                base = 0
        return base + value.offset

    def _metadata(self) -> list[int]:
        """The addresses of all words that are not zero in the heap's metadata outside the break's memory."""
        process, end = self.process, self.process.sbrk(0)
        words: list[int] = []
        for span in self.heap.walk():
            if span.state is State.METADATA and not self.heap.root <= span.start < end:
                content = memoryview(process.read(span.start, span.size)).cast("Q")
                words += [span.start + 8 * n for n, word in enumerate(content) if word]
        return words

    def _data(self, step: Write | Spill | Forge, address: int) -> bytes:
        """The bytes that a step writes at an address."""
        if isinstance(step, Spill):
            return step.data
        value = self._address(step.word if isinstance(step, Write) else step.tag, there=address)
        if value is None:
            return b""
        if isinstance(step, Forge):
            value = Seal()((address + step.named) & WORD, value & TAG)
        return (value & WORD).to_bytes(8, "little")

    def _may_write(self, address: int, size: int) -> bool:
        """Whether the program itself survives writing there, and does not spoil its own other memory."""
        return self._is_mapped(address, size) and not self._is_foreign(address, size)

    def _is_mapped(self, address: int, size: int) -> bool:
        page = self.process.page_size
        start = address // page * page
        if address < 0 or address + size > 1 << 47:
            return False
        try:
            self.process.mincore(start, address + size - start)
        except OSError:
            return False
        return True

    def _is_foreign(self, address: int, size: int) -> bool:
        return any(start < address + size and address < end for start, end in self.ground.foreign)

    def _write(self, address: int, data: bytes) -> None:
        """The program writes; what it destroys of its own live blocks is its own doing."""
        self.process.write(address, data)
        for slot, spans in self.live.items():
            self.live[slot] = [
                Span(span.address, self.process.read(span.address, len(span.content)))
                if span.address < address + len(data) and address < span.address + len(span.content)
                else span
                for span in spans
            ]

    # ---- what must hold ----

    def _born(self, slot: int, p: int, size: int) -> None:
        if not p:
            self.refused = True
            return
        self._judge_place(p, size)
        self.block[slot] = p, size
        byte = bytes([slot % 128 + 64])
        spans = [(p, size)] if size <= 8192 else [(p, 1024), (p + size - 64, 64)]
        self.live[slot] = [Span(start, byte * length) for start, length in spans]
        for span in self.live[slot]:
            self.process.write(span.address, span.content)

    def _judge_place(self, p: int, size: int) -> None:
        """A new block must lie in the heap's memory, apart from all other live blocks."""
        size = max(size, 1)
        in_heap = self.heap.root <= p and p + size <= self.process.sbrk(0)
        if p % 16 or not (in_heap or (self._is_mapped(p, size) and not self._is_foreign(p, size))):
            raise _Verdict(Outcome.OUTSIDE)
        for slot in self.live:
            address, length = self.block[slot]
            if address < p + size and p < address + length:
                raise _Verdict(Outcome.OVERLAP)

    def _judge_content(self, spans: list[Span]) -> None:
        """Bytes that are the program's must be there, and as the program wrote them."""
        for span in spans:
            try:
                found = self.process.read(span.address, len(span.content))
            except ProcessDied:
                raise _Verdict(Outcome.UNMAPPED) from None
            if found != span.content:
                raise _Verdict(Outcome.WROTE)

    def _judge_walk(self) -> None:
        """The walk must show every live block, with room for what was asked."""
        usable = {span.payload: span.usable for span in self.heap.walk() if span.state.is_live}
        for slot in self.live:
            address, size = self.block[slot]
            if usable.get(address, -1) < size:
                raise _Verdict(Outcome.LOST)
