"""A run as columns: every block, page and free entry is where the model has it."""

import numpy as np
import pytest

from heaplab.allocators import Spec, State, names, parse
from heaplab.allocators.designs.buddy import Buddy
from heaplab.lab.moments import Moments
from heaplab.traces import Event, Op, Trace, synthetic
from heaplab.views.heap import PageState, moment_view
from heaplab.views.recorded import PAGE_STATES
from heaplab.views.run import run_view, view_of

SPECS = [parse(name, "c") for name in names("c")] + [parse("rbtree", "python"), parse("slab", "python")]


def rows(columns, process, *names):
    here = columns["process"] == process
    return [tuple(row) for row in zip(*(columns[name][here].tolist() for name in names), strict=True)]


def page_list(recorded, process, page):
    return {
        address + n * page: PAGE_STATES[state].replace("copied", "own")  # a view cannot tell
        for address, count, state in rows(recorded.pages, process, "address", "count", "state")
        for n in range(count)
    }


def assert_is(recorded, view, seen, moment, run):
    """Compare what was recorded of a moment, and what the rows say of it, with the heaps at that moment."""
    live = view.lives.live(recorded.moment)
    for process in moment.processes:
        heap = seen[process]
        spans = rows(recorded.spans, process, "start", "size", "payload", "usable", "state")
        assert spans == [
            (b.start, b.size, b.payload, b.usable, b.state) for b in heap.blocks if not b.state.is_live
        ]
        mine = live[view.lives.process[live] == process]
        places = view.runs[run].places
        by_rows = zip(
            *(column[mine].tolist() for column in (places.start, places.span, places.address)),
            *(column[mine].tolist() for column in (view.lives.slot, view.lives.size)),
            strict=True,
        )
        labelled = [(b.start, b.size, b.payload, b.label.slot, b.label.size) for b in heap.live]
        assert sorted(by_rows) == labelled
        assert [entry for number, entry in recorded.free if number == process] == list(heap.free)
        pages = {p.address: p.state.name.lower() for p in heap.pages if p.state is not PageState.ABSENT}
        assert page_list(recorded, process, heap.page_size) == pages
        assert rows(recorded.brk, process, "value") == [(heap.brk,)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec}-{spec.language}")
def test_every_moment_is_the_model_s(spec, forking):
    with Moments(forking, spec) as moments:
        view = view_of([moments])
        assert [each.moment for each in view.runs[0].recorded] == list(range(forking.header.events + 1))
        for recorded in view.runs[0].recorded[::7]:
            moment = moments.at(recorded.moment)
            seen = {process: moment_view(moment, process) for process in moment.processes}
            assert_is(recorded, view, seen, moment, 0)
        assert view.live.tolist() == moments.log().live.tolist()


@pytest.mark.parametrize("name", ["buddy", "freelist", "slab", "spans"])
def test_a_longer_trace_is_recorded_now_and_then(name):
    trace = synthetic(4000, seed=3, slots=200, median=100, spread=1.5, aligned=0.05)
    with Moments(trace, name) as moments:
        view = view_of([moments], at=1234)
        kept = {each.moment: each for each in view.runs[0].recorded}
        assert len(kept) < 60
        assert {0, 1235, trace.header.peak_index + 1, 4000} <= kept.keys()
        for done in (1235, trace.header.peak_index + 1, 4000):
            moment = moments.at(done)
            assert_is(kept[done], view, {0: moment_view(moment)}, moment, 0)


def test_a_header_is_decoded_as_the_event_left_it(forking):
    with Moments(forking, "rbtree") as moments:
        view = view_of([moments])
        places = view.runs[0].places
        for row in range(0, len(view.lives), 9):
            if view.lives.copied[row]:
                continue
            heap = moments.at(int(view.lives.born[row]) + 1).heap(int(view.lives.process[row]))
            start, payload = int(places.start[row]), int(places.address[row])
            assert places.texts[places.word[row]] == "; ".join(
                word.text for word in heap.words(start, payload, start)
            )
        assert any("previous free" in text for text in places.texts)


def test_regions_hold_every_span_and_are_apart(forking):
    for run in run_view(forking, ["freelist", "spans"]).runs:
        starts, ends = run.regions.T
        assert (starts < ends).all()
        assert (starts[1:] > ends[:-1]).all()
        for recorded in run.recorded:
            at = np.searchsorted(starts, recorded.spans["start"].astype(np.int64), side="right") - 1
            assert (recorded.spans["start"] + recorded.spans["size"] <= ends[at]).all()
        places = run.places
        at = np.searchsorted(starts, places.start.astype(np.int64), side="right") - 1
        assert (places.start + places.span <= ends[at]).all()


class Stops(Buddy):
    """Gives no memory from the seventh block on."""

    NAME = "stops"

    def malloc(self, size):
        return 0 if size == 7 else super().malloc(size)


def test_a_run_that_fails_is_there_up_to_where_it_failed():
    events = [Event(Op.MALLOC, slot, size) for slot, size in enumerate([50, 60, 7, 80])]
    view = run_view(Trace.of(events, "four"), [Spec.of(Stops), "buddy"])
    broken, sound = view.runs
    assert (broken.outcome, broken.events, sound.outcome, sound.events) == ("failed", 2, "finished", 4)
    assert "event 2 (malloc 2 7): the allocator gave no memory" in broken.reason
    assert (broken.places.address != 0).tolist() == [True, True, False, False]
    assert [each.moment for each in broken.recorded] == [0, 1, 2]
    assert view.live.tolist() == [50, 110, 117, 197]
    assert "failed after 2 events: event 2" in str(view)


def test_a_trace_without_events_has_a_view():
    view = run_view(Trace.of([], "nothing"), ["buddy"])
    assert [each.moment for each in view.runs[0].recorded] == [0]
    assert set(view.runs[0].recorded[0].rest["state"].tolist()) == {State.FREE, State.METADATA}
    assert str(view).startswith("nothing: 0 events, 0 blocks")


def test_a_page_is_copied_from_the_write_after_fork_on_until_it_is_shared_again():
    events = [Event(Op.MALLOC, slot, 3000) for slot in range(8)] + [Event(Op.FORK, 1)]
    events += [Event(Op.REALLOC, 0, 3008, process=1), Event(Op.MALLOC, 8, 3000)]
    events += [Event(Op.FORK, 2, process=1), Event(Op.EXIT, process=2), Event(Op.MALLOC, 8, 20, process=1)]
    run = run_view(Trace.of(events, "copies"), ["freelist"]).runs[0]

    def states(moment, process):
        recorded = run.recorded[moment]
        here = recorded.pages["process"] == process
        return {PAGE_STATES[state] for state in recorded.pages["state"][here]}

    assert states(8, 0) == {"own"}
    assert states(9, 0) == states(9, 1) == {"shared"}
    assert states(10, 0) == {"shared", "own"}  # the other one has copied them
    assert states(10, 1) == {"shared", "copied", "own"}  # own: a new page that the block grew into
    assert states(12, 1) == {"shared"}
    assert "own" in states(13, 1)  # nobody else has it any more, and nothing was copied since
    assert "copied" not in states(13, 1)
    for moment, recorded in enumerate(run.recorded):
        for process in set(recorded.brk["process"].tolist()):
            copied = set(run.copied.at(moment, process).tolist())
            shown = page_list(recorded, process, 4096)
            assert copied <= shown.keys()
