"""Size classes: 16 bytes apart up to 128, then eight to a doubling.

    class   0   1  ...  7    8    9  ...  15   16   17  ...
    bytes  16  32 ... 128  144  160 ... 256  288  320  ...

A request above 128 bytes is rounded up by less than an eighth of its size, by a sixteenth on average.  Blocks
of a class of 2^k bytes stand at multiples of 2^k when the span that holds them ends at one.

The twin is csrc/parts/classes.h.
"""


def class_of(size: int) -> int:
    """Return the smallest class with room for `size` bytes.

    >>> [class_of(size) for size in (0, 16, 17, 128, 129, 256, 257, 4096)]
    [0, 0, 1, 7, 8, 15, 16, 47]
    """
    last = size - (size != 0)
    k = (last | 128).bit_length() - 1  # 2^k <= last | 128 < 2^(k+1)
    return 8 * (k - 7) + (last >> (k - 3))


def class_size(c: int) -> int:
    """Return the bytes of a block of class c.

    >>> [class_size(c) for c in (0, 7, 8, 15, 16, 47)]
    [16, 128, 144, 256, 288, 4096]
    """
    doubling, place = divmod(c, 8)
    return (9 + place) << (doubling + 3) if doubling else (1 + place) << 4
