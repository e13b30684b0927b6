"""Allocators that break the contract, die, or never return: a sentence each, and nothing else is lost."""

import re
from pathlib import Path

import pytest

from heaplab._core import lib
from heaplab.native.playing import play
from heaplab.native.stage import Stage
from heaplab.traces import Event, Op, Trace

#: 19 mallocs, and then the one that a planted fault is in
EVENTS = [
    *(Event(Op.MALLOC, slot, 100) for slot in range(20)),
    Event(Op.CALLOC, 20, 200),
    Event(Op.REALLOC, 20, 400),
    *(Event(Op.FREE, slot) for slot in range(21)),
]


@pytest.mark.parametrize(
    ("fault", "outcome", "row", "sentence"),
    [
        ("OVERLAPS", "failed", 40, r"block 18 at 0x\w+ has lost what was written to it, from byte 96 on"),
        ("CRASHES", "crashed", 19, r"the allocator ended with SIGSEGV at 0x8"),
        ("ABORTS", "crashed", 19, r"the allocator ended with SIGABRT: planted: this heap is corrupt"),
        ("EXITS", "crashed", 19, r"its process ended with status 3"),
        ("HANGS", "hung", 19, r"no end after 0.3 s"),
        ("DIRTY", "failed", 20, r"calloc's block at 0x\w+ is not zero at byte 100"),
        ("SKEWED", "failed", 19, r"the block at 0x\w+8 is not a multiple of 16"),
        ("FULL", "failed", 19, r"the allocator gave no memory"),
        ("LOSES", "failed", 21, r"block 20 at 0x\w+ has lost what was written to it, from byte 0 on"),
        (
            "NOWHERE",
            "failed",
            19,
            r"block 19 \(100 bytes at 0x7000\) is not memory that can be read and written",
        ),
    ],
)
@pytest.mark.parametrize("forked", [False, True])
def test_a_fault_is_a_sentence(
    planted, fault: str, outcome: str, row: int, sentence: str, forked: bool
) -> None:
    """Also in a process that Python has not started."""
    events = EVENTS
    if forked:
        events = [Event(Op.FORK, 1), *(event._replace(process=1) for event in EVENTS)]
        row += 1
        if fault == "EXITS":
            sentence = r"its process ended without a word"
    played = play(Trace.of(events), planted(fault), rounds=1, latency=True, max_seconds=0.3)
    assert played.end.outcome == outcome
    wanted = re.escape(f"event {row} ({events[row]}): ") + sentence
    assert re.match(wanted, played.end.reason), played.end.reason
    assert (played.times, played.latency) == (None, None)


def test_how_a_process_ended_is_known_although_its_files_are_closed_before(planted) -> None:
    stage = Stage(Trace.of(EVENTS))
    played = stage.play(lib.HL_PLAY_TIME, Path(planted("EXITS")))
    stage.close()
    assert played.said == "its process ended with status 3"


def test_what_is_wrong_only_after_the_last_event_is_found(planted) -> None:
    events = [event for event in EVENTS if event.op != Op.FREE]
    played = play(Trace.of(events), planted("OVERLAPS"), rounds=0)
    assert played.end.reason.startswith("after the last event: block 18 at 0x")


def test_memory_that_is_not_there() -> None:
    played = play(Trace.of([Event(Op.MALLOC, 0, 1 << 47)]), "glibc")
    assert (played.end.outcome, played.end.reason) == (
        "failed",
        f"event 0 (malloc 0 {1 << 47}): the allocator gave no memory",
    )


def test_a_library_that_the_linker_refuses_is_not_glibc_in_disguise(planted, tmp_path) -> None:
    library = bytearray(Path(planted("NONE")).read_bytes())
    library[0x36:0x38] = (8).to_bytes(2, "little")  # e_phentsize, which only the linker looks at
    broken = tmp_path / "broken.so"
    broken.write_bytes(library)
    played = play(Trace.of(EVENTS), str(broken))
    assert played.end.outcome == "failed"
    assert "cannot be preloaded" in played.end.reason
