"""Heaps whose root is a multiple of 64 KiB, so that addresses relative to it can be read."""

import pytest

from heaplab import allocators
from heaplab.kernel import Kernel


@pytest.fixture
def process():
    shell = Kernel(ram="16 MiB", seed=1).init.fork()
    shell.sbrk(-shell.sbrk(0) % (64 << 10))
    return shell


@pytest.fixture(params=allocators.LANGUAGES)
def create(request, process):
    """`create(spec)`: a heap, in each language."""
    return lambda spec: allocators.create(spec, process, request.param)
