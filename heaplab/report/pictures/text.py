"""Numbers as the pictures write them."""


def bytes_of(size: int) -> str:
    """Write a number of bytes with three figures at most, four from 1000 to 1023.

    >>> bytes_of(100), bytes_of(4096), bytes_of(5000), bytes_of(1 << 47)
    ('100 B', '4 KiB', '4.88 KiB', '128 TiB')
    """
    if size < 1024:
        return f"{size} B"
    value, units = size / 1024, iter(("KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1023.5 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{value:.0f} {unit}" if value >= 999.5 else f"{value:.3g} {unit}"


def pages_of(count: int) -> str:
    """Write a number of pages.

    >>> pages_of(1), pages_of(33)
    ('1 page', '33 pages')
    """
    return f"{count:,} page{'' if count == 1 else 's'}"
