"""The form of numbers in /proc."""


def kib(pages: int, page_shift: int) -> str:
    """Return pages as the KiB they are, in the eight columns that Linux gives them."""
    return f"{(pages << page_shift) >> 10:8d} kB"
