"""Frames: allocated, counted, freed, junked."""

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.machine import FrameKind, Machine


def test_every_frame_can_be_had_once(machine: Machine) -> None:
    frames = [machine.alloc(FrameKind.ANON) for _ in range(machine.frame_count)]
    assert sorted(f for f in frames if f is not None) == list(range(machine.frame_count))
    assert machine.alloc(FrameKind.ANON) is None
    assert (machine.free_frames, machine.used(FrameKind.ANON)) == (0, 64)


def test_the_last_reference_frees_the_frame(machine: Machine) -> None:
    frame = machine.alloc(FrameKind.FILE)
    assert frame is not None
    machine.get(frame)
    machine.put(frame)
    assert (machine.refcount[frame], machine.kind[frame]) == (1, FrameKind.FILE)
    machine.put(frame)
    assert (machine.refcount[frame], machine.kind[frame]) == (0, FrameKind.FREE)
    assert machine.free_frames == machine.frame_count


def test_a_freed_frame_holds_junk_and_a_new_one_zeros(machine: Machine) -> None:
    frame = machine.alloc(FrameKind.ANON)
    assert frame is not None
    machine.ram[frame] = 7
    machine.put(frame)
    assert np.all(machine.ram[frame] == 0xA5)
    assert machine.alloc(FrameKind.ANON) == frame
    assert not machine.ram[frame].any()


def test_the_views_are_the_memory_itself(machine: Machine) -> None:
    assert machine.ram.shape == (64, 256)
    assert not machine.ram.flags.owndata
    assert machine.refcount.sum() == 0


@pytest.mark.parametrize(
    ("ram", "options"),
    [
        (0, {}),
        ("1 MiB", {"page_size": 100}),
        ("1 MiB", {"page_size": 32}),
        ("1 MiB", {"page_size": 8192}),
        ("1 MiB", {"page_size": 0}),
        ("1 MiB", {"tlb": 3}),
        ("1 MiB", {"tlb": 0}),
        (100, {"page_size": 256}),
    ],
)
def test_impossible_machines_are_refused_in_one_sentence(ram: int | str, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="power of two"):
        Machine(ram, **options)


def test_memory_is_committed_as_it_is_used() -> None:
    machine = Machine("1 TiB")
    assert machine.free_frames == 1 << 28
    frame = machine.alloc(FrameKind.ANON)
    assert frame is not None
    machine.ram[frame][0] = 1
    assert machine.touched_frames == 1


@pytest.mark.parametrize("page_size", [64, 128, 256, 1024, 4096])
def test_tables_shrink_with_the_page(page_size: int) -> None:
    machine = Machine(page_size * 16, page_size=page_size)
    shift = page_size.bit_length() - 1
    assert machine.va_bits == shift + 4 * (shift - 3)
