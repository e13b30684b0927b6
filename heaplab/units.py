"""Sizes as people write them, and as people read them."""

import re
from fractions import Fraction

from heaplab.errors import UsageError

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]?)(?:i?B)?)?\s*", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """Return the number of bytes that `text` says; K, M, G, T are powers of 1024.

    Raises: UsageError when it is no size, or not a whole number of bytes.

    >>> parse_size("64 MiB"), parse_size("4k"), parse_size("100"), parse_size(7)
    (67108864, 4096, 100, 7)
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a size: write a number of bytes, or one with KiB, MiB or GiB")
    size = Fraction(match[1]) * 1024 ** _POWERS[(match[2] or "").upper()]
    if size.denominator != 1:
        raise UsageError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size: float) -> str:
    """Return `size` bytes with three figures (four from 1000 to 1023) and a binary unit.

    >>> format_size(512), format_size(4096), format_size(67_500_000), format_size(1_047_000)
    ('512 B', '4.00 KiB', '64.4 MiB', '1022 KiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            break
        size /= 1024
    if unit == "B":
        return f"{size:.0f} B"
    digits = 2 if abs(size) < 9.995 else 1 if abs(size) < 99.95 else 0
    return f"{size:.{digits}f} {unit}"


def counted(count: int, noun: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "process"), counted(12345, "process"), counted(0, "frame")
    ('1 process', '12,345 processes', '0 frames')
    """
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"
