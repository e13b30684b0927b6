"""The container: what is packed comes out again, and damaged ones are refused with a sentence."""

import contextlib
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.views.packing import MAGIC, join, pack, store, unpack

MOST = 2**53 - 1
NUMBERS = st.one_of(
    *(st.lists(st.integers(0, most), max_size=40) for most in (1, 255, 256, 65_535, 2**32 - 1, 2**32, MOST)),
    st.lists(st.integers(0, 9), max_size=40).map(lambda steps: np.cumsum(steps, dtype=np.int64).tolist()),
)
FLOATS = st.lists(st.floats(allow_nan=False), min_size=1, max_size=20)


@given(
    st.dictionaries(st.text(max_size=6), st.one_of(NUMBERS, FLOATS), max_size=5),
    st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.none(), st.lists(st.booleans()))),
    st.integers(1, 9),
)
def test_what_is_packed_comes_out_again(columns, manifest, level):
    arrays = {name: np.array(values, float if values and isinstance(values[0], float) else np.uint64)
              for name, values in columns.items()}  # fmt: skip
    told, found = unpack(pack(manifest, arrays, level=level))
    assert told == manifest
    assert {name: column.tolist() for name, column in found.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert list(found) == list(arrays)


def test_a_column_has_the_narrowest_type_and_the_shorter_form():
    rising = np.arange(1 << 33, (1 << 33) + 5000 * 48, 48)
    piece = store("rising", rising)
    assert piece.described == {"type": "u8", "length": 5000, "delta": True, "planes": True}
    assert len(piece.stream) < 200
    assert store("few", np.array([3, 255])).described == {"type": "u1", "length": 2}
    assert store("yes", np.array([True, False])).described == {"type": "u1", "length": 2}


def test_the_stream_is_one_raw_deflate_stream_of_the_json_and_the_columns():
    container = join({"kind": "run"}, {"a": store("a", np.array([1, 2])), "b": store("b", np.array([513]))})
    length = int.from_bytes(container[4:8], "little")
    raw = zlib.decompress(container[8:], -15)
    assert container[:4] == MAGIC
    assert json.loads(raw[:length]) == {
        "manifest": {"kind": "run"},
        "columns": {"a": {"type": "u1", "length": 2}, "b": {"type": "u2", "length": 1}},
    }
    assert raw[length:] == bytes([1, 2, 1, 2])


@pytest.mark.parametrize(
    ("values", "what"),
    [([-1], "-1"), ([2**53], "no value from 0"), ([[1], [2]], "2 dimensions"), (["x"], "no numbers")],
)
def test_what_no_container_can_hold_is_refused(values, what):
    with pytest.raises(ValueError, match=what):
        pack({}, {"bad": np.array(values)})


def described(**columns):
    head = json.dumps({"manifest": {}, "columns": columns}).encode()
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return MAGIC + len(head).to_bytes(4, "little") + stream.compress(head + bytes(8)) + stream.flush()


GOOD = pack({"kind": "run"}, {"a": np.arange(1000) ** 2 % 977})


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        (b"", "do not begin with HLV1"),
        (b"<!doctype html>", "do not begin with HLV1"),
        (GOOD[:-20], "breaks off"),
        (GOOD[:8], "breaks off"),
        (GOOD + b"more", "bytes follow its end"),
        (GOOD[:40] + bytes([255] * 40) + GOOD[80:], "damaged|cannot be read|ends within|no column"),
        (MAGIC + bytes([255] * 4) + GOOD[8:], "cannot be read"),
        (described(a={"type": "u4", "length": 3}), "ends within its column a"),
        (described(a={"type": "u4", "length": -1}), "ends within its column a"),
        (described(a={"type": "u1", "length": 3}), "5 bytes that no column describes"),
        (described(a={"type": "u3", "length": 3}), "cannot be read"),
        (described(a=7), "cannot be read"),
    ],
)
def test_a_damaged_container_is_refused_in_a_sentence(damaged, what):
    with pytest.raises(UsageError, match=what) as raised:
        unpack(damaged)
    assert "\n" not in str(raised.value)


@given(st.integers(8, len(GOOD) - 1), st.integers(1, 255))
def test_no_flipped_byte_raises_anything_else(at, flip):
    with contextlib.suppress(UsageError):
        unpack(GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :])
