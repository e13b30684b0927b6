"""A run's container: all of it to the byte where it fits, else levels and a part; rows keep their meaning."""

import numpy as np
import pytest

from heaplab.traces import Event, Op, Trace, synthetic
from heaplab.traces.sites import Asked, Sites
from heaplab.views.contents import Texts, run_container
from heaplab.views.packing import unpack
from heaplab.views.run import run_view


@pytest.fixture(scope="module")
def view(forking):
    return run_view(forking, ["freelist:fit=best", "buddy"])


@pytest.fixture(scope="module")
def long():
    return run_view(synthetic(30_000, seed=5, slots=300, median=100), ["rbtree"], at=20_000)


def test_a_run_that_fits_is_there_to_the_byte(view):
    told, columns = unpack(run_container(view))
    events = view.header.events
    assert told["exact"] == [0, events]
    assert "levels" not in told
    assert told["trace"] == {
        **{"name": "forking", "program": "", "note": "", "events": events, "processes": 3},
        **{"threads": view.header.threads, "peak": view.peak, "peak_live": view.header.peak_live},
    }
    assert [run["allocator"] for run in told["runs"]] == ["freelist:fit=best", "buddy"]
    assert told["states"][2] == "large"
    assert told["ops"][Op.FORK] == "fork"
    for name in ("born", "died", "slot", "size", "process", "before"):
        assert columns[f"block.{name}"].tolist() == getattr(view.lives, name).tolist()
    for number, run in enumerate(view.runs):
        assert columns[f"r{number}.address"].tolist() == run.places.address.tolist()
        assert columns[f"r{number}.span"].tolist() == run.places.span.tolist()
        words = [told["texts"][each] for each in columns[f"r{number}.word"].tolist()]
        assert words == [run.places.texts[each] for each in run.places.word.tolist()]
        for name in ("mems", "faults", "heap", "resident"):
            assert columns[f"r{number}.{name}"].tolist() == getattr(run.log, name).tolist()
        calls = [told["texts"][each] for each in columns[f"r{number}.call.text"].tolist()]
        assert calls == [call.text for call in run.log.calls if call.event >= 0]
        assert int(columns[f"r{number}.curve.mems"].sum()) == int(run.log.mems.sum())
    assert columns["event.row"].tolist() == view.lives.row.tolist()
    assert columns["event.live"].tolist() == view.live.tolist()
    assert columns["curve.moment"][-1] == events


def test_texts_of_call_sites_are_there_if_the_run_has_them(view, forking):
    assert "block.site" not in unpack(run_container(view))[1]
    born = view.lives
    numbers = {number: ~born.copied & (born.process == number) for number in np.unique(born.process).tolist()}
    asked = {number: Asked.of(1 + born.slot[here] % 2, born.size[here]) for number, here in numbers.items()}
    stacks = ((), ("main", "even"), ("main", "odd", "malloc"))
    with_sites = run_view(forking, ["buddy"], sites=Sites(stacks, asked))
    told, columns = unpack(run_container(with_sites))
    texts = np.array(told["texts"])
    assert set(texts[columns["block.site"]].tolist()) == {"even", "odd"}
    assert set(texts[columns["block.stack"]].tolist()) == {"main > even", "main > odd > malloc"}
    own = ~born.copied
    assert (texts[columns["block.site"]][own] == np.where(born.slot[own] % 2, "odd", "even")).all()


def test_recorded_moments_keep_the_order_of_the_free_structure(view):
    told, columns = unpack(run_container(view))
    run = view.runs[0]
    first = columns["r0.free.first"].tolist()
    assert columns["key.moment"].tolist() == [each.moment for each in run.recorded]
    assert len(first) == len(run.recorded) + 1
    for number, recorded in enumerate(run.recorded):
        here = slice(first[number], first[number + 1])
        names = ("process", "start", "size", "under", "group", "place")
        rows = zip(*(columns[f"r0.free.{name}"][here].tolist() for name in names), strict=True)
        assert [
            (process, (start, size, told["texts"][place], under, told["texts"][group]))
            for process, start, size, under, group, place in rows
        ] == [(process, tuple(entry)) for process, entry in recorded.free]


def test_a_run_that_is_too_long_has_levels_and_a_part_to_the_byte(long):
    container = run_container(long, room=90_000, at=20_000)
    told, columns = unpack(container)
    start, stop = told["exact"]
    assert len(container) < 90_000
    assert 0 < start <= 20_000 < stop < 30_000
    assert f"from event {start:,} to {stop:,}" in told["remarks"][0]
    assert 20_001 in columns["key.moment"]
    assert columns["curve.live"].max() <= long.header.peak_live
    finest = told["levels"][0]
    cells = columns[finest["column"]].reshape(finest["columns"], finest["rows"])
    assert finest["first"] == 0
    assert finest["events"] * finest["columns"] >= 30_000
    assert cells.max() > 100
    assert [level["events"] for level in told["levels"]] == sorted(
        level["events"] for level in told["levels"]
    )
    # rows of the part: each is a block of the run, and events and reallocs lead to rows that are there
    rows = long.lives.within(start, stop)
    assert columns["block.born"].tolist() == long.lives.born[rows].tolist()
    assert columns["r0.address"].tolist() == long.runs[0].places.address[rows].tolist()
    place = {0: 0, **{int(row) + 1: number + 1 for number, row in enumerate(rows)}}
    assert columns["event.row"].tolist() == [place[row] for row in long.lives.row[start:stop].tolist()]
    assert columns["block.before"].tolist() == [place.get(row, 0) for row in long.lives.before[rows].tolist()]


def test_the_part_is_around_the_peak_if_nobody_says_where(long):
    start, stop = unpack(run_container(long, room=90_000))[0]["exact"]
    assert start <= long.peak < stop


def test_why_a_run_ended_early_is_a_remark_and_its_rows_have_no_address():
    events = [Event(Op.MALLOC, 0, 100), Event(Op.MALLOC, 1, 1 << 46), Event(Op.FREE, 0)]
    view = run_view(Trace.of(events, "huge"), ["buddy"], payload=False)
    told, columns = unpack(run_container(view))
    assert told["runs"][0]["outcome"] == "failed"
    assert told["runs"][0]["events"] == 1
    assert "gave no memory" in told["remarks"][0]
    assert (columns["r0.address"] == 0).tolist() == [False, True]
    assert columns["r0.mems"].tolist()[1:] == [0, 0]


def test_a_run_without_events_can_be_packed():
    told, columns = unpack(run_container(run_view(Trace.of([], "nothing"), ["slab"])))
    assert told["exact"] == [0, 0]
    assert columns["key.moment"].tolist() == [0]


def test_texts_are_numbered_from_the_empty_one_on():
    texts = Texts()
    assert [texts("a"), texts("b"), texts("a"), texts("")] == [1, 2, 1, 0]
    other = texts.like()
    other("c")
    assert texts.all() == ["", "a", "b"]
    texts.take(other)
    assert texts.all() == ["", "a", "b", "c"]
