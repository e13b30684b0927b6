"""The model predicts Linux: random traces with threads, forks and execs; and planted faults are found."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab.allocators import names
from heaplab.errors import HeaplabError, UsageError
from heaplab.kernel import Kernel
from heaplab.lab.prediction import Model, predict
from heaplab.native.differences import differences
from heaplab.native.footprint import Footprint, stops_of, watch
from heaplab.native.proving import Linux, NotPossible, build_prover, observe
from heaplab.native.world import START
from heaplab.testing.traces import event_lists
from heaplab.traces import Event, Op, Trace

#: a parent and a child write to what they share; the child has a child, which becomes another program
FAMILY = [
    *(Event(Op.MALLOC, slot, 3000) for slot in range(40)),
    Event(Op.FORK, 1, process=0),
    *(Event(Op.REALLOC, slot, 2999, process=1) for slot in range(0, 20)),
    *(Event(Op.REALLOC, slot, 2990, process=0) for slot in range(15, 30)),
    Event(Op.FORK, 2, process=1),
    Event(Op.MALLOC, 40, 500_000, thread=1, process=1),
    Event(Op.EXEC, process=2),
    Event(Op.MALLOC, 0, 200_000, process=2),
    Event(Op.EXIT, process=2),
    Event(Op.FREE, 40, thread=1, process=1),
    Event(Op.THREAD_EXIT, thread=1, process=1),
    Event(Op.EXIT, process=1),
    *(Event(Op.FREE, slot) for slot in range(40)),
]


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    try:
        observe(Trace.of([Event(Op.MALLOC, 0, 1)]), "buddy")
    except (NotPossible, UsageError) as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("design", names("c"))
def test_a_family_is_the_same_in_both_worlds(design: str) -> None:
    trace = Trace.of(FAMILY)
    predicted, observed = predict(trace, design), observe(trace, design)
    assert differences(predicted, observed).first == ()
    assert len(observed.calls) >= 6
    assert predicted.copied_in_child
    assert predicted.copied_in_parent
    assert len(observed.looks) > len(stops_of(trace))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_traces_are_the_same_in_both_worlds(data: st.DataObject) -> None:
    trace = Trace.of(data.draw(event_lists()))
    design = data.draw(st.sampled_from(names("c")))
    assert differences(predict(trace, design), observe(trace, design)).first == ()


def test_all_processes_may_be_gone_at_the_end() -> None:
    trace = Trace.of([*FAMILY, Event(Op.FORK, 3), Event(Op.EXIT, process=0), Event(Op.EXIT, process=3)])
    predicted, observed = predict(trace, "rbtree"), observe(trace, "rbtree")
    assert differences(predicted, observed).first == ()
    assert observed.end == 0


def test_huge_pages_are_few_and_large() -> None:
    trace = Trace.of([Event(Op.MALLOC, 0, 16 << 20)])
    small, huge = observe(trace, "rbtree"), observe(trace, "rbtree", huge=True)
    assert small.faults > 4096
    assert huge.faults in (small.faults, *range(2, 600))  # a kernel without them gives small ones
    assert huge.peak >= small.peak


# ---- faults that are planted ----


def test_another_option_is_seen_in_the_calls() -> None:
    trace = Trace.of(FAMILY)
    found = differences(predict(trace, "rbtree:top_pad=256KiB"), observe(trace, "rbtree"))
    assert found.calls
    assert found.first[0] == (
        "calls: at event 0 the model makes brk(break+0x41000) = break+0x41000, "
        "and Linux sees brk(break+0x21000) = break+0x21000"
    )


def test_a_fork_that_copies_is_seen_in_faults_and_pages() -> None:
    trace = Trace.of(FAMILY)
    found = differences(
        predict(trace, "rbtree", kernel=Kernel("4 GiB", fork="eager")), observe(trace, "rbtree")
    )
    assert not found.calls
    assert found.faults
    assert found.pages
    assert "in memory and its own on the model, and in memory and shared on Linux" in found.first[1]


def test_a_page_more_is_seen() -> None:
    class Careless(Model):
        """A kernel that makes a page too much after ten events."""

        def advance(self, until: int) -> None:
            super().advance(until)
            if until == 10:
                self._process(0).store64(START + 0x18000, 1)

    trace = Trace.of(FAMILY[:20])
    found = differences(watch(trace, Careless(trace, "rbtree", Kernel("4 GiB"))), observe(trace, "rbtree"))
    assert str(found) == "1 faults, 2 pages"
    assert found.first == (
        "faults: process 0 has 10 on the model and 9 on Linux after 10 events; after 9 they were equal",
        "pages: after 20 events process 0 has the page at break+0x18000 in memory and its own on the model, "
        "and not in memory on Linux",
    )


# ---- what goes wrong ----


def test_what_goes_wrong_in_the_real_program_is_told() -> None:
    with pytest.raises(HeaplabError, match="on Linux: the allocator gave no memory, at event 1"):
        observe(Trace.of([Event(Op.MALLOC, 0, 8), Event(Op.MALLOC, 1, 1 << 46)]), "buddy")
    with pytest.raises(HeaplabError, match="on Linux: more than 2 system calls"):
        observe(Trace.of(FAMILY), "buddy", capacity=2)


def test_a_process_that_is_killed_ends_the_run() -> None:
    trace = Trace.of(FAMILY)
    with Linux(trace, "buddy", [0, len(FAMILY)], capacity=1000, huge=False) as world:
        world.advance(0)
        os.kill(world.pid(0), signal.SIGKILL)
        with pytest.raises(HeaplabError, match="on Linux: the end at event 0, with status -9"):
            world.advance(len(FAMILY))


def test_without_a_static_c_library_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = tmp_path / "cc"
    without.write_text('#!/bin/sh\n[ "$1" = -print-file-name=libc.a ] && echo libc.a && exit\nexit 1\n')
    without.chmod(0o755)
    monkeypatch.setenv("CC", str(without))
    with pytest.raises(NotPossible, match="no static C library"):
        build_prover("buddy")


def test_an_empty_trace_is_a_heap_that_begins() -> None:
    trace = Trace.of([])
    assert differences(predict(trace, "rbtree"), observe(trace, "rbtree")).first == ()


def test_none_of_two_footprints_is_none() -> None:
    assert not differences(Footprint(), Footprint())
    assert str(differences(Footprint(), Footprint())) == "0"
