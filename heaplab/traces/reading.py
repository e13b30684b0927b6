"""Reading a trace of another format: its pieces, the calls they tell, the events that come of those."""

from collections import Counter
from collections.abc import Iterator

from heaplab.errors import UsageError
from heaplab.traces.addresses import Heaps
from heaplab.traces.calls import Refusal
from heaplab.traces.event import Block
from heaplab.traces.formats.base import Format
from heaplab.traces.streams import Stream

_SHOWN = 40
_LONG = 200


class Reading:
    """One file of another format, read once.

    shown: what to call it in messages.  lenient: what cannot be is skipped or mended, and counted.
    """

    def __init__(self, shown: str, grammar: Format, stream: Stream, *, lenient: bool = False) -> None:
        self._shown = shown
        self._grammar = grammar
        self._stream = stream
        self._lenient = lenient
        self.skipped: Counter[str] = Counter()

    def blocks(self) -> Iterator[Block]:
        """The events, in blocks of any length.

        Cost: about 2 us a piece.  Memory: a batch of pieces, and the live blocks.
        Raises: UsageError naming the piece that cannot be, unless lenient; or the limit that a trace has.
        """
        parse = self._grammar.parse
        heaps = Heaps(
            self._grammar.process_of,
            spawns=self._grammar.spawns,
            lenient=self._lenient,
            unknown=self._grammar.unknown,
            taken=self._grammar.taken,
        )
        self.skipped = heaps.skipped
        follow = heaps.follow
        begun = 0
        for batch in self._grammar.pieces(self._stream, self._shown):
            for number, piece in enumerate(batch, begun + 1):
                try:
                    call = parse(piece)
                    if call is not None:
                        follow(call)
                except Refusal as refusal:
                    self._refuse(number, piece, refusal)
                except (ValueError, IndexError, KeyError):
                    self._refuse(number, piece, self._not_of_the_format(piece))
            begun += len(batch)
            if heaps.rows:
                yield Block.of(heaps.rows)
                heaps.rows.clear()

    def remarks(self) -> Iterator[str]:
        """What the user should know once all was read, one sentence each."""
        for remark in self._grammar.remarks():
            yield f"{self._shown}: {remark}"
        if self.skipped:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.skipped.items()))
            yield f"{self._shown}: skipped or mended {kinds}"

    def _not_of_the_format(self, piece: bytes) -> Refusal:
        if len(piece) > _LONG:
            return Refusal("is too long for a trace")
        return Refusal(f"is no operation{' ' * (self._grammar.shape[:1].isalpha())}{self._grammar.shape}")

    def _refuse(self, number: int, piece: bytes, refusal: Refusal) -> None:
        if self._lenient:
            self.skipped[refusal.kind] += 1
            return
        shown = piece.strip()[:_SHOWN].decode(errors="backslashreplace")
        shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in shown)
        raise UsageError(
            f"{self._shown}: {self._grammar.unit} {number} ({shown}) {refusal.why} "
            "(heaplab trace convert --lenient skips it)"
        )
