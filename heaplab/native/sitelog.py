"""The call stacks in the log of one image: which one each acquisition has, and its frames."""

import numpy as np
import numpy.typing as npt

from heaplab.native.raw import Kind, Records


class SiteLog:
    """The acquisitions of one image, as far as followed: of each, the hash of its stack and its size.

    frames: of each stack, by its hash, the innermost first.
    """

    def __init__(self) -> None:
        self.frames: dict[int, tuple[int, ...]] = {}
        self._parts: dict[tuple[int, int], list[int]] = {}  # by thread and hash: frames that go on
        self._latest: dict[int, int] = {}  # by thread: the hash logged last
        self._hashes: list[npt.NDArray[np.int64]] = []
        self._sizes: list[npt.NDArray[np.uint64]] = []

    def follow(
        self, records: Records, acquisitions: npt.NDArray[np.int64], sizes: npt.NDArray[np.uint64]
    ) -> None:
        """Go through the next records.

        acquisitions: the places among them of those that became an acquisition, ascending.  sizes: of these.
        The recorder logs the stack of each acquisition before it, on its thread.
        """
        logged = np.flatnonzero(records.kind == Kind.SITE)
        self._gather_frames(records)
        hashes = np.zeros(len(acquisitions), np.int64)
        callers = records.thread[acquisitions]
        threads = records.thread[logged]
        for thread in np.unique(callers).tolist():
            mine = callers == thread
            own = records.size[logged[threads == thread]]
            known = np.concatenate(([self._latest.get(thread, 0)], own))
            hashes[mine] = known[np.searchsorted(logged[threads == thread], acquisitions[mine])]
        last, first_of_last = np.unique(threads[::-1], return_index=True)
        latest = records.size[logged[::-1][first_of_last]]
        self._latest.update(zip(last.tolist(), latest.tolist(), strict=True))
        self._hashes.append(hashes)
        self._sizes.append(sizes)

    def _gather_frames(self, records: Records) -> None:
        frames = records.kind == Kind.FRAME
        if not self._parts and not frames.any():
            return
        at = np.flatnonzero(frames | (records.kind == Kind.SITE))
        columns = (records.kind, records.thread, records.address, records.size)
        for kind, thread, address, hashed in zip(*(column[at].tolist() for column in columns), strict=True):
            if kind == Kind.FRAME:
                self._parts.setdefault((thread, hashed), []).append(address)
            elif (thread, hashed) in self._parts:
                self.frames[hashed] = tuple(self._parts.pop((thread, hashed)))

    def acquisitions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Return the hashes and the sizes of all of them; hash 0: no stack was logged."""
        return (
            np.concatenate([np.empty(0, np.int64), *self._hashes]),
            np.concatenate([np.empty(0, np.uint64), *self._sizes]),
        )
