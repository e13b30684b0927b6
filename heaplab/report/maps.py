"""Maps of heaps as pixels: byte after byte, all heaps of a trace to one scale."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heaplab.lab import HeapMap
from heaplab.report import style

#: pixels of a map: in a row, and rows at most
COLUMNS, MOST_ROWS = 96, 40

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """The scale of some maps.

    largest: bytes of the largest heap.  cell: bytes of a pixel.  columns, rows: pixels.
    """

    largest: int
    cell: int
    columns: int
    rows: int

    @classmethod
    def for_heaps(cls, heaps: Iterable[HeapMap]) -> "Grid":
        """Return the grid that the largest of the heaps fills."""
        largest = max((sum(size for _, size in heap.regions) for heap in heaps), default=0)
        cell = max(16, -(-largest // (COLUMNS * MOST_ROWS)))
        return cls(largest, cell, COLUMNS, -(-largest // (cell * COLUMNS)) or 1)


def demand_possible(heap: HeapMap) -> None:
    """Raise ValueError when the map is none that a heap can have."""
    if len(heap.payload) != len(heap.overhead) or heap.cell < 1:
        raise ValueError("its map says of some cells what lies in them, and of others not")
    parts, edges = np.array([heap.payload, heap.overhead], float), _edges(heap)
    if edges[-1] != sum(size for _, size in heap.regions):
        raise ValueError("its map is shorter than its heap")
    if parts.min(initial=0) < 0 or (parts.sum(axis=0) > np.diff(edges)).any():
        raise ValueError("its map has cells with more in them than they are large")


def _edges(heap: HeapMap) -> npt.NDArray[np.int64]:
    """Return where the cells begin, and where the last one ends: offsets in the regions put end to end."""
    total = sum(size for _, size in heap.regions)
    edges: npt.NDArray[np.int64] = np.minimum(np.arange(len(heap.payload) + 1) * heap.cell, total)
    return edges


def shares(heap: HeapMap, grid: Grid) -> tuple[Array, Array, Array]:
    """Return of each pixel the bytes that it stands for, and the shares of payload and overhead among them.

    Behind the heap's end pixels stand for 0 bytes.
    """
    total = sum(size for _, size in heap.regions)
    parts = np.array([heap.payload, heap.overhead], float)
    old = _edges(heap)
    new = np.minimum(np.arange(grid.columns * grid.rows + 1) * grid.cell, total)
    sizes = np.diff(new).astype(float)
    found = []
    for part in parts:
        reached = np.interp(new, old, np.concatenate(([0], np.cumsum(part))))
        found.append(np.clip(np.diff(reached) / np.maximum(sizes, 1), 0, 1))
    payload, overhead = found
    return sizes, payload, overhead


def pixels(heap: HeapMap, grid: Grid) -> Array:
    """Return the map as an image: rows, columns, and red, green, blue, opacity from 0 to 1.

    A pixel's colour is the mixture of what lies in its bytes.  Behind the heap's end it is clear.
    """
    sizes, payload, overhead = shares(heap, grid)
    mixture = np.stack((payload, overhead, np.clip(1 - payload - overhead, 0, 1)), axis=1)
    colours = np.array([style.rgb(colour) for colour in (style.LIVE, style.INTERNAL, style.EXTERNAL)])
    mixed = np.clip(mixture @ colours, 0, 1)
    whole = np.concatenate((mixed, (sizes > 0)[:, None]), axis=1)
    return whole.reshape(grid.rows, grid.columns, 4)


def png(image: Array) -> bytes:
    """Return an image, as `pixels` gives it, as a PNG file (ISO/IEC 15948).

    >>> png(np.zeros((2, 3, 4)))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    rows, columns, _ = image.shape
    whole = np.round(255 * image).astype(np.uint8).reshape(rows, -1)
    lines = np.concatenate((np.zeros((rows, 1), np.uint8), whole), axis=1)  # 0: no filter

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)  # 8 bits each of RGBA
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, data)
        for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    )
