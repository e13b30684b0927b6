"""The raw files that the preloaded recorder leaves; csrc/record/recorder.h is their definition."""

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
_MAGIC = b"heaprec2"
_BATCH = 65_536
_ADDRESS_BITS = 48
_ADDRESS_MASK = (1 << _ADDRESS_BITS) - 1
_THREAD_MASK = 0xFFFF


class Kind(IntEnum):
    """What a raw record says."""

    MALLOC = 1
    CALLOC = 2
    ALIGNED = 3
    FREE = 4
    REALLOC_BEGIN = 5
    REALLOC_END = 6
    EXIT = 7
    THREAD_END = 8
    WAITED = 9
    FRAME = 10
    SITE = 11


@dataclass(frozen=True)
class Clock:
    """The clock of raw files: how its times become nanoseconds of CLOCK_MONOTONIC.

    >>> Clock.of(1000, 500, 3000).at(250)
    2000
    """

    origin: int = 0
    step: float = 1.0

    @classmethod
    def of(cls, began: int, ended: int, ended_nanoseconds: int) -> "Clock":
        """Return the clock that showed 0 at `began` nanoseconds, and `ended` at `ended_nanoseconds`."""
        return cls(began, (ended_nanoseconds - began) / max(ended, 1))

    def at(self, time: int) -> int:
        """Return `time` in nanoseconds.  Exact to a nanosecond for 100 days."""
        return int(self.origin + np.int64(time * self.step))

    def nanoseconds(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return `times` in nanoseconds."""
        return (times * self.step).astype(np.int64) + self.origin


@dataclass(frozen=True, eq=False)
class Records:
    """Finished records of one log, in order, as columns.

    index: their places in the log.  time: nanoseconds of CLOCK_MONOTONIC, never falling.
    """

    index: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    thread: npt.NDArray[np.int64]
    address: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    align: npt.NDArray[np.int64]

    def __getitem__(self, rows: slice) -> "Records":
        return Records(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Image:
    """One program run by one process: what it says of itself, and its records.

    process: its number, which no other process has.  started: when the file was begun; with forked_from,
    which is the parent's `started`, it tells a forked image from one that exec began (0).  fork_index: how
    many records the parent's log had then.  thread: the number of the thread that forked, in both logs; None
    if it had none.  failed: errno of what ended the recording early.  number: its own among all images.
    """

    pid: int
    parent_pid: int
    started: int
    process: int
    forked_from: int
    fork_index: int
    thread: int | None
    failed: int
    program: str
    words: npt.NDArray[np.uint64]
    clock: Clock = Clock()
    number: int = 0

    @classmethod
    def open(cls, path: Path, clock: Clock) -> "Image | None":
        """Return the image in `path`, mapped; None when its program died before the file had a header."""
        if path.stat().st_size < _HEADER.size:
            return None
        words = np.memmap(path, np.dtype("<u8"), mode="r")
        magic, pid, parent, started, process, forked_from, fork_index, failed, thread, program = (
            _HEADER.unpack(words[: _HEADER_RECORDS * 3].tobytes())
        )
        if magic != _MAGIC:
            return None
        return cls(
            pid=pid,
            parent_pid=parent,
            started=clock.at(started),
            process=process,
            forked_from=clock.at(forked_from) if forked_from else 0,
            fork_index=fork_index,
            thread=(thread - 1) & _THREAD_MASK if thread else None,
            failed=failed,
            program=program.rstrip(b"\0").decode(errors="replace"),
            words=words[_HEADER_RECORDS * 3 : len(words) // 3 * 3].reshape(-1, 3),
            clock=clock,
            number=int(path.stem),
        )

    def last(self) -> tuple[int, int]:
        """When the last finished record was made, and its kind; `started` and 0 if there is none.

        Cost: reads from the end.
        """
        for end in range(len(self.words), 0, -_BATCH):
            first = self.words[max(0, end - _BATCH) : end, 0]
            if len(made := first[first != 0]):
                return self.clock.at(int(made.max() >> np.uint64(8))), int(made[-1]) & 0xFF
        return self.started, 0

    def waits(self) -> list[tuple[int, int]]:
        """The processes that this one waited for: when, and the pid of each.  Cost: reads the whole log."""
        return [
            (int(time), int(pid))
            for records in self.batches()
            for time, pid in zip(
                *(column[records.kind == Kind.WAITED] for column in (records.time, records.address)),
                strict=True,
            )
        ]

    def thread_ends(self) -> list[tuple[int, int]]:
        """The threads that ended: the place of the last record of each, in order, and its number.

        A thread whose end is the end of the process, which then calls exit, is not among them.  A number that
        came round again in a log of more than 65,536 threads has the last place of them all.
        Cost: reads the whole log, some 5 ns a record.
        """
        ending: set[int] = set()
        exiting: set[int] = set()
        last = np.zeros(_THREAD_MASK + 1, np.int64)
        for records in self.batches():
            ending.update(records.thread[records.kind == Kind.THREAD_END].tolist())
            exiting.update(records.thread[records.kind == Kind.EXIT].tolist())
            last[records.thread] = records.index  # of equal threads the last one stays
        return sorted((int(last[thread]), thread) for thread in ending - exiting)

    def batches(self) -> Iterator[Records]:
        """The finished records in order, up to 65,536 at a time."""
        latest = self.started
        for start in range(0, len(self.words), _BATCH):
            batch = np.asarray(self.words[start : start + _BATCH]).view(np.int64)
            index = np.flatnonzero(batch[:, 0])
            if len(index) == 0:
                continue
            first, second, third = batch[index].T
            # A thread may be late in reading the clock: the order is the log's
            time = np.maximum.accumulate(np.maximum(self.clock.nanoseconds(first >> 8), latest))
            latest = int(time[-1])
            yield Records(
                index=index + start,
                time=time,
                kind=first & 0xFF,
                thread=second >> _ADDRESS_BITS & _THREAD_MASK,
                address=second & _ADDRESS_MASK,
                size=third & _ADDRESS_MASK,
                align=1 << (third >> _ADDRESS_BITS),
            )


def open_images(directory: Path, clock: Clock) -> list[Image]:
    """Return the images recorded in `directory`, in the order in which they began."""
    images = [image for path in directory.glob("*.rec") if (image := Image.open(path, clock)) is not None]
    return sorted(images, key=lambda image: image.started)
