"""The text of Android's memory_replay."""

import io
import tempfile

import pytest
from hypothesis import given

from heaplab.errors import UsageError
from heaplab.testing.traces import event_lists
from heaplab.traces import NULL_ID, Event, Op, Trace, open_trace
from heaplab.traces.formats.memory_replay import write_memory_replay


@pytest.fixture
def replay(tmp_path):
    """Opens the text given as a memory_replay file."""

    def open_text(text):
        (tmp_path / "x.txt").write_text(text)
        return open_trace(tmp_path / "x.txt")

    return open_text


def test_every_operation_is_read(replay):
    trace = replay(
        "202: malloc 0x1000 24\n"
        "202: calloc 0x2000 3 8\n"
        "485: memalign 0x3000 16 104\n"
        "485: realloc 0x4000 0x1000 48\n"
        "202: realloc 0x1000 0x0 7\n"
        "202: free 0x0\n"
        "485: free 0x2000\n"
        "485: thread_done 0x4000\n"
        "202: thread_done 0x0\n"
        "77: malloc 0x9000 9\n"
    )
    assert list(trace.events()) == [
        Event(Op.MALLOC, 0, 24),
        Event(Op.CALLOC, 1, 24),
        Event(Op.ALIGNED, 2, 104, align=16, thread=1),
        Event(Op.REALLOC, 0, 48, thread=1),
        Event(Op.MALLOC, 3, 7),
        Event(Op.FREE, NULL_ID),
        Event(Op.FREE, 1, thread=1),
        Event(Op.FREE, 0, thread=1),
        Event(Op.THREAD_EXIT, thread=1),
        Event(Op.THREAD_EXIT),
        Event(Op.MALLOC, 0, 9),
    ]
    assert (trace.header.threads, trace.header.remote_frees) == (3, 2)


def test_what_failed_is_no_event(replay):
    lines = "1: malloc 0x10 8\n1: malloc 0x0 8\n1: realloc 0x0 0x10 99\n1: realloc 0x0 0x10 0\n"
    assert [event.op for event in replay(lines).events()] == [Op.MALLOC, Op.FREE]


def test_a_realloc_may_stay_where_it_is_and_shrink_to_nothing(replay):
    events = list(replay("1: malloc 0x10 8\n1: realloc 0x10 0x10 16\n1: realloc 0x10 0x10 0\n").events())
    assert events[1:] == [Event(Op.REALLOC, 0, 16), Event(Op.REALLOC, 0, 1)]


def test_times_and_present_bytes_are_read(replay):
    trace = replay(
        "7: malloc 0x10 8 1000 1010\n"
        "7: calloc 0x20 2 8 1500 1510\n"
        "7: memalign 0x30 64 9 1400 1600\n"
        "7: realloc 0x40 0x10 20 2000 2001 4096\n"
        "7: free 0x20 3000 3001 12\n"
        "7: free 0x40 3500 3600\n"
        "7: thread_done 0x0 4000\n"
    )
    assert [event.time for event in trace.events()] == [0, 500, 500, 1000, 2000, 2500, 3000]
    assert trace.header.note == (
        "read from memory_replay; 4,108 B were present in the 2 blocks that were released, of that only the "
        "sum is kept"
    )


@pytest.mark.parametrize(
    "line",
    [
        *("mallok 0x0 8", "malloc 0x0", "malloc 0x0 8 8", "malloc 0x0 -", "calloc 0x0 3", "calloc 0x0 3 x"),
        *("memalign 0x0 16", "memalign 0x0 -16 8", "realloc 0x0 0x0", "realloc 0x0 0x0 8 1", "free 0x0 8"),
        *(
            "thread_done 0x0 1 2",
            "malloc 0x0 8 1 2 3",
            "free 0x0 1 2 3 4",
            "free 0x0 1 2 -3",
            "free 0x0 -1 2",
        ),
    ],
)
def test_an_invalid_line_is_no_better_at_address_0(replay, line):
    with pytest.raises(UsageError, match=r"line 2 \(1: .*\) is no operation of memory_replay"):
        replay(f"1: malloc 0x10 8\n1: {line}\n")


@given(event_lists(processes=False))
def test_what_is_written_comes_back(events):
    trace = Trace.of(events)
    file = io.BytesIO()
    write_memory_replay(trace, file)
    back = opened_bytes(file.getvalue()) if events else trace
    start = events[0].time if events else 0
    numbers = {}
    for event, same in zip(events, back.events(), strict=True):
        assert numbers.setdefault(event.thread, same.thread) == same.thread
        if event.op == Op.THREAD_EXIT:
            del numbers[event.thread]
        assert (same.op, same.size, same.align) == (event.op, event.size, event.align)
        assert same.time == event.time - start
    assert back.header.peak_live == trace.header.peak_live


def opened_bytes(text):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        return open_trace(file.name)


def test_processes_cannot_be_written():
    with pytest.raises(
        UsageError, match="memory_replay holds one: `heaplab trace cut --process` takes one out"
    ):
        write_memory_replay(Trace.of([Event(Op.FORK, 1)]), io.BytesIO())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1: free 0x99", "line 2 (1: free 0x99) names an address where no block is"),
        ("1: realloc 0x20 0x99 8", "line 2 (1: realloc 0x20 0x99 8) names an address where no block is"),
        ("1: malloc 0x10 8", "line 2 (1: malloc 0x10 8) allocates a block where one is"),
        (
            "1: malloc 0x20 8\n1: realloc 0x20 0x10 8",
            "line 3 (1: realloc 0x20 0x10 8) moves a block to where",
        ),
        ("1: mallok 0x20 8", "is no operation of memory_replay"),
        ("1: malloc 0x20", "is no operation of memory_replay"),
        ("1: malloc 0x20 8 8", "is no operation of memory_replay"),
        ("1: free 0x10 8", "is no operation of memory_replay"),
        ("1: malloc", "is no operation of memory_replay"),
        ("one: malloc 0x20 8", "is no operation of memory_replay"),
        ("1: thread_done", "is no operation of memory_replay"),
        ("1: thread_done 0x99", "names an address where no block is"),
        ("1: malloc twenty 8", "is no operation of memory_replay"),
        ("1: malloc 0x20 999999999999999999", "has a size that no allocation can have"),
        ("1: calloc 0x20 99999999999 99999999999", "has a size that no allocation can have"),
        ("1: memalign 0x20 99999999999 8", "has an alignment above 2 GiB"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(replay, lines, message):
    with pytest.raises(UsageError) as caught:
        replay(f"1: malloc 0x10 8\n{lines}\n")
    assert message in str(caught.value)
