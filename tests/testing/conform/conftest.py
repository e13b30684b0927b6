"""Sides made up, and the rights that the real one needs."""

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.testing import conform
from heaplab.testing.conform.observe import Maps, Outcome, Pages, Start, View, Vma

HEAP = Vma(0x401000, 0x403000, "rw-p", 0, "[heap]")


def entries(frames, exclusive=(), file=()):
    """Pages whose entries have these frames, None: there is none; the indices of those with a bit."""
    return Pages(
        np.array([frame is not None for frame in frames], dtype=bool),
        np.array([index in exclusive for index in range(len(frames))], dtype=bool),
        np.array([index in file for index in range(len(frames))], dtype=bool),
        np.array([frame or 0 for frame in frames], dtype=np.uint64),
    )


class MadeUp:
    """A side with three processes, to which nothing happens; the step `odd` has the result `answer`."""

    start = Start(0x401000, (0x7000, 0x8000), ())

    def __init__(self, odd=None, answer=0):
        self.odd, self.answer, self.done = odd, answer, []

    def perform(self, step):
        self.done.append(step)
        return Outcome(self.answer if step == self.odd else 0)

    def views(self):
        return {pid: View("R", 1, Maps((HEAP,), (0,))) for pid in (1, 2, 3)}

    def pages(self, spans):
        return entries([None] * sum(count for _, _, count in spans))

    def details(self, pid):
        return "VmSize:\t8 kB\n"

    def minflt(self, pid):
        return 0

    def set_minflt(self, pid, total):
        pass


@pytest.fixture
def made_up():
    return MadeUp


@pytest.fixture
def heap():
    return HEAP


@pytest.fixture(name="entries")
def _entries():
    return entries


@pytest.fixture(scope="session")
def rights():
    """Skips where the real kernel may not be asked."""
    try:
        conform.demand_rights()
    except UsageError as error:
        pytest.skip(str(error))
