"""A real allocator as an opponent: in a process of its own, which gets batches of requests (the player)."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.lab.adversaries.opponent import Addresses, Opponent, Over
from heaplab.native.peers import Peer
from heaplab.native.playing import FINISHED, End, end_of
from heaplab.native.stage import PAGE, SLOT_ADDRESS, Partner, Stage
from heaplab.traces import Block as Events
from heaplab.traces import Op, Trace

#: the most events of one batch
_BATCH = 8192


@dataclass(frozen=True)
class Ending:
    """How a duel with a real allocator ended: events of its trace, and peaks in bytes."""

    end: End
    events: int
    peak_live: int
    peak_heap: int
    peak_resident: int


class NativeOpponent(Opponent):
    """A real allocator, from the `with` to its end."""

    def __init__(self, peer: Peer, most_events: int, most_blocks: int, max_seconds: float | None) -> None:
        super().__init__(most_events)
        self._peer = peer
        self._most_blocks = most_blocks
        self._max_seconds = max_seconds
        self._partner: Partner

    def __enter__(self) -> Self:
        batch = Events.build(_BATCH, op=Op.MALLOC, id=np.arange(_BATCH))
        with ExitStack() as stack:
            self._stage = Stage(Trace.of_blocks([batch], "batch"), self._most_blocks)
            stack.callback(self._stage.close)
            peer = self._peer
            self._partner = stack.enter_context(
                self._stage.duel(peer.library, aligned=peer.aligned, natural=peer.natural)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    @property
    def live(self) -> int:
        """Payload bytes that are live."""
        return int(self._partner.raw.live)

    @property
    def heap(self) -> int:
        """Bytes of address space that the allocator has from the kernel."""
        return int(self._partner.raw.heap) * PAGE

    @property
    def resident(self) -> int:
        """Bytes of frames, as they were looked at last."""
        return int(self._partner.raw.resident) * PAGE

    def finish(self) -> Ending:
        """End the allocator's process, unless it has ended, and return what it left behind."""
        played = self._partner.finish(self._max_seconds)
        raw = played.raw
        rows = int(raw.row)
        self._stage.trace = Trace.of_blocks(self.trace_blocks(self._events), "duel")
        end = end_of(self._stage, played, self._max_seconds)
        return Ending(
            end,
            rows + (end.outcome != FINISHED),
            int(raw.peak_live),
            int(raw.peak_heap) * PAGE,
            int(raw.peak_resident) * PAGE,
        )

    def _play(self, events: Events) -> None:
        if self._used > self._most_blocks:
            raise UsageError(
                f"the adversary wants more than {self._most_blocks:,} live blocks of a real allocator: "
                "give max_blocks"
            )
        for start in range(0, len(events), _BATCH):
            if not self._partner.play(events[start : start + _BATCH], self._max_seconds):
                raise Over

    def _address(self, slot: int) -> int:
        return int(self._partner.slots["address"][slot] & SLOT_ADDRESS)

    def _addresses(self, slots: npt.NDArray[np.int64]) -> Addresses:
        return (self._partner.slots["address"][slots] & SLOT_ADDRESS).astype(np.int64)
