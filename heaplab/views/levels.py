"""How full memory is, as grids over time and address: levels for runs with too many blocks to draw.

            columns: events each
           +------+------+------+
    rows:  |  0   | 12 % |  9 % |     a cell holds, of `events` events times `bytes` bytes, how much is
    bytes  +------+------+------+     spans of live blocks after each event: a sum, exact
    each   | 80 % | 80 % | 97 % |
           +------+------+------+

A coarser level adds up pairs of columns, and pairs of rows within a region.  So every level is exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """A level.

    first: the event that the first column begins with; events: that a column has, the last one too.
    starts: the address that each row begins at; ends: where it ends, `bytes` further or at its region's end.
    sums: columns by rows, of live bytes over events.
    """

    first: int
    events: int
    bytes: int
    starts: Column
    ends: Column
    sums: Column

    @property
    def cells(self) -> npt.NDArray[np.uint8]:
        """How full each cell is, 0 to 255; a cell that has anything has at least 1."""
        most = np.int64(self.events) * np.int64(self.bytes)
        full = (self.sums * 255 + most // 2) // most
        return np.where(self.sums > 0, np.maximum(full, 1), 0).astype(np.uint8)

    def coarser(self) -> "Grid":
        """Return the level above: half as many columns, and half as many rows in each region."""
        columns = -(-len(self.sums) // 2)
        sums = np.zeros((2 * columns, self.sums.shape[1]), np.int64)
        sums[: len(self.sums)] = self.sums
        wide = sums[0::2] + sums[1::2]
        opens = np.concatenate(([True], self.starts[1:] != self.ends[:-1]))[: len(self.starts)]
        within = np.arange(len(self.starts))
        within -= np.maximum.accumulate(np.where(opens, within, 0))
        heads = np.flatnonzero(within % 2 == 0)
        ends = np.append(heads[1:], len(self.starts)) - 1
        return Grid(
            self.first,
            2 * self.events,
            2 * self.bytes,
            self.starts[heads],
            self.ends[ends],
            np.add.reduceat(wide, heads, axis=1) if len(heads) else wide,
        )

    def pyramid(self) -> Iterator["Grid"]:
        """Yield this level and all coarser ones, until a column has all events or a row all of a region."""
        level = self
        yield level
        while len(level.sums) > 1 and len(level.starts) > 1:
            level = level.coarser()
            yield level


def rows_of(regions: Column, size: int) -> tuple[Column, Column]:
    """Return starts and ends of rows of `size` bytes that cover regions: rows (start, end), ascending.

    >>> rows_of(np.array([[0, 100], [1000, 1064]]), 64)
    (array([   0,   64, 1000]), array([  64,  100, 1064]))
    """
    starts = [np.arange(start, end, size, dtype=np.int64) for start, end in regions.tolist()]
    ends = [np.minimum(rows + size, end) for rows, end in zip(starts, regions[:, 1].tolist(), strict=True)]
    none = [np.empty(0, np.int64)]
    return np.concatenate(starts or none), np.concatenate(ends or none)


def size_for(regions: Column, rows: int) -> int:
    """Return the smallest power of two of bytes, at least 16, of which at most `rows` rows cover the regions.

    Of more regions than rows each has at least one row.

    >>> size_for(np.array([[0, 4096], [8192, 8200]]), 20)
    256
    """
    size = 16
    sizes = (regions[:, 1] - regions[:, 0]).astype(np.int64)
    while int((-(-sizes // size)).sum()) > max(rows, len(regions)):
        size *= 2
    return size


def grid(
    start: Column,
    size: Column,
    born: Column,
    died: Column,
    *,
    regions: Column,
    first: int,
    last: int,
    columns: int,
    rows: int,
) -> Grid:
    """Return how full the regions are after the events from `first` to `last`, in so many columns and rows.

    Both are the most; of more regions than rows each has a row.

    start, size, born, died: of blocks: the span, and the events that make and end it.
    regions: rows (start, end) of addresses, ascending and apart; parts of blocks outside are left out.
    Cost: 0.2 us a block, more for one that lies in several rows; memory for 60 bytes a block.

    >>> made = grid(np.array([0]), np.array([32]), np.array([1]), np.array([3]),
    ...             regions=np.array([[0, 64]]), first=0, last=4, columns=2, rows=2)
    >>> made.events, made.bytes, made.sums.tolist(), made.cells.tolist()
    (2, 32, [[32, 0], [32, 0]], [[128, 0], [128, 0]])
    """
    events = max(1, -(-(last - first) // columns))
    many = max(1, -(-(last - first) // events))
    bytes_ = size_for(regions, rows)
    starts, ends = rows_of(regions, bytes_)
    count = len(starts)
    row, part, which = _pieces(start.astype(np.int64), size.astype(np.int64), starts, ends)
    span = many * events
    begin, end = (np.clip(edge.astype(np.int64) - first, 0, span)[which] for edge in (born, died))
    rate, partial = (np.zeros((many + 2) * count, np.int64) for _ in range(2))
    for edge, sign in ((begin, 1), (end, -1)):
        column = edge // events
        np.add.at(rate, (column + 1) * count + row, sign * part)
        np.add.at(partial, column * count + row, sign * part * ((column + 1) * events - edge))
    sums = np.cumsum(rate.reshape(-1, count), axis=0) * events + partial.reshape(-1, count)
    return Grid(first, events, bytes_, starts, ends, sums[:many])


def _pieces(start: Column, size: Column, starts: Column, ends: Column) -> tuple[Column, Column, Column]:
    """Cut blocks at the rows' edges: return of each piece the row, the bytes, and the block."""
    which = np.arange(len(start))
    low, high = start, start + size
    top = np.searchsorted(ends, low, side="right")  # the first row that ends behind the block's start
    bottom = np.searchsorted(starts, high, side="left")  # behind the last row that begins before its end
    count = np.maximum(bottom - top, 0)
    which = np.repeat(which, count)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    row = top[which] + offset
    part = np.minimum(high[which], ends[row]) - np.maximum(low[which], starts[row])
    return row, part, which
