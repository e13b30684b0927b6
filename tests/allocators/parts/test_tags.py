"""Boundary tags and seals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.allocators.parts import tags as blocks
from heaplab.allocators.parts.seal import TAG, Seal
from heaplab.allocators.parts.tags import ALLOCATED, LAST, PREV_ALLOCATED

seal = Seal()
is_sealed = seal.holds
addresses = st.integers(0, (1 << 43) - 1).map(lambda n: 16 * n + 8)
sizes = st.integers(0, (1 << 43) - 1).map(lambda n: 16 * n)
flags = st.sampled_from([0, ALLOCATED, PREV_ALLOCATED, ALLOCATED | PREV_ALLOCATED, LAST | PREV_ALLOCATED])


@given(addresses, sizes, flags)
def test_a_header_says_what_was_written(block, size, given_flags):
    word = blocks.header(seal, block, size, given_flags)
    assert word < 1 << 64
    assert is_sealed(block, word)
    assert blocks.size_of(word) == size
    assert blocks.is_allocated(word) == bool(given_flags & ALLOCATED)
    assert blocks.prev_is_allocated(word) == bool(given_flags & PREV_ALLOCATED)
    assert blocks.is_last(word) == bool(given_flags & LAST)


@given(addresses, sizes, flags)
def test_only_the_flag_of_the_block_before_changes(block, size, given_flags):
    word = blocks.header(seal, block, size, given_flags)
    assert blocks.with_prev_allocated(seal, block, word) == blocks.header(
        seal, block, size, given_flags | PREV_ALLOCATED
    )
    assert blocks.with_prev_free(seal, block, word) == blocks.header(
        seal, block, size, given_flags & ~PREV_ALLOCATED
    )


@given(addresses, sizes, flags, st.integers(0, 7), st.integers(1, 255))
def test_a_change_of_any_one_byte_is_noticed(block, size, given_flags, byte, change):
    word = blocks.header(seal, block, size, given_flags)
    assert not is_sealed(block, word ^ change << 8 * byte)
    assert not is_sealed(block ^ change << 8 * byte, word) or byte > 5


@given(addresses)
def test_a_tombstone_is_sealed_free_and_of_no_size(block):
    word = blocks.tombstone(seal, block)
    assert is_sealed(block, word)
    assert not blocks.is_allocated(word)
    assert blocks.size_of(word) == 0


@given(st.integers(0, (1 << 48) - 1), st.integers(0, TAG))
def test_a_seal_leaves_the_tag(address, tag):
    assert seal(address, tag) & TAG == tag


def test_zeros_and_small_numbers_are_no_headers():
    """What payloads mostly hold: of 65,536 addresses about one takes any given word for a header."""
    blocks_at = range(0x5000_0008, 0x5000_0008 + 16 * 65536, 16)
    for word in (0, 1, 0x21, 0x5000_1230, 0x4141_4141_4141_4141):
        assert sum(is_sealed(block, word) for block in blocks_at) <= 6


@pytest.mark.parametrize(
    ("flag", "name"), [(ALLOCATED, "allocated"), (PREV_ALLOCATED, "prev"), (LAST, "last")]
)
def test_flags_do_not_reach_the_size(flag, name):
    assert blocks.size_of(blocks.header(seal, 8, 16, flag)) == 16, name
