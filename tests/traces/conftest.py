"""A trace that several tests use."""

import pytest

from heaplab.testing.traces import written
from heaplab.traces import synthetic


@pytest.fixture(scope="session")
def two_blocks():
    """A .hlt file with two DATA chunks."""
    return written(synthetic(66_000, seed=1, slots=100))
