"""A machine of a few dozen frames with 256-byte pages, and a trap handler that maps on demand."""

from collections.abc import Callable

import pytest

from heaplab.machine import Context, FrameKind, Machine, Pte, Space

PAGE = 256
USER_RW = Pte.USER | Pte.WRITE


class DemandZero:
    """Maps a zeroed frame at every fault below `limit`; refuses the rest with a LookupError."""

    def __init__(self, space: Space, limit: int = 1 << 40) -> None:
        self.space = space
        self.limit = limit
        self.seen: list[tuple[int, int]] = []

    def fault(self, va: int, error_code: int) -> int:
        self.seen.append((va, error_code))
        page = va & ~(self.space.machine.page_size - 1)
        if va >= self.limit or error_code & 1:
            raise LookupError(hex(va))
        if self.space.map_zeroed(page, FrameKind.ANON, USER_RW) is None:
            raise MemoryError(hex(va))
        return 0

    def syscall(self, nr: int, *args: int) -> int:
        return -38


@pytest.fixture
def machine() -> Machine:
    return Machine(64 * PAGE, page_size=PAGE, tlb=16, poison=True)


@pytest.fixture
def space(machine: Machine) -> Space:
    return Space(machine)


@pytest.fixture
def handler(space: Space) -> DemandZero:
    return DemandZero(space)


@pytest.fixture
def context(machine: Machine, space: Space, handler: DemandZero) -> Context:
    return Context(machine, space, handler)


@pytest.fixture
def new_context(machine: Machine) -> Callable[[Space], Context]:
    return lambda space: Context(machine, space, DemandZero(space))
