"""The raw files that the preloaded recorder leaves; csrc/record/recorder.h is their definition."""

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct("<8s2I4Q2I16s")
_RECORD = np.dtype("<u8").itemsize * 3
_HEADER_RECORDS = _HEADER.size // _RECORD
_MAGIC = b"heaprec1"
_BATCH = 65_536
_ADDRESS_BITS = 48
_ADDRESS_MASK = np.uint64((1 << _ADDRESS_BITS) - 1)


class Kind(IntEnum):
    """What a raw record says."""

    MALLOC = 1
    CALLOC = 2
    ALIGNED = 3
    FREE = 4
    REALLOC_BEGIN = 5
    REALLOC_END = 6
    EXIT = 7


Record = tuple[int, int, int, int, int, int, int]
"""index in the log, time (nanoseconds of CLOCK_MONOTONIC), kind, thread, address, size, align"""


@dataclass(frozen=True, eq=False)
class Image:
    """One program run by one process: what it says of itself, and its records.

    pid, birth: name the process, together.  started: when the file was begun; with forked_from, which is
    the parent's `started`, it tells a forked image from one that exec began (0).  fork_index: how many
    records the parent's log had then.  failed: errno of what ended the recording early.
    """

    pid: int
    parent_pid: int
    started: int
    birth: int
    forked_from: int
    fork_index: int
    failed: int
    program: str
    words: npt.NDArray[np.uint64]

    @classmethod
    def open(cls, path: Path) -> "Image | None":
        """Return the image in `path`, mapped; None when its program died before the file had a header.

        Raises: OSError ENOSPC when there was no room for even a header.
        """
        if path.stat().st_size < _HEADER.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        words = np.memmap(path, np.dtype("<u8"), mode="r")
        magic, pid, parent, started, birth, forked_from, fork_index, failed, _, program = _HEADER.unpack(
            words[: _HEADER_RECORDS * 3].tobytes()
        )
        if magic != _MAGIC:
            return None
        name = program.rstrip(b"\0").decode(errors="replace")
        records = words[_HEADER_RECORDS * 3 : len(words) // 3 * 3].reshape(-1, 3)
        return cls(pid, parent, started, birth, forked_from, fork_index, failed, name, records)

    def last_time(self) -> int:
        """When the last finished record was made; `started` if there is none.  Cost: reads from the end."""
        for end in range(len(self.words), 0, -_BATCH):
            times = self.words[max(0, end - _BATCH) : end, 0]
            if times.any():
                return int(times.max() >> np.uint64(8))
        return self.started

    def records(self) -> Iterator[Record]:
        """The finished records in order; times never fall (a thread may be late in reading the clock)."""
        latest = self.started
        for start in range(0, len(self.words), _BATCH):
            batch = np.asarray(self.words[start : start + _BATCH])
            index = np.flatnonzero(batch[:, 0])
            if len(index) == 0:
                continue
            first, second, third = batch[index].T
            time = np.maximum.accumulate(np.maximum(first >> np.uint64(8), np.uint64(latest)))
            latest = int(time[-1])
            yield from zip(
                (index + start).tolist(),
                time.tolist(),
                (first & np.uint64(0xFF)).tolist(),
                (second >> np.uint64(_ADDRESS_BITS)).tolist(),
                (second & _ADDRESS_MASK).tolist(),
                (third & _ADDRESS_MASK).tolist(),
                (np.uint64(1) << (third >> np.uint64(_ADDRESS_BITS))).tolist(),
                strict=True,
            )


def open_images(directory: Path) -> list[Image]:
    """Return the images recorded in `directory`, in the order in which they began.

    Raises: OSError, as the recorder met it, when a recording was cut short; by a full disk for example.
    """
    images = [image for path in directory.glob("*.rec") if (image := Image.open(path)) is not None]
    for image in images:
        if image.failed:
            raise OSError(image.failed, os.strerror(image.failed))
    return sorted(images, key=lambda image: image.started)
