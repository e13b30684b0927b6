"""A trace on a real allocator: figures that can be worked out by hand, and those of the model."""

from contextlib import closing

import pytest

from heaplab import lab
from heaplab._core import lib
from heaplab.native.peers import find_peer
from heaplab.native.playing import Latency, Space, Times, play, play_space, play_times
from heaplab.native.stage import Stage
from heaplab.traces import NULL_ID, Event, Op, Trace, open_trace, synthetic

PAGE = 4096

FAMILY = [
    Event(Op.MALLOC, 0, 100),
    Event(Op.ALIGNED, 1, 5000, 4096),
    Event(Op.CALLOC, 2, 300_000),
    Event(Op.FREE, NULL_ID),
    Event(Op.FORK, 1),
    Event(Op.FORK, 2, process=1),
    Event(Op.FREE, 0),
    Event(Op.FREE, 0, process=1),  # the child's own copy
    Event(Op.REALLOC, 2, 10, process=2),
    Event(Op.EXEC, process=1),
    Event(Op.MALLOC, 0, 0, process=1),
    Event(Op.EXIT, process=0),
    Event(Op.MALLOC, 3, 50_000, process=2),
]


def space_of(events: list[Event], allocator: str, **settings: float) -> Space:
    trace = Trace.of(events)
    return play(trace, allocator, rounds=0, **settings).space


# ---- by hand, on an allocator that puts block behind block ----


def test_every_figure_of_a_tiny_trace(planted) -> None:
    space = space_of(
        [
            Event(Op.MALLOC, 0, PAGE - 16),
            Event(Op.MALLOC, 1, 3 * PAGE - 16),
            Event(Op.FREE, 0),
            Event(Op.CALLOC, 0, 100),
        ],
        planted("NONE"),
    )
    assert (space.end.outcome, space.events_done, space.operations) == ("finished", 4, 4)
    assert space.peak_live == 4 * PAGE - 32
    assert space.peak_heap == 5 * PAGE
    assert space.peak_resident == (5 + 1) * PAGE  # and the page of its own variables
    assert space.faults == 5 + 1
    assert (space.freed_heap, space.freed_resident) == (5 * PAGE, 6 * PAGE)
    assert space.event == (1, 2, 3, 4)
    assert space.live == (PAGE - 16, 4 * PAGE - 32, 3 * PAGE - 16, 3 * PAGE + 84)
    assert space.heap == (PAGE, 4 * PAGE, 4 * PAGE, 5 * PAGE)
    assert space.resident == (2 * PAGE, 5 * PAGE, 5 * PAGE, 6 * PAGE)


def test_a_frame_that_fork_shares_counts_once(planted) -> None:
    space = space_of(
        [
            Event(Op.MALLOC, 0, 3 * PAGE - 16),
            Event(Op.FORK, 1),
            Event(Op.MALLOC, 1, PAGE - 16, process=1),  # a page, and a copy of that with the variables
            Event(Op.EXIT, process=1),
        ],
        planted("NONE"),
    )
    assert space.end.outcome == "finished"
    assert space.live == (3 * PAGE - 16, 6 * PAGE - 32, 7 * PAGE - 48, 3 * PAGE - 16)
    assert space.heap == (3 * PAGE, 6 * PAGE, 7 * PAGE, 3 * PAGE)
    assert space.resident == (4 * PAGE, 4 * PAGE, 6 * PAGE, 4 * PAGE)
    assert space.faults == 4 + 2


def test_a_peak_between_two_samples_is_found(planted) -> None:
    """A child takes 200 pages, which no sample sees: most was live later, when five processes shared 100."""
    filler = [Event(Op.FREE, NULL_ID)] * 1501
    space = space_of(
        [
            Event(Op.MALLOC, 0, 100 * PAGE - 16),
            *filler,
            Event(Op.FORK, 1),
            Event(Op.MALLOC, 1, 200 * PAGE - 16, process=1),
            Event(Op.EXIT, process=1),
            *filler,
            *(Event(Op.FORK, child) for child in range(2, 6)),
            *filler,
        ],
        planted("NONE"),
    )
    assert space.peak_live == 500 * PAGE - 5 * 16
    assert max(space.resident) < 302 * PAGE
    assert space.peak_resident == 302 * PAGE


def test_exec_begins_with_an_empty_heap_and_its_faults_are_added(planted) -> None:
    space = space_of(
        [
            Event(Op.MALLOC, 0, 3 * PAGE - 16),
            Event(Op.EXEC),
            Event(Op.MALLOC, 0, 2 * PAGE - 16),
        ],
        planted("NONE"),
    )
    assert space.end.outcome == "finished"
    assert space.heap == (3 * PAGE, 0, 2 * PAGE)
    assert space.resident == (4 * PAGE, 0, 3 * PAGE)
    assert space.faults == 4 + 3


def test_threads_are_threads_and_end(planted) -> None:
    """This one maps 16 pages for each thread that calls it, and unmaps them when the thread is gone."""
    space = space_of(
        [
            Event(Op.MALLOC, 0, 16),
            Event(Op.MALLOC, 1, 16, thread=1),
            Event(Op.MALLOC, 2, 16, thread=2),
            Event(Op.FREE, 1, thread=2),
            Event(Op.THREAD_EXIT, thread=1),
            Event(Op.MALLOC, 1, 16, thread=1),  # another thread with this number
            Event(Op.THREAD_EXIT, thread=2),
            Event(Op.THREAD_EXIT, thread=1),
            Event(Op.FREE, 0),
        ],
        planted("BY_THREAD"),
    )
    assert space.end.outcome == "finished"
    assert (space.operations, space.remote_frees) == (9, 1)
    threads = [(heap - PAGE) // (16 * PAGE) for heap in space.heap]
    assert threads == [1, 2, 3, 3, 2, 3, 2, 1, 1]


def test_a_child_has_the_thread_that_forked_it(planted) -> None:
    space = space_of(
        [
            Event(Op.MALLOC, 0, 16),
            Event(Op.MALLOC, 1, 16, thread=3),
            Event(Op.FORK, 1, thread=3),
            Event(Op.MALLOC, 2, 100, thread=3, process=1),
            Event(Op.MALLOC, 3, 100, thread=0, process=1),
            Event(Op.THREAD_EXIT, thread=3),
            Event(Op.FREE, 0, process=1),
        ],
        planted("BY_THREAD"),
    )
    assert space.end.outcome == "finished"
    threads = [(heap - PAGE) // (16 * PAGE) for heap in space.heap]
    assert threads == [1, 2, 4, 4, 5, 4, 4]  # less a page each: the heap of two is two pages


@pytest.mark.parametrize("function", ["memalign", "none"])
def test_aligned_blocks_need_a_function(planted, function: str) -> None:
    library = planted("NONE", *(["-DWITHOUT_ALIGNED"] if function == "none" else []))
    space = space_of([Event(Op.ALIGNED, 0, 100, 4096)], library)
    if function == "none":
        assert space.end.reason == (
            "event 0 (aligned 0 100 4096): the library exports no memalign, posix_memalign or aligned_alloc"
        )
    else:
        assert (space.end.outcome, space.peak_heap) == ("finished", 2 * PAGE)


# ---- the harness ----


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    return [open_trace("lua"), synthetic(20_000, seed=1, slots=500), Trace.of(FAMILY)]


def test_the_player_without_an_allocator_has_no_memory_and_no_faults(traces) -> None:
    for trace in traces:
        with closing(Stage(trace)) as stage:
            empty = stage.play(lib.HL_PLAY_EMPTY, None).raw
            assert (empty.why, empty.row) == (lib.HL_PLAY_DONE, trace.header.events)
            assert (empty.faults, empty.peak_heap, empty.peak_live) == (0, 0, trace.header.peak_live)
            assert empty.peak_resident <= 2 * (trace.header.processes - 1)
            floor = stage.play(lib.HL_PLAY_FLOOR, None).raw
            assert (floor.why, floor.faults) == (lib.HL_PLAY_DONE, 0)


def test_processes_come_and_go() -> None:
    played = play(Trace.of(FAMILY), "glibc", rounds=2, latency=True)
    assert played.end.outcome == "finished"
    assert played.space.operations == 9
    assert played.space.peak_live == Trace.of(FAMILY).header.peak_live
    assert isinstance(played.times, Times)
    assert len(played.times.rounds) == 2
    assert isinstance(played.latency, Latency)
    assert 0 <= played.latency.p50 <= played.latency.p99 <= played.latency.p999 <= played.latency.p9999


def test_a_trace_without_events() -> None:
    played = play(Trace.of([]), "glibc", rounds=0)
    assert (played.end.outcome, played.space.peak_heap, played.space.event) == ("finished", 0, ())


def test_two_plays_on_glibc_see_the_same_memory() -> None:
    first, second = (play(open_trace("lua"), "glibc", rounds=0).space for _ in range(2))
    assert [getattr(first, name) for name in vars(first) if name != "seconds"] == [
        getattr(second, name) for name in vars(second) if name != "seconds"
    ]


def test_allocators_take_turns_in_every_round() -> None:
    told = []
    with closing(Stage(synthetic(2000, seed=1))) as stage:
        timed = play_times(stage, [find_peer("glibc"), find_peer("glibc")], rounds=3, progress=told.append)
    assert told == [1, 2, 3, 4, 5, 6]
    for end, times in timed:
        assert end.outcome == "finished"
        assert len(times.rounds) == 3
        assert times.low <= times.ns_per_op <= times.high


def test_progress_is_told() -> None:
    told = []
    with closing(Stage(open_trace("perl"))) as stage:
        play_space(stage, find_peer("glibc"), progress=told.append)
    assert told == sorted(told)
    assert 0 < told[-1] <= 259_701


# ---- the model ----


@pytest.mark.parametrize("spec", ["rbtree", "spans"])
def test_our_designs_take_what_the_model_says(spec: str, traces, planted) -> None:
    for trace in traces:
        model = lab.run(trace, spec)
        space = play(trace, f"heaplab:{spec}", rounds=0).space
        assert space.end.outcome == model.outcome == "finished"
        assert space.peak_live == model.peak_live
        assert space.live == model.timeline.live
        assert space.operations == model.operations
        assert space.peak_heap == model.peak_heap
        assert space.freed_heap == model.freed_heap
        forks = trace.header.processes - 1
        assert abs(space.faults - model.faults) <= 2 * forks
        assert abs(space.peak_resident - model.peak_resident) <= model.peak_resident // 200 + 2 * forks * PAGE
        assert abs(space.freed_resident - model.freed_resident) <= 2 * forks * PAGE
