"""A step: what an event did to a heap, compared with what two moments, the log and a faithful replay say."""

from collections import Counter

import numpy as np
import pytest

from heaplab.allocators import State, names, parse
from heaplab.allocators.core import CAllocator
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab.moments import Moments
from heaplab.lab.replay import Replay
from heaplab.machine import Pte
from heaplab.traces import NULL_ID, Event, Op, Trace
from heaplab.views.changes import unseen_faults
from heaplab.views.heap import PageState
from heaplab.views.memory import block_at
from heaplab.views.step import Steps, request_text

PAGE = 4096

#: a parent and a child that share pages, copy them, write them again, map and give back
FORKED = [
    Event(Op.MALLOC, 0, 9000),
    Event(Op.CALLOC, 1, 5000),
    Event(Op.MALLOC, 2, 100),
    Event(Op.FORK, 1),
    Event(Op.FREE, 0, process=1),
    Event(Op.MALLOC, 3, 6000),
    Event(Op.REALLOC, 1, 9000, process=1),
    Event(Op.FREE, 2),
    Event(Op.MALLOC, 3, 300_000, process=1),
    Event(Op.FREE, 3, process=1),
    Event(Op.EXIT, process=1),
    Event(Op.MALLOC, 2, 200),
    Event(Op.ALIGNED, 4, 200, 64),
    Event(Op.REALLOC, 0, 20_000),
    Event(Op.CALLOC, 5, 40_000),
    Event(Op.FREE, NULL_ID),
    Event(Op.FREE, 0),
    Event(Op.FREE, 5),
    Event(Op.FREE, 3),
    Event(Op.EXEC),
    Event(Op.MALLOC, 0, 50),
]


@pytest.fixture(scope="module")
def forked():
    with Moments(Trace.of(FORKED, "forked"), "rbtree") as moments:
        yield Steps(moments)


def entries(replay: Replay) -> dict[tuple[int, int], int]:
    """The leaf entries of the pages of all heaps, by process and address."""
    found = {}
    for number, member in replay.members.items():
        space = member.process.context.space
        for line in member.process.maps().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "[stack]" not in line:
                values = space.ptes(start, (end - start) // PAGE).tolist()
                found |= {(number, start + PAGE * at): value for at, value in enumerate(values)}
    return found


def faults_of(before: dict, after: dict) -> Counter[str]:
    """What the entries of a replay that nobody forked tell of faults in one event."""
    found: Counter[str] = Counter()
    for key, entry in after.items():
        old = before.get(key, 0)
        if entry & Pte.PRESENT and not old & Pte.PRESENT:
            found["came"] += 1
        elif entry & Pte.PRESENT and Pte.frame(entry) != Pte.frame(old):
            found["copied"] += 1
        elif entry & Pte.WRITE and not old & Pte.WRITE:
            found["alone"] += 1
    return found


@pytest.mark.parametrize("spec", ["rbtree", "buddy", "slab", "spans"])
def test_pages_that_come_or_are_copied_are_the_faults_of_the_event(spec: str) -> None:
    trace = Trace.of(FORKED, "forked")
    faithful = Replay(trace, parse(spec, "c"), Kernel(ram="4 GiB", seed=1))
    with Moments(trace, spec) as moments:
        steps, log = Steps(moments), moments.log()
        seen: Counter[str] = Counter()
        for event in range(moments.events):
            step = steps.at(event)
            before = entries(faithful)
            faithful.advance(event + 1)
            true = faults_of(before, entries(faithful))
            pages: Counter[str] = Counter()
            for change in step.pages:
                if change.faults:
                    pages["copied" if change.after is PageState.COPIED else "came"] += change.count
                pages["twice"] += change.count * max(change.faults - 1, 0)
            if FORKED[event].op not in (Op.FORK, Op.EXEC):  # whose memory is another process's
                assert pages["came"] == true["came"]
                assert pages["copied"] == true["copied"]
                assert unseen_faults(step.faults, step.pages) == true["alone"]
                assert step.faults == true.total() + pages["twice"]
            assert step.faults == log.faults[event]
            seen += true
        assert min(seen["came"], seen["copied"], seen["alone"]) > 0


def test_a_request_in_words_with_its_result(forked) -> None:
    told = [(step.request, step.result) for step in map(forked.at, range(len(FORKED)))]
    address = forked.moments.log().address
    assert told[0][0] == "malloc of 9,000 bytes, as block 0"
    assert told[0][1] == f"returns {int(address[0]):#x} (+0x50)"
    assert told[4] == (
        "free of block 0 (process 1)",
        f"it was at {int(address[0]):#x} (+0x50): 9,000 bytes, there since event 0",
    )
    assert told[6][0] == "realloc of block 1 from 5,000 to 9,000 bytes (process 1)"
    assert told[6][1].startswith("moves from ") or told[6][1].startswith("stays at ")
    assert told[15] == ("free of NULL", "nothing is to be done")
    assert [told[k][0] for k in (3, 10, 12, 19)] == [
        "fork: process 1 begins as a copy",
        "exit of process 1",
        "aligned_alloc of 200 bytes at a multiple of 64, as block 4",
        "exec: process 0 begins a new program, with an empty heap",
    ]
    assert request_text(Event(Op.THREAD_EXIT, thread=2)) == "thread 2 ends"


def test_counters_are_those_of_the_log(forked) -> None:
    log = forked.moments.log()
    for event in (0, 1, 13, 20):
        step = forked.at(event)
        counters = {each.name: each for each in step.counters}
        for name in ("heap", "resident", "live"):
            column = getattr(log, name)
            assert counters[name].value == column[event]
            before = int(column[event - 1]) if event else getattr(log.start, name, 0)
            assert counters[name].change == int(column[event]) - before
        assert counters["mems"].value == int(np.sum(log.mems[: event + 1]))
        assert counters["mems"].change == log.mems[event] == len(step.references)
        assert counters["faults"].change == log.faults[event] == step.faults
    assert forked.at(8).calls == tuple(call.text for call in log.calls if call.event == 8) != ()


@pytest.mark.parametrize("spec", names("c"))
def test_blocks_that_changed_lead_from_one_walk_to_the_other(spec: str) -> None:
    with Moments(Trace.of(FORKED), spec) as moments:
        steps = Steps(moments)
        for event in (0, 4, 6, 13, 14, 16, 17):
            step = steps.at(event)
            before = steps.at(event - 1, step.process).heap if event else None
            if before is not None:
                kept = set(before.blocks)
                for change in step.blocks:
                    kept -= set(change.before)
                    kept |= set(change.after)
                assert kept == set(step.heap.blocks)
        free = steps.at(16)
        assert "freed" in " ".join(change.words for change in free.blocks)
        assert "allocated" in " ".join(change.words for change in steps.at(14).blocks)


def test_references_name_the_words_that_they_met(forked) -> None:
    step = forked.at(5)  # malloc of 6,000 bytes from the one free block
    assert [(ref.address, ref.is_store) for ref in step.references] == forked.moments.references(5)
    what = [ref.what for ref in step.references]
    assert what[0] == "root: tree"
    assert what[-1] == "block 3's header"
    last = step.references[-1]
    assert ", free, " in last.before
    assert ", allocated, " in last.after
    assert last.after.endswith("seal ok")
    free = block_at(step.heap, step.address + 6016)
    assert free.state is State.FREE
    assert f"free block +{free.start - step.heap.root:#x}'s header" in what


def test_memory_is_the_block_with_its_header_decoded(forked) -> None:
    memory = forked.at(5).memory
    assert memory.title.startswith("block 3: 6,016 bytes from 0x")
    header = memory.lines[0]
    assert header.word.name == "header"
    assert header.word.text == "size 0x1780, allocated, previous allocated, seal ok"
    shown = sum(line.skipped or len(line.data) for line in memory.lines)
    assert shown == memory.end - memory.start == 6016


def test_a_link_leads_to_a_free_block_and_back(forked) -> None:
    step = forked.at(16)
    tree = next(ref for ref in step.references if ref.what == "root: tree")
    memory = forked.memory(step, tree.to)
    assert memory.title.startswith("free block +")
    assert [line.word.name for line in memory.lines if line.word][:4] == ["header", "left", "right", "parent"]
    assert all(block_at(step.heap, word.to) for word in memory.links)
    assert forked.memory(step, 0x10) is None


def test_of_a_forks_two_sides_both_can_be_seen(forked) -> None:
    parent, child = forked.at(3), forked.at(3, 1)
    assert (parent.process, child.process, parent.processes) == (0, 1, (0, 1))
    assert {page.words for page in parent.pages} == {"shared with a child now"}
    assert {page.words for page in child.pages} == {"shared with the parent"}
    assert parent.heap.blocks == child.heap.blocks
    bystander = forked.at(4, 0)  # while the child copies pages
    assert (bystander.references, bystander.blocks) == ((), ())
    assert {page.words for page in bystander.pages} == {"no longer shared"}
    anew = forked.at(19)  # after an exec
    assert {change.words for change in anew.blocks} == {"new memory"}
    assert sum(change.count for change in anew.pages) == anew.faults == 2
    gone = forked.at(10)
    assert gone.heap is None
    assert "process 1 is no more" in str(gone)


def test_its_text_says_all_of_it(forked) -> None:
    text = str(forked.at(5))
    step = forked.at(5)
    for part in (
        "forked on rbtree, event 5 of 21 (process 0)",
        step.request,
        step.result,
        "12 references",
        "allocated, split",
        "3 faults",
        "header: size 0x1780, allocated",
        "in a red-black tree",
        step.heap.summary().partition(";")[0],
        *(ref.what for ref in step.references),
        *map(str, step.counters),
    ):
        assert part in text
    assert max(map(len, text.splitlines()[:-1])) <= 80


def test_steps_are_the_same_whatever_was_looked_at_before(forked) -> None:
    forwards = [str(forked.at(event)) for event in range(len(FORKED))]
    with Moments(Trace.of(FORKED, "forked"), "rbtree") as moments:
        steps = Steps(moments)
        backwards = [str(steps.at(event)) for event in reversed(range(len(FORKED)))]
    assert forwards == backwards[::-1]


def test_the_event_that_ends_a_run_is_shown_as_it_found_the_heap() -> None:
    events = [Event(Op.MALLOC, 0, 1000), Event(Op.MALLOC, 1, 900_000), Event(Op.FREE, 0)]
    with Moments(Trace.of(events), "freelist", ram="256 KiB") as moments:
        steps = Steps(moments)
        step = steps.at(steps.finder.failure())
        assert (step.event, step.done) == (1, 1)
        assert step.failure.startswith("event 1 (malloc 1 900000): ")
        assert step.references
        assert step.heap == steps.at(0).heap
        assert "event 1 (malloc 1 900000)" in str(step)
        with pytest.raises(UsageError, match=r"events go from 0 to 1, where the run ended: event 1"):
            steps.at(2)


def test_what_does_not_exist_is_one_sentence(forked) -> None:
    with pytest.raises(UsageError, match="there is no event 21: events go from 0 to 20"):
        forked.at(21)
    with pytest.raises(UsageError, match="no process 7 lives at event 0: choose among 0"):
        forked.at(0, 7)
    with (
        Moments(Trace.of([], "nothing"), "rbtree") as moments,
        pytest.raises(UsageError, match="has no events"),
    ):
        Steps(moments).at(0)


def test_a_design_without_a_twin_has_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse("rbtree", "c")
    monkeypatch.setattr(CAllocator, "_as_twin", lambda self: None)
    monkeypatch.setattr(spec.design, "STRUCTURE", "")
    with Moments(Trace.of(FORKED[:3]), spec) as moments:
        step = Steps(moments).at(1)
        assert step.free_title == "free blocks: -"
        assert all(ref.word == "" and ref.what.startswith("inside ") for ref in step.references)
        assert "free blocks: -" in str(step)
