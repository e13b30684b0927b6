"""An opponent on the model: the replay carries out what the adversary asks for."""

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Spec
from heaplab.kernel import Kernel
from heaplab.lab.adversaries.opponent import Addresses, Opponent, Over
from heaplab.lab.replay import Replay
from heaplab.native.stage import SLOT_ADDRESS
from heaplab.traces import Block as Events
from heaplab.traces import Trace


class ModelOpponent(Opponent):
    """A design on a new machine; the replay writes payloads and verifies them, as in any run."""

    def __init__(
        self,
        spec: Spec,
        *,
        seed: int,
        verify: bool,
        payload: bool,
        ram: int | str,
        max_mems: int | None,
        most_events: int,
    ) -> None:
        super().__init__(most_events)
        kernel = Kernel(ram=ram, seed=seed)
        self.replay = Replay(
            Trace.of([], "duel"), spec, kernel, verify=verify and payload, payload=payload, max_mems=max_mems
        )

    @property
    def live(self) -> int:
        """Payload bytes that are live."""
        return int(self.replay.raw.now.live)

    @property
    def heap(self) -> int:
        """Bytes of address space that the allocator has from the kernel."""
        return int(self.replay.raw.now.heap)

    @property
    def resident(self) -> int:
        """Bytes of frames."""
        return int(self.replay.raw.now.resident)

    def _play(self, events: Events) -> None:
        self.replay.feed(events)
        if self.replay.end is not None:
            raise Over

    def _address(self, slot: int) -> int:
        return int(self.replay.slots(0)["address"][slot] & SLOT_ADDRESS)

    def _addresses(self, slots: npt.NDArray[np.int64]) -> Addresses:
        return (self.replay.slots(0)["address"][slots] & SLOT_ADDRESS).astype(np.int64)
