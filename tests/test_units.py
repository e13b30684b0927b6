"""Sizes as people write and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("4k", 4096),
        ("4 KiB", 4096),
        ("1.5M", 3 << 19),
        ("2GiB", 2 << 30),
        ("1T", 1 << 40),
        ("10 B", 10),
        (str((1 << 64) - 1), (1 << 64) - 1),
        (12, 12),
    ],
)
def test_sizes_are_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "four", "-1", "1.3 B", "4 kilo", "1e9", "0x10", "K"])
def test_what_is_no_size_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a"):
        parse_size(text)


@given(st.integers(0, 1 << 45))
def test_what_is_printed_reads_back_within_its_three_figures(size: int) -> None:
    shown = format_size(size)
    number, unit = shown.split()
    power = ["B", "KiB", "MiB", "GiB"].index(unit)
    assert abs(float(number) * 1024**power - size) <= size * 0.006
