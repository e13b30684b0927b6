"""Answers: what a window, a moment and a block say is what the run's container and the model say."""

import threading

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.lab.moments import Moments
from heaplab.pages import answers as module
from heaplab.pages.answers import Answers
from heaplab.traces import Event, Op, Trace
from heaplab.views.contents import run_container
from heaplab.views.heap import moment_view
from heaplab.views.packing import unpack
from heaplab.views.run import view_of


@pytest.fixture(scope="module")
def trace():
    events = [Event(Op.MALLOC, slot, 40 + 700 * slot % 1900) for slot in range(30)]
    events += [Event(Op.FREE, slot) for slot in range(0, 30, 3)] + [Event(Op.FORK, 1)]
    events += [Event(Op.REALLOC, 1, 5000), Event(Op.MALLOC, 0, 300_000, process=1)]
    events += [Event(Op.FREE, slot, process=1) for slot in range(1, 20, 3)]
    return Trace.of(events, "short")


@pytest.fixture(scope="module")
def asked(trace):
    with Moments(trace, "rbtree") as first, Moments(trace, "buddy") as second:
        runs = [first, second]
        view = view_of(runs)
        yield view, runs, Answers(view, runs)


def test_a_window_has_the_rows_of_the_whole_run(asked):
    view, _, answers = asked
    whole = unpack(run_container(view))[1]
    events = view.header.events
    told, columns = unpack(answers.window(run=1, process=0, **{"from": 5, "to": 35}))
    assert (told["kind"], told["mode"], told["exact"], told["run"]) == ("window", "blocks", [5, 35], 1)
    assert [run["allocator"] for run in told["runs"]] == ["buddy"]
    rows = [
        row
        for row in range(len(view.lives))
        if whole["block.born"][row] < 35 and whole["block.died"][row] > 5 and whole["block.process"][row] == 0
    ]
    for name in ("born", "died", "slot", "size"):
        assert columns[f"block.{name}"].tolist() == whole[f"block.{name}"][rows].tolist()
    for name in ("address", "lead", "span"):
        assert columns[f"r0.{name}"].tolist() == whole[f"r1.{name}"][rows].tolist()
    assert columns["event.op"].tolist() == whole["event.op"][5:35].tolist()
    assert columns["r0.mems"].tolist() == whole["r1.mems"][5:35].tolist()
    low = int(whole["r0.address"][7])
    some = unpack(answers.window(run=0, low=low, high=low + 1, **{"from": 0, "to": events}))[1]
    assert (
        (some["r0.address"] - some["r0.lead"] <= low) & (some["r0.address"] + some["r0.span"] > low)
    ).all()
    assert 8 in some["block.slot"] + 1


def test_a_window_of_more_blocks_than_can_be_drawn_is_a_grid(asked, monkeypatch):
    view, _, answers = asked
    monkeypatch.setattr(module, "MOST_BLOCKS", 3)
    told, columns = unpack(
        answers.window(run=0, process=0, width=10, height=8, **{"from": 10, "to": view.header.events})
    )
    [level] = told["levels"]
    assert (told["mode"], level["first"], level["run"]) == ("grid", 10, 0)
    assert level["columns"] <= 10
    assert columns[level["column"]].shape == (level["columns"] * level["rows"],)
    assert columns[level["column"]].any()


@pytest.mark.parametrize("done", [0, 17, 30, 44, 49])
def test_a_moment_is_what_the_model_shows(asked, done):
    view, runs, answers = asked
    for number, moments in enumerate(runs):
        told, columns = unpack(answers.moment(run=number, moment=str(done)))
        moment = moments.at(done)
        assert (told["kind"], told["moment"], told["fault"]) == ("moment", done, "")
        for process in moment.processes:
            seen = moment_view(moment, process)
            here = columns["r0.live.process"] == process
            names = ("start", "size", "payload", "usable", "slot", "requested", "event")
            found = zip(*(columns[f"r0.live.{name}"][here].tolist() for name in names), strict=True)
            assert list(found) == [
                (b.start, b.size, b.payload, b.usable, b.label.slot + 1, b.label.size, b.label.event)
                for b in seen.live
            ]
            free = columns["r0.free.process"] == process
            assert columns["r0.free.start"][free].tolist() == [entry.start for entry in seen.free]
            assert columns["r0.free.under"][free].tolist() == [entry.under for entry in seen.free]
        shared = told["page_states"].index("shared")
        assert (shared in columns["r0.page.state"]) == (done > 40)
        references = moments.references(done - 1) if done else []
        assert columns["ref.address"].tolist() == [each.address for each in references]
        assert columns["ref.store"].tolist() == [each.is_store for each in references]
        offline = [each for each in view.runs[number].recorded if each.moment == done]
        assert columns["r0.span.start"].tolist() == offline[0].rest["start"].tolist()
        assert columns["r0.page.state"].tolist() == offline[0].pages["state"].tolist()
        assert columns["r0.page.count"].tolist() == offline[0].pages["count"].tolist()


def test_a_block_has_its_bytes_and_its_words(asked):
    _, runs, answers = asked
    heap = runs[0].at(40).heap()
    for span in heap.walk():
        told, columns = unpack(answers.block(run=0, moment=40, start=span.start + span.size // 2))
        assert (told["start"], told["size"], told["payload"]) == (span.start, span.size, span.payload)
        assert bytes(columns["byte.value"]) == heap.process.peek(span.start, min(span.size, 4096))
        words = heap.words(span.start, span.start + min(span.size, 4096), span.start)
        names = [(told["texts"][n], told["texts"][t]) for n, t in zip(
            columns["word.name"].tolist(), columns["word.text"].tolist(), strict=True)]  # fmt: skip
        assert names == [(word.name, word.text) for word in words]


WRONG = [
    ("window", {"run": 2, "from": 0, "to": 1}, "run=2: it is to be from 0 to 1"),
    ("window", {"run": 0, "to": 1}, "from is missing"),
    ("window", {"run": 0, "from": "x", "to": 1}, "from=x: no whole number"),
    ("window", {"run": 0, "from": 9, "to": 3}, "to=3: it is to be from 9"),
    ("window", {"run": 0, "from": 0, "to": 3, "width": 0}, "width=0"),
    ("window", {"run": 0, "from": 0, "to": float("inf")}, "to=inf: no whole number"),
    ("window", {"run": 0, "from": 0, "to": [3]}, "no whole number"),
    ("window", {"run": 0, "from": 0, "to": 3, "self": 1}, "self: no such word"),
    ("moment", {"run": 0, "moment": -1}, "moment=-1"),
    ("moment", {"run": 0, "moment": 10**9}, "moment=1000000000: it is to be from 0 to 50"),
    ("moment", {"run": 0, "event": 3}, "its words are run, moment"),
    ("block", {"run": 0, "moment": 3, "start": 5}, "no span of the heap has this address at moment 3"),
    ("block", {"run": 0, "moment": 3, "start": 5, "process": 1}, "process 1"),
]


@pytest.mark.parametrize(("kind", "question", "why"), WRONG)
def test_a_question_that_makes_no_sense_is_refused(asked, kind, question, why):
    with pytest.raises(UsageError, match=why):
        getattr(asked[2], kind)(**question)


def test_two_threads_ask_at_once(asked):
    answers = asked[2]
    alone = {done: answers.moment(run=0, moment=done) for done in range(0, 50, 7)}
    found = [{}, {}]

    def ask(mine, order):
        for done in order:
            mine[done] = answers.moment(run=0, moment=done)

    threads = [
        threading.Thread(target=ask, args=(mine, order))
        for mine, order in zip(found, (sorted(alone), sorted(alone, reverse=True)), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone, alone]


def test_an_empty_window_is_an_answer(asked):
    told, columns = unpack(asked[2].window(run=0, **{"from": 3, "to": 3}))
    assert told["mode"] == "blocks"
    assert np.array_equal(columns["event.op"], [])
