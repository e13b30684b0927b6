"""The replay: twins agree, planted mistakes are caught and named, processes fork, exec and exit."""

import contextlib
import dataclasses
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heaplab._core import lib
from heaplab.allocators import Allocator, Spec, names, parse
from heaplab.errors import Rule, SegmentationFault
from heaplab.kernel import Kernel
from heaplab.lab import Run, run
from heaplab.lab.replay import Replay
from heaplab.testing.traces import event_lists
from heaplab.traces import NULL_ID, Event, Op, Trace, synthetic

KIB = 1024
M, F, R, C, A = Op.MALLOC, Op.FREE, Op.REALLOC, Op.CALLOC, Op.ALIGNED


def without_seconds(record: Run) -> Run:
    return dataclasses.replace(record, language="", seconds=None)


@pytest.fixture(scope="module")
def forking() -> Trace:
    """Three processes that share blocks, with an exec in one, and each op in each of them."""
    events = [Event(Op.MALLOC, slot, 50 + 997 * slot % 3000) for slot in range(400)]
    events += [Event(Op.CALLOC, 400, 150_000), Event(Op.ALIGNED, 401, 700, 512), Event(Op.FREE, NULL_ID)]
    events += [Event(Op.FORK, 1), Event(Op.FORK, 2, process=1)]
    for process in (0, 1, 2):
        events += [Event(Op.FREE, slot, process=process) for slot in range(process, 400, 4)]
        events += [Event(Op.REALLOC, 400, 90_000 + process, process=process)]
        events += [Event(Op.REALLOC, 401, 3000, process=process)]
    events += [Event(Op.EXEC, process=1), Event(Op.MALLOC, 0, 5000, process=1), Event(Op.EXIT, process=0)]
    events += [
        Event(Op.REALLOC, 0, 6000, process=1),
        Event(Op.FREE, 401, process=2),
        Event(Op.EXIT, process=2),
    ]
    return Trace.of(events, "forking")


# ---- twins ----

VARIANTS = {"freelist": ["", ":fit=best", ":fit=next:order=address", ":fit=worst:order=fifo"]}


@pytest.mark.parametrize(
    "spec", [name + variant for name in names("c") for variant in VARIANTS.get(name, [""])]
)
def test_python_and_c_agree_in_every_figure_but_seconds(spec, forking):
    for trace in (synthetic(5000, seed=2, slots=300, median=200, spread=2.0), forking):
        records = [run(trace, spec, language, seed=3) for language in ("python", "c")]
        assert [record.outcome for record in records] == ["finished", "finished"]
        assert without_seconds(records[0]) == without_seconds(records[1])


def test_two_runs_are_equal_and_the_seed_moves_the_heap(forking):
    records = [run(forking, "buddy", seed=seed) for seed in (5, 5, 6)]
    assert without_seconds(records[0]) == without_seconds(records[1])
    assert records[0].heap_map.regions != records[2].heap_map.regions


def test_verification_changes_no_figure(forking):
    records = [run(forking, "freelist", verify=verify) for verify in (True, False)]
    assert without_seconds(records[0]) == without_seconds(records[1])


def test_ops_have_the_numbers_of_the_c_side():
    assert [getattr(lib, f"HL_OP_{op.name}") for op in Op] == list(Op)
    assert lib.HL_NULL_ID == NULL_ID


# ---- processes ----


def test_live_heap_and_resident_across_fork_exec_and_exit(spec_of):
    events = [
        Event(Op.MALLOC, 0, 3000),
        Event(Op.FORK, 1),  # live counts twice, frames once
        Event(Op.REALLOC, 0, 5000, process=1),  # moves; its heap grows to three pages; the first is copied
        Event(Op.EXEC, process=1),  # a fresh heap: one page
        Event(Op.MALLOC, 0, 100, process=1),
        Event(Op.EXIT, process=0),
        Event(Op.EXIT, process=1),
    ]
    record = run(Trace.of(events), spec_of())
    page = 4096
    assert record.outcome == "finished"
    assert record.operations == 3
    assert record.timeline.live == (3000, 6000, 8000, 3000, 3100, 100, 0)
    assert record.timeline.heap == tuple(page * n for n in (1, 2, 3, 2, 2, 1, 0))
    assert record.timeline.resident == tuple(page * n for n in (1, 1, 3, 2, 2, 1, 0))
    assert (record.peak_live, record.peak_heap, record.peak_resident) == (8000, 3 * page, 3 * page)
    assert (record.processes, record.brk_calls) == (2, 1 + 1 + 1)


def test_more_processes_than_pids_can_come_and_go():
    events = [Event(Op.MALLOC, 0, 10)]
    for child in range(1, 600):
        events += [Event(Op.FORK, child), Event(Op.FREE, 0, process=child), Event(Op.EXIT, process=child)]
    kernel = Kernel(ram="64 MiB", pid_max=310)
    replay = Replay(Trace.of(events), parse("buddy", "c"), kernel)
    replay.advance(len(events))
    assert replay.end is None
    assert len(kernel.system.tasks) == 2


def test_all_frames_come_back():
    kernel = Kernel(ram="64 MiB")
    free = kernel.machine.free_frames
    events = [
        Event(Op.MALLOC, 0, 50_000),
        Event(Op.FORK, 1),
        Event(Op.EXIT, process=0),
        Event(Op.EXIT, process=1),
    ]
    replay = Replay(Trace.of(events), parse("rbtree", "c"), kernel)
    replay.advance(2)
    assert kernel.machine.free_frames < free
    replay.advance(4)
    kernel.check()
    assert kernel.machine.free_frames == free


# ---- threads ----


class Told:
    """What a heap was told: the op's name and the thread that the context says."""

    def __init__(self):
        self.calls = []

    def of(self, base):
        calls = self.calls

        class Listening(base):
            def malloc(self, size: int) -> int:
                calls.append(("malloc", self.process.context.thread))
                return super().malloc(size)

            def free(self, p: int) -> None:
                calls.append(("free", self.process.context.thread))
                super().free(p)

            def thread_exit(self, thread: int) -> None:
                assert thread == self.process.context.thread
                self._load(self.root)  # a mem of the end
                calls.append(("thread_exit", thread))

        return Listening


THREADED = [
    Event(M, 0, 100, thread=3),
    Event(M, 1, 100, thread=65535),
    Event(R, 0, 200, thread=3),
    Event(F, 0, thread=1),
    Event(F, NULL_ID, thread=9),
    Event(Op.THREAD_EXIT, thread=65535),
    Event(R, 1, 300),
    Event(Op.FORK, 1),
    Event(F, 1, process=1),
    Event(F, 1, thread=65535),
]


def test_a_heap_is_called_on_the_thread_that_the_trace_says(spec_of, shelf):
    told = Told()
    record = run(Trace.of(THREADED), spec_of(told.of(shelf)))
    assert record.outcome == "finished"
    assert told.calls == [
        ("malloc", 3),
        ("malloc", 65535),
        ("malloc", 3),  # this heap's realloc is a malloc and a free
        ("free", 3),
        ("free", 1),
        ("free", 9),
        ("thread_exit", 65535),
        ("malloc", 0),
        ("free", 0),
        ("free", 0),
        ("free", 65535),
    ]
    assert record.operations == len(THREADED) - 1  # the end of a thread is a call, a fork is none
    assert record.remote_frees == 3 == Trace.of(THREADED).header.remote_frees


def test_the_end_of_a_thread_costs_its_mems(spec_of, shelf):
    events = [Event(M, 0, 10), Event(Op.THREAD_EXIT)]
    assert run(Trace.of(events), spec_of(Told().of(shelf))).mems.total == 5 + 1


def test_what_the_end_of_a_thread_raises_is_told(spec_of, shelf):
    class Buggy(shelf):
        def thread_exit(self, thread: int) -> None:
            raise IndexError(f"no cache {thread}")

    reason = fails(spec_of(Buggy), Event(M, 0, 10), Event(Op.THREAD_EXIT, thread=2))
    assert reason.startswith(
        "event 1 (thread_exit (process 0, thread 2)): IndexError: no cache 2 (test_replay.py"
    )


@pytest.mark.parametrize("name", names("c"))
def test_remote_frees_are_the_traces_on_every_design(name):
    trace = synthetic(20_000, seed=6, slots=300, threads=5)
    records = [run(trace, name, language, max_mems=None) for language in ("python", "c")]
    assert [record.remote_frees for record in records] == [trace.header.remote_frees] * 2
    assert without_seconds(records[0]) == without_seconds(records[1])


@given(event_lists())
@settings(max_examples=50, deadline=None)
def test_any_trace_of_threads_replays_on_a_heap_in_c(events):
    trace = Trace.of(events)
    record = run(trace, "rbtree", ram="64 MiB")
    assert (record.outcome, record.remote_frees) == ("finished", trace.header.remote_frees)


def test_where_payloads_lie_does_not_depend_on_threads():
    one = synthetic(3000, slots=100)
    other = Trace.of(event._replace(thread=7 + event.id % 3) for event in one.events())
    records = [run(trace, "freelist") for trace in (one, other)]
    assert records[0].heap_map == records[1].heap_map


# ---- the limit ----


def test_the_limit_stops_every_run_after_the_same_event():
    trace = synthetic(20_000, seed=4, slots=500)
    whole = run(trace, "freelist:fit=best")
    records = [
        run(trace, "freelist:fit=best", language, max_mems=50_000) for language in ("c", "c", "python")
    ]
    assert {record.outcome for record in records} == {"stopped"}
    assert len({without_seconds(record) for record in records}) == 1
    stopped = records[0]
    assert stopped.mems.total == 50_000
    assert 0 < stopped.events_done < whole.events_done
    assert f"event {stopped.events_done} (" in stopped.reason
    more = run(trace, "freelist:fit=best", max_mems=50_000 + whole.mems.max)
    assert more.events_done > stopped.events_done


def test_a_run_stopped_before_the_peak_measures_fragmentation_where_it_stopped():
    trace = Trace.of([Event(Op.MALLOC, slot, 100) for slot in range(1000)])
    stopped = run(trace, "rbtree", max_mems=500)
    assert not stopped.fragmentation.at_peak
    assert stopped.fragmentation.event == stopped.events_done == stopped.timeline.event[-1]
    assert stopped.fragmentation.live == stopped.peak_live == 100 * stopped.events_done
    assert run(trace, "rbtree").fragmentation.at_peak


# ---- planted mistakes ----


def fails(spec: Spec, *events: Event) -> str:
    """Run the events, which must fail; return why."""
    record = run(Trace.of(events), spec)
    assert record.outcome == "failed"
    return record.reason


NAMED = r"block \d+ \(\d+ bytes at 0x[0-9a-f]+\)"


def ends(spec: Spec, *events: Event, verify: bool = True) -> str:
    """Carry the events out without a walk over the heap; return why that ended, "" if it did not."""
    replay = Replay(Trace.of(events), spec, Kernel(ram="64 MiB"), verify=verify)
    replay.advance(len(events))
    return replay.end.reason if replay.end else ""


@pytest.fixture
def placing(shelf):
    """Make a design whose n-th block starts at the n-th of these offsets."""

    def placing(*offsets: int) -> type[Allocator]:
        class Placing(shelf):
            def _malloc(self, size: int, alignment: int) -> int:
                if self.process.sbrk(0) < self._start + 0x40000:
                    self._brk.grow(0x40000)
                number = self._load(self.root + 24)
                self._store(self.root + 24, number + 1)
                return self._start + offsets[number]

            def _init(self) -> None:
                self._store(self.root + 24, 0)

            def _resize(self, p: int, size: int) -> bool:
                return False

            def _free(self, p: int) -> None:
                pass

            def _usable(self, p: int) -> int:
                return 100

            def _walk(self):
                return iter(())

        return Placing

    return placing


@pytest.mark.parametrize("op", [M, C, A, R])
@pytest.mark.parametrize(
    ("first", "second", "size"),
    [(0, 0, 1), (0, 96, 10), (96, 0, 100), (0, 96, 0), (64, 0, 1000), (0xFFF0, 0, 0x12000), (0, 48, 8)],
)
def test_an_overlap_is_caught_at_the_call_that_makes_it(spec_of, placing, op, first, second, size):
    events = [Event(M, 0, 100), Event(op, 1, size, 16 if op == A else 0)]
    places = (first, second)
    if op == R:
        events, places = [*events[:1], Event(M, 1, 1), Event(R, 1, max(size, 1))], (first, 0x30000, second)
    reason = ends(spec_of(placing(*places)), *events)
    last = len(events) - 1
    wanted = rf"event {last} \({re.escape(str(events[-1]))}\): ({NAMED}) overlaps ({NAMED})"
    found = re.fullmatch(wanted, reason)
    assert found, reason
    assert found[1].startswith(f"block 1 ({events[-1].size} bytes at ")
    assert found[2].startswith("block 0 (100 bytes at ")


def test_neighbours_do_not_overlap(spec_of, placing):
    places = (0x1000, 0xFF0, 0x1070, 0xFE0, 0x10000, 0x20000, 0xFFF0)
    sizes = (100, 16, 17, 0, 0x10000, 1, 16)
    events = [Event(M, slot, size) for slot, size in enumerate(sizes)]
    assert ends(spec_of(placing(*places)), *events) == ""


def test_a_place_that_was_freed_may_be_given_again(spec_of, placing):
    events = [Event(M, 0, 100), Event(F, 0), Event(M, 1, 90), Event(R, 1, 200), Event(M, 2, 90)]
    design = placing(0, 16, 64, 0x1000)
    assert ends(spec_of(design), *events) == ""


def test_a_forked_child_knows_the_blocks_of_its_parent(spec_of, placing):
    events = [Event(M, 0, 100), Event(Op.FORK, 1), Event(F, 0), Event(M, 1, 50, process=1)]
    reason = ends(spec_of(placing(0, 64)), *events)
    assert re.fullmatch(r"event 3 \(.*process 1.*\): block 1 \(50 .*\) overlaps block 0 \(100 .*\)", reason)


def test_without_verification_overlaps_are_nobodys_business(spec_of, placing):
    events = [Event(M, 0, 100), Event(M, 1, 100)]
    assert ends(spec_of(placing(0, 0)), *events, verify=False) == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 0x2FFF), st.integers(0, 2000), st.booleans()), max_size=60))
def test_overlaps_are_those_that_comparing_all_blocks_finds(spec_of, placing, steps):
    """Blocks anywhere in 192 KiB, some of them freed at once: against all pairs."""
    events, live, clash = [], [], None
    for slot, (place, size, freed) in enumerate(steps):
        start, end = 16 * place, 16 * place + max(size, 1)
        if any(a < end and start < b for a, b in live):
            clash = len(events)
        events.append(Event(M, slot, size))
        if clash is not None:
            break
        if freed:
            events.append(Event(F, slot))
        else:
            live.append((start, end))
    reason = ends(spec_of(placing(*(16 * place for place, _, _ in steps))), *events)
    assert reason.startswith(f"event {clash} ") if clash is not None else reason == ""


def test_data_lost_by_realloc_is_caught(spec_of, shelf):
    class Forgetful(shelf):
        def realloc(self, p: int, size: int) -> int:
            to = self.malloc(size)
            self.process.copy(to, p, min(self.usable_size(p), size) - 17)
            return to

    spec = spec_of(Forgetful)
    assert "from byte 63 on" in fails(spec, Event(M, 0, 75), Event(R, 0, 300))
    assert "from byte 23 on" in fails(spec, Event(M, 0, 300), Event(R, 0, 40))


def test_realloc_keeps_the_shorter_of_both_sizes_whatever_they_are(spec_of):
    sizes = [1, 7, 8, 9, 15, 16, 17, 4095, 4096, 4097, 10_000, 3, 130_000, 140_000, 5, 0, 12]
    events = [Event(M, 0, sizes[0]), *(Event(R, 0, size) for size in sizes if size), Event(F, 0)]
    assert run(Trace.of(events), spec_of()).outcome == "finished"
    for name in names("c"):
        assert run(Trace.of(events), name).outcome == "finished"


@pytest.mark.parametrize(("event", "off"), [(Event(M, 0, 10), 8), (Event(A, 0, 10, 64), 32)])
def test_misalignment_is_caught(spec_of, shelf, event, off):
    class Askew(shelf):
        def _malloc(self, size: int, alignment: int) -> int:
            return super()._malloc(size + off, max(alignment, 64)) + off

    wanted = rf".*: the block at 0x[0-9a-f]+ is not a multiple of {max(event.align, 16)}"
    assert re.fullmatch(wanted, fails(spec_of(Askew), event))


def test_an_address_that_no_space_has_is_caught(spec_of, shelf):
    class Far(shelf):
        def _malloc(self, size: int, alignment: int) -> int:
            return 0xFFFF_8000_0000_0010

    assert "is in no address space" in fails(spec_of(Far), Event(M, 0, 0))


def test_what_calloc_leaves_unclean_is_caught(spec_of, shelf):
    class Unclean(shelf):
        def calloc(self, n: int, size: int) -> int:
            p = super().calloc(n, size)
            self.process.store(p + 4999, 1, 1)
            return p

    assert "is not zero at byte 4999" in fails(spec_of(Unclean), Event(C, 0, 5000))


def test_an_address_that_is_nobodys_is_caught(spec_of, shelf):
    class Wild(shelf):
        def _malloc(self, size: int, alignment: int) -> int:
            return 0x10

    reason = fails(spec_of(Wild), Event(M, 0, 10))
    told = "event 0 (malloc 0 10): block 0 (10 bytes at 0x10) is not memory that can be read and written: "
    assert reason.startswith(told + "SegmentationFault: ")


@pytest.mark.parametrize("size", [1 << 30, 1 << 46, (1 << 47) - 1])
def test_a_block_larger_than_its_process_is_caught(spec_of, shelf, size):
    class Generous(shelf):
        def malloc(self, size: int) -> int:
            return self._start

    reason = fails(spec_of(Generous), Event(M, 0, size))
    assert re.fullmatch(
        rf".*: block 0 \({size} bytes at 0x.*\) is larger than all memory of its process", reason
    )


@pytest.mark.parametrize("op", [M, F])
def test_a_heap_that_hushes_up_that_it_was_killed_is_found_out(spec_of, shelf, op):
    class Hushing(shelf):
        def _die(self) -> None:
            with contextlib.suppress(SegmentationFault):
                self._load(0x10)

        def _free(self, p: int) -> None:
            self._die()

        def _malloc(self, size: int, alignment: int) -> int:
            if size == 20:
                self._die()
                return self._start
            return super()._malloc(size, alignment)

    reason = fails(spec_of(Hushing), Event(M, 0, 10), Event(M, 1, 20) if op == M else Event(F, 0))
    assert reason.endswith("process 0 is dead, though the trace does not say so")


def test_what_a_heap_in_python_raises_is_told(spec_of, shelf):
    class Buggy(shelf):
        def _free(self, p: int) -> None:
            raise IndexError("no bin 7")

    reason = fails(spec_of(Buggy), Event(M, 0, 10), Event(F, 0))
    assert re.fullmatch(r"event 1 \(free 0\): IndexError: no bin 7 \(test_replay\.py, line \d+\)", reason)


def test_a_heap_in_python_can_mend_what_its_access_raised(spec_of, shelf):
    class Mending(shelf):
        def _free(self, p: int) -> None:
            try:
                self._load(0x10)
            except SegmentationFault as error:
                raise ValueError("seen") from error

    reason = fails(spec_of(Mending), Event(M, 0, 10), Event(F, 0))
    assert reason.startswith("event 1 (free 0): ValueError: seen (test_replay.py, line ")


def test_what_a_slot_held_before_is_not_what_it_holds_now(spec_of, shelf):
    class Restoring(shelf):
        def _malloc(self, size: int, alignment: int) -> int:
            if size == 8:
                self.process.copy(self._start + 64, self._start + 16, 24)
            return super()._malloc(size, alignment)

    events = [Event(M, 0, 24), Event(F, 0), Event(M, 0, 24), Event(M, 1, 8), Event(F, 0)]
    assert "from byte 0 on" in fails(spec_of(Restoring), *events)


def test_ctrl_c_within_a_heap_in_python_is_heard(spec_of, shelf):
    class Interrupted(shelf):
        def _free(self, p: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Trace.of([Event(M, 0, 10), Event(F, 0)]), spec_of(Interrupted))


# ---- heaps broken from outside, in both languages ----


@pytest.fixture(params=["python", "c"])
def begun(request) -> Replay:
    """A replay that has allocated blocks of 100 bytes, 0 to 9, and has yet to free them."""
    events = [Event(M, slot, 100) for slot in range(10)] + [Event(F, slot) for slot in range(10)]
    replay = Replay(Trace.of(events), parse("rbtree", request.param), Kernel(ram="64 MiB"))
    replay.advance(10)
    return replay


def heap_of(replay: Replay) -> Allocator:
    [(_, heap)] = replay.heaps()
    return heap


@pytest.mark.parametrize("byte", [0, 41, 95, 96, 99])
def test_a_byte_changed_from_outside_is_named(begun, byte):
    address = int(begun.slots(0)["address"][3])
    process = heap_of(begun).process
    process.store(address + byte, process.load(address + byte, 1) ^ 0x80, 1)
    begun.advance(20)
    assert begun.done == 13
    assert begun.end.reason == (
        f"event 13 (free 3): block 3 at {address:#x} has lost what was written to it, from byte {byte} on"
    )


def test_a_broken_header_ends_the_run_with_its_rule(begun):
    address = int(begun.slots(0)["address"][3])
    heap_of(begun).process.store64(address - 8, 0xBAD)
    begun.advance(20)
    assert begun.end.failed
    assert f"HeapCorruption: {address:#x}: {Rule.BROKEN_HEADER.text}" in begun.end.reason


def test_a_heap_that_is_unmapped_ends_the_run(begun):
    heap = heap_of(begun)
    heap.process.munmap(heap.root // 4096 * 4096, 1 << 20)
    begun.advance(20)
    assert re.match(rf"event 10 \(free 0\): {NAMED} is not memory .*: SegmentationFault: ", begun.end.reason)
    begun.advance(20)
    assert begun.done == 10


def test_a_process_killed_from_outside_ends_the_run(begun):
    process = heap_of(begun).process
    process.kill(process.pid, 9)
    begun.advance(20)
    assert begun.end.reason == "event 10 (free 0): process 0 is dead, though the trace does not say so"


# ---- memory that is not there ----


@pytest.mark.parametrize("language", ["python", "c"])
def test_no_memory_from_the_kernel_ends_the_run(language):
    record = run(Trace.of([Event(M, 0, 10), Event(M, 1, 1 << 40)]), "buddy", language, ram="64 MiB")
    gave_none = "event 1 (malloc 1 1099511627776): the allocator gave no memory"
    assert record.reason == f"{gave_none}: the machine has 64.0 MiB (--ram)"
    assert record.events_done == 1
    assert record.fragmentation.live == 10


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_machine_without_frames_ends_the_run(language):
    events = [Event(M, slot, 100_000) for slot in range(100)]
    record = run(Trace.of(events), "buddy", language, ram="4 MiB")
    assert record.outcome == "failed"
    assert "the machine's memory (--ram) is exhausted, with " in record.reason
    assert "OutOfMemory" in record.reason
    assert 0 < record.events_done < 40


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_machine_too_small_for_a_heap_ends_the_run_before_it_begins(language):
    record = run(Trace.of([Event(M, 0, 10)]), "buddy:top_pad=2GiB", language, ram="1 MiB")
    assert record.reason.startswith("before the first event: MemoryError")
    assert (record.outcome, record.events_done, record.operations) == ("failed", 0, 0)


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_broken_root_ends_the_run_at_the_fork(language):
    trace = Trace.of([Event(M, 0, 10), Event(Op.FORK, 1)])
    replay = Replay(trace, parse("rbtree", language), Kernel(ram="64 MiB"))
    replay.advance(1)
    heap = heap_of(replay)
    heap.process.store64(heap.root, 0)
    replay.advance(2)
    assert replay.end.reason.startswith("event 1 (fork 1): HeapCorruption")
    assert replay.done == 1


def test_an_empty_trace_is_a_run_too():
    record = run(Trace.of([]), "buddy")
    assert (record.outcome, record.operations, record.peak_live, record.mems.mean) == ("finished", 0, 0, None)


def test_a_walk_that_raises_is_a_failure_with_a_reason(spec_of, shelf):
    class Lost(shelf):
        def _walk(self):
            raise IndexError("no block 3")

    reason = fails(spec_of(Lost), Event(M, 0, 10))
    told = "the walk over the heap after 1 events: IndexError: no block 3 (test_replay.py, line "
    assert reason.startswith(told)


# ---- without payloads ----


@pytest.mark.parametrize("spec", ["rbtree", "slab"])
def test_without_payloads_more_may_live_than_the_machine_has(spec):
    events = [Event(M, slot, 4 << 20) for slot in range(9216)]
    record = run(Trace.of([*events, Event(F, 0)]), spec, "c", ram="64 MiB", payload=False)
    assert (record.outcome, record.peak_live) == ("finished", 36 << 30)
    assert record.peak_heap >= 36 << 30
    assert record.peak_resident < 64 << 20


def test_without_payloads_the_allocator_does_what_it_does_with_them():
    trace = synthetic(3000, seed=1, slots=100)
    with_payload, without = (run(trace, "rbtree", "c", payload=payload) for payload in (True, False))
    assert without.mems == with_payload.mems
    assert without.peak_heap == with_payload.peak_heap
    assert without.faults <= with_payload.faults
