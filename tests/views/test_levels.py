"""Levels: exact sums, against counting byte by byte; a coarser level adds up the finer one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.views.levels import grid, rows_of, size_for

REGIONS = np.array([[0, 80], [112, 200], [4096, 4112]])
EVENTS = 12
BLOCKS = st.lists(
    st.tuples(st.integers(0, 220), st.integers(1, 90), st.integers(0, EVENTS), st.integers(0, EVENTS)),
    max_size=6,
)


def counted(blocks, made):
    """The sums, event by event and byte by byte."""
    sums = np.zeros(made.sums.shape, np.int64)
    for column, row in np.ndindex(sums.shape):
        for event in range(made.first + column * made.events, made.first + (column + 1) * made.events):
            for start, size, born, died in blocks:
                if born <= event < died:
                    low, high = max(start, int(made.starts[row])), min(start + size, int(made.ends[row]))
                    sums[column, row] += max(high - low, 0)
    return sums


@given(BLOCKS, st.integers(0, 5), st.integers(1, 12), st.integers(1, 20))
def test_every_level_is_what_counting_gives(blocks, first, columns, rows):
    blocks = [(start, size, min(born, died), max(born, died)) for start, size, born, died in blocks]
    start, size, born, died = np.array(blocks, np.int64).reshape(-1, 4).T
    finest = grid(
        start, size, born, died, regions=REGIONS, first=first, last=EVENTS, columns=columns, rows=rows
    )
    assert len(finest.sums) <= columns
    assert len(finest.starts) <= max(rows, len(REGIONS))
    for level in finest.pyramid():
        # a block that lives on when the trace is over has no events behind the last one
        bounded = [(a, b, c, min(d, first + len(finest.sums) * finest.events)) for a, b, c, d in blocks]
        assert level.sums.tolist() == counted(bounded, level).tolist()
        assert (level.cells > 0).tolist() == (level.sums > 0).tolist()


def test_a_full_cell_is_255_and_half_a_cell_half_of_it():
    made = grid(
        *(np.array(column) for column in ([0, 32], [32, 16], [0, 0], [4, 4])),
        regions=np.array([[0, 64]]), first=0, last=4, columns=1, rows=2,
    )  # fmt: skip
    assert made.cells.tolist() == [[255, 128]]


def test_rows_end_with_their_region():
    starts, ends = rows_of(REGIONS, 64)
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [
        *((0, 64), (64, 80)), *((112, 176), (176, 200)), (4096, 4112),
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 3, 5, 100])
def test_no_more_rows_than_asked_for(rows):
    assert len(rows_of(REGIONS, size_for(REGIONS, rows))[0]) <= max(rows, len(REGIONS))
