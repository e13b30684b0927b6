"""Moments: the log is what a run measures, and every moment is that of a replay that was never forked."""

import dataclasses
import gc
import random
import weakref

import numpy as np
import pytest

from heaplab.allocators import parse
from heaplab.errors import DamagedTrace, UsageError
from heaplab.kernel import Kernel
from heaplab.lab import run
from heaplab.lab.moments import Moments
from heaplab.lab.replay import Replay
from heaplab.machine import Pte
from heaplab.traces import NULL_ID, Event, Op, Trace, synthetic

M, F, R, C, A = Op.MALLOC, Op.FREE, Op.REALLOC, Op.CALLOC, Op.ALIGNED
PAGE = 4096


@pytest.fixture(scope="module")
def family() -> Trace:
    """Processes that share blocks, threads, an exec, and ends in another order than the births."""
    events = [Event(M, slot, 40 + 997 * slot % 3000) for slot in range(300)]
    events += [
        Event(C, 300, 150_000),
        Event(A, 301, 700, 512),
        Event(F, NULL_ID),
        Event(M, 302, 90, thread=1),
    ]
    events += [Event(Op.FORK, 1), Event(Op.FORK, 2, process=1)]
    for step in range(0, 300, 3):
        for process in (0, 1, 2):
            events.append(Event(F, step + process, process=process))
        events.append(Event(R, step + 2 - step // 100 % 2, 5 * step + 9, process=0))
    events += [Event(R, 300, 90_000 + process, process=process) for process in (0, 1, 2)]
    events += [Event(Op.THREAD_EXIT, thread=1), Event(Op.EXEC, process=1), Event(M, 0, 5000, process=1)]
    events += [Event(Op.FORK, 3, process=1), Event(M, 1, 70_000, process=3), Event(Op.EXIT, process=0)]
    events += [Event(R, 0, 6000, process=1), Event(Op.EXIT, process=3), Event(F, 301, process=2)]
    events += [Event(Op.EXIT, process=2), Event(F, 0, process=1), Event(M, 0, 77, process=1)]
    return Trace.of(events, "family")


@pytest.fixture(scope="module")
def churn() -> Trace:
    return synthetic(4000, seed=4, slots=200, median=300, spread=2.0)


def plain(trace: Trace, spec: str, language: str, until: int, **options: object) -> Replay:
    """A replay of nothing but the first events, in a kernel of its own."""
    replay = Replay(trace, parse(spec, language), Kernel(ram="4 GiB", seed=1), verify=False)
    replay.advance(until)
    assert replay.end is None
    return replay


def memory(process) -> dict[int, tuple[bool, bytes]]:
    """What the heap's VMAs hold, and which of their pages are there."""
    pages, look = {}, process.look()
    for line in process.maps().splitlines():
        if line.endswith("[stack]"):
            continue
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        for va in range(start, end, PAGE):
            present = bool(process.context.space.pte(va) & Pte.PRESENT)
            pages[va] = (present, look.read(va, PAGE) if present else b"")
    return pages


def shared(processes: dict) -> dict[tuple[int, int], int]:
    """How many of the processes have each page's frame."""
    frames = {
        (number, va): process.frame_of(va) for number, process in processes.items() for va in memory(process)
    }
    return {
        (number, va): sum(frames.get((other, va)) == frame for other in processes)
        for (number, va), frame in frames.items()
        if frame is not None
    }


def assert_same(moment, replay: Replay) -> None:
    assert moment.done == replay.done
    assert moment.processes == tuple(sorted(replay.members))
    for number, member in replay.members.items():
        heap = moment.heap(number)
        assert heap.process.maps() == member.process.maps()
        assert heap.process.sbrk(0) == member.process.sbrk(0)
        assert memory(heap.process) == memory(member.process)
        assert list(heap.walk()) == list(member.heap.walk())
        assert list(heap.index()) == list(member.heap.index())
        heap.check()
        assert np.array_equal(moment._replay.slots(number), replay.slots(number))
    sharers = shared({number: member.process for number, member in replay.members.items()})
    assert sharers == {place: moment.sharers(*place) for place in sharers}


# ---- the log ----


@pytest.mark.parametrize(
    ("spec", "language"),
    [("rbtree", "c"), ("buddy", "c"), ("slab", "c"), ("spans", "c"), ("freelist", "python")],
)
def test_the_log_adds_up_to_the_record_of_a_run(spec, language, family, churn):
    for trace in (family, churn):
        with Moments(trace, spec, language) as moments:
            log, record = moments.log(), run(trace, spec, language)
            assert (moments.end, record.outcome, len(log)) == (None, "finished", trace.header.events)
        assert int(log.mems.sum()) == record.mems.total
        assert log.start.faults + int(log.faults.sum()) == record.faults
        assert int(log.live.max()) == record.peak_live
        assert max(log.start.heap, int(log.heap.max())) == record.peak_heap
        assert max(log.start.resident, int(log.resident.max())) == record.peak_resident
        at = np.array(record.timeline.event) - 1
        for name in ("live", "heap", "resident"):
            assert tuple(getattr(log, name)[at].tolist()) == getattr(record.timeline, name)
        names = [call.text.split("(")[0] for call in log.calls]
        assert names.count("brk") == record.brk_calls
        assert names.count("mmap") + names.count("munmap") == record.mmap_calls
        assert [call.event for call in log.calls] == sorted(call.event for call in log.calls)


def test_the_log_grows_as_it_is_asked_for(churn):
    with Moments(churn, "rbtree") as moments, Moments(churn, "rbtree") as others:
        parts = [moments.log(n) for n in (0, 1, 17, 1000, 4000)]
        assert [len(part) for part in parts] == [0, 1, 17, 1000, 4000]
        whole = others.log()
        for part in parts:
            for name in ("address", "mems", "faults", "live", "heap", "resident"):
                assert np.array_equal(getattr(part, name), getattr(whole, name)[: len(part)])
            assert part.calls == [call for call in whole.calls if call.event < len(part)]
        assert (parts[0].start, others.log(5).calls) == (
            whole.start,
            parts[2].calls[: len(others.log(5).calls)],
        )


def test_addresses_are_those_of_the_blocks(churn):
    with Moments(churn, "buddy") as moments:
        log, held = moments.log(), {}
        for k, event in enumerate(churn.events()):
            assert moments.event(k) == event
            assert bool(log.address[k]) == (event.op != F)
            held[event.id] = int(log.address[k])
        assert {slot: address for slot, address in held.items() if address} == {
            label.slot: address for address, label in moments.at(4000).labels().items()
        }


def test_system_calls_are_told_as_strace_does():
    events = [Event(M, 0, 200_000), Event(F, 0)]
    with Moments(Trace.of(events), "rbtree:mmap_threshold=128KiB:top_pad=0") as moments:
        before, _, made, undone = moments.log().calls
        address = int(moments.log().address[0])
    assert (before.event, before.process, before.text.split("(")[0]) == (-1, 0, "brk")
    flags = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"
    assert (made.event, made.text) == (0, f"mmap(NULL, 200704, {flags}) = {address:#x}")
    assert (undone.event, undone.text) == (1, f"munmap({address:#x}, 200704) = 0")


# ---- moments ----


@pytest.mark.parametrize(
    ("spec", "language"), [("rbtree", "c"), ("buddy", "python"), ("spans", "c"), ("slab", "c")]
)
def test_any_moment_is_that_of_a_fresh_replay(spec, language, family, churn):
    chance = random.Random(spec)
    for trace in (churn, family):
        wanted = [chance.randrange(trace.header.events + 1) for _ in range(6)] + [0, trace.header.events]
        with Moments(trace, spec, language) as moments:
            for n in wanted:
                assert_same(moments.at(n), plain(trace, spec, language, n))
            moments._snapshots._first.kernel.check()


def test_step_by_step_forwards_and_backwards(family):
    events = family.header.events
    with Moments(family, "spans") as moments:
        found = {n: plain(family, "spans", "c", n) for n in range(events - 15, events + 1)}
        for n in [*found, *reversed(found)][::2]:
            assert_same(moments.at(n), found[n])


def test_labels(family):
    with Moments(family, "rbtree") as moments:
        labels = {label.slot: label for label in moments.at(310).labels(2).values()}
        assert labels[302].thread == 1
        assert labels[302].event == 303
        for n in (310, 500, family.header.events - 6):
            moment = moments.at(n)
            for number in moment.processes:
                for address, label in moment.labels(number).items():
                    event = moments.event(label.event)
                    assert (event.id, event.size, event.thread, event.process) == (
                        label.slot,
                        label.size,
                        label.thread,
                        label.process,
                    )
                    assert moments.log().address[label.event] == address


def test_references_are_those_that_the_log_counts(family, churn):
    for trace, ks in ((churn, (0, 1, 2000, 3999)), (family, (0, 303, 304, 305, 306, 420, 712))):
        for language in ("c", "python"):
            with Moments(trace, "rbtree", language) as moments:
                log = moments.log()
                for k in ks:
                    assert len(moments.references(k)) == log.mems[k]


def test_both_languages_make_the_same_references(churn):
    with Moments(churn, "buddy") as one, Moments(churn, "buddy", "python") as other:
        assert one.references(777) == other.references(777) != []


def test_faults_come_back_as_a_fork_would_not_keep_them(spec_of, shelf):
    """Zero frames in a VMA that nobody has written, and VMAs that merge: both differ in a child of fork."""

    class Reading(shelf):
        def _malloc(self, size, alignment):
            page = self.process.page_size
            if size > page:  # the mapping that comes next, and touches it, is one VMA with it
                self.process.store64(self.process.mmap(page), 1)
            self.process.load64(self.process.mmap(3 * page, prot=1) + page)
            return super()._malloc(size, alignment)

    trace = Trace.of([Event(M, slot, 10 + 8000 * (slot % 3 == 1)) for slot in range(600)])
    spec = spec_of(Reading)
    with Moments(trace, spec) as moments:
        for n in (600, 300, 301, 302, 303, 257, 256):
            replay = Replay(trace, spec, Kernel(ram="4 GiB", seed=1), verify=False)
            replay.advance(n)
            ours, theirs = moments.at(n).heap().process, replay.members[0].process
            assert ours.maps() == theirs.maps()
            assert memory(ours) == memory(theirs)


# ---- what ends early ----


def test_a_broken_heap_has_a_last_moment(spec_of, shelf):
    class Forgetful(shelf):
        def _free(self, p):
            if self._load(p - 16) == 333:
                self._store(self.root + 40, p)  # hands the next out over what lives
            super()._free(p)

    events = [*(Event(M, slot, 100) for slot in range(300)), Event(M, 300, 333), Event(M, 301, 10)]
    trace = Trace.of(
        [*events, Event(F, 300), Event(M, 300, 99), Event(M, 302, 99), Event(M, 303, 99), Event(F, 0)]
    )
    spec = spec_of(Forgetful)
    record = run(trace, spec)
    assert record.outcome == "failed"
    with Moments(trace, spec) as moments:
        log = moments.log()
        assert (len(log), moments.done) == (record.events_done, record.events_done)
        assert (moments.end.failed, moments.end.reason) == (True, record.reason)
        last = moments.at(moments.done)
        assert last.done == moments.done
        assert len(last.labels()) == 301 + moments.done - 303
        assert len(moments.references(moments.done)) == 5
        for n in (moments.done + 1, trace.header.events):
            with pytest.raises(UsageError, match=r"ends at moment 305: event 305 .*overlaps"):
                moments.at(n)
        with pytest.raises(UsageError, match="ends at moment"):
            moments.references(306)
        with pytest.raises(UsageError, match="no moment 308"):
            moments.at(308)


def test_a_design_that_raises_and_one_that_never_returns(spec_of, shelf):
    class Raising(shelf):
        def _malloc(self, size, alignment):
            return super()._malloc(size, alignment) if size < 50 else {}[size]

    class Endless(shelf):
        def _free(self, p):
            while True:
                self._load(p - 16)

    trace = Trace.of([Event(M, 0, 10), Event(M, 1, 20), Event(F, 0), Event(M, 0, 60), Event(F, 0)])
    with Moments(trace, spec_of(Raising)) as moments:
        assert [len(moments.log()), moments.end.failed] == [3, True]
        assert "KeyError: 60 (test_moments.py" in moments.end.reason
        assert moments.at(3).labels()[int(moments.log().address[1])].slot == 1
        assert len(moments.references(3)) == 0
    with Moments(trace, spec_of(Endless), max_mems=1000) as moments:
        assert [len(moments.log()), moments.end.failed] == [2, False]
        assert moments.end.reason == "more than 1,000 mems at event 2 (free 0)"
        assert len(moments.at(2).labels()) == 2
        assert len(moments.references(2)) == 1000 - int(moments.log().mems.sum())


def test_a_heap_that_cannot_begin(spec_of, shelf):
    class Unborn(shelf):
        @classmethod
        def create(cls, process, options):
            raise MemoryError("no root")

    with Moments(Trace.of([Event(M, 0, 10)]), spec_of(Unborn)) as moments:
        assert (len(moments.log()), moments.at(0).processes) == (0, ())
        assert moments.end.reason == "before the first event: MemoryError: no root"
        with pytest.raises(UsageError, match="no process 0 is alive at moment 0: choose among none"):
            moments.at(0).heap()


def test_a_design_that_keeps_something_in_python_is_not_forked(spec_of, shelf):
    class Stateful(shelf):
        def _malloc(self, size, alignment):
            self.calls = getattr(self, "calls", 0) + 1
            return super()._malloc(size + 16 * self.calls, alignment)

    trace, spec = Trace.of([Event(M, slot, 10) for slot in range(400)]), spec_of(Stateful)
    with Moments(trace, spec) as moments:
        log = moments.log()
        for n in (400, 350, 320):
            assert sorted(moments.at(n).labels()) == log.address[:n].tolist()
            assert moments.at(n).heap().calls == n
            assert len(moments.references(n - 1)) == log.mems[n - 1]


# ---- room ----


@pytest.mark.parametrize("ram", ["1100 KiB", "1600 KiB", "3 MiB", "8 MiB"])
def test_no_machine_is_too_small_for_snapshots(ram):
    """The smallest just holds the replay; each next one holds more of what is left behind."""
    events = [Event(M, slot, 30_000) for slot in range(30)]
    events += [event for n in range(600) for event in (Event(F, n % 30), Event(M, n % 30, 30_000 - n % 7))]
    trace = Trace.of(events)
    assert run(trace, "rbtree", ram=ram).outcome == "finished"
    with Moments(trace, "rbtree", ram=ram) as moments:
        moments.log()
        held = []
        for n in (1230, 700, 701, 30, 1229, 5, 1000):
            held.append(moments.at(n))
            replay = Replay(trace, moments.spec, Kernel(ram=ram, seed=1), verify=False)
            replay.advance(n)
            assert memory(held[-1].heap().process) == memory(replay.members[0].process)
            for moment in held[-4:]:
                assert len(moment.labels()) <= 30
        assert len(moments.references(999)) == moments.log().mems[999]
        machine, system = replay.kernel.machine, moments._snapshots._first.kernel.system
        assert system.oom_kills == []
        used = machine.frame_count - system.machine.free_frames
        assert used <= machine.frame_count // 2 + moments._snapshots.need
        moments._snapshots._first.kernel.check()


def test_snapshots_are_few_and_no_zombie_stays(family):
    with Moments(family, "buddy") as moments:
        for n in range(0, family.header.events, 11):
            moments.at(n)
        snapshots = moments._snapshots
        assert len(snapshots) <= 1 + 3 + 16 + 16
        system = snapshots._first.kernel.system
        assert all(task.mm is not None for task in system.tasks.values())
        alive = [*snapshots._every.values(), *snapshots._near.values(), *snapshots._kept.values()]
        assert len(system.tasks) == 1 + sum(len(replay.members) for replay in [snapshots._first, *alive])


def test_a_moment_says_when_it_is_no_longer_good(churn):
    moments = Moments(churn, "buddy")
    first = moments.at(100)
    assert len(list(first.heap().walk())) > 0
    for n in range(101, 117):
        moments.at(n)
    with pytest.raises(UsageError, match="moment 100 is no longer good: ask for it again"):
        first.heap()
    again, machine = moments.at(100), moments._snapshots._first.kernel.machine
    gone = weakref.ref(machine)
    moments.close()
    moments.close()
    for use in (again.heap, again.labels, lambda: moments.at(3), moments.log):
        with pytest.raises(UsageError):
            use()
    del first, again, machine
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("events", [1, 3])
def test_a_trace_that_is_not_what_its_header_says(events):
    trace = Trace.of([Event(M, 0, 10), Event(F, 0)])
    damaged = dataclasses.replace(trace, header=dataclasses.replace(trace.header, events=events))
    with Moments(damaged, "buddy") as moments, pytest.raises(DamagedTrace):
        moments.log()


def test_progress_is_told(churn):
    told = []
    with Moments(churn, "buddy", progress=told.append) as moments:
        moments.log(0)
        moments.log()
        assert told == [4000]
        moments.at(3000)
        assert told[-1] == 3000
