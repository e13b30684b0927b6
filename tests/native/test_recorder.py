"""What is recorded of small C programs, against what they did."""

import os
import signal
from collections import Counter

import pytest

from heaplab.errors import UsageError
from heaplab.native import record, recorder
from heaplab.traces import NULL_ID, Op


def between_marks(events):
    """The events after the block of 11111 bytes is freed and before the one of 22222 is allocated."""
    sizes = [event.size for event in events]
    return events[sizes.index(11111) + 2 : sizes.index(22222)]


def by_name(events):
    """Op, size and align of each event, and instead of its slot the number of the allocation that took it."""
    owner, rows = {}, []
    for number, event in enumerate(events):
        if event.op in (Op.MALLOC, Op.CALLOC, Op.ALIGNED):
            owner[event.id] = number
        rows.append((event.op.name, event.size, event.align, owner.get(event.id)))
    return rows


def test_every_call_is_recorded_exactly(program, recorded):
    recording, trace = recorded(program("calls"))
    page = os.sysconf("SC_PAGESIZE")
    assert recording.status == 5
    assert (recording.strangers, recording.lost_frees) == (0, 0)
    assert by_name(between_marks(list(trace.events()))) == [
        ("MALLOC", 100, 0, 0),
        ("CALLOC", 24, 0, 1),
        ("REALLOC", 5000, 0, 0),
        ("FREE", 0, 0, 1),
        ("MALLOC", 7, 0, 4),
        ("FREE", 0, 0, None),
        ("REALLOC", 42, 0, 4),
        ("FREE", 0, 0, 0),
        ("FREE", 0, 0, 4),
        ("ALIGNED", 200, 64, 9),
        ("FREE", 0, 0, 9),
        ("ALIGNED", 320, 32, 11),
        ("FREE", 0, 0, 11),
        ("ALIGNED", 10, 256, 13),
        ("FREE", 0, 0, 13),
        ("ALIGNED", 11, 32, 15),
        ("FREE", 0, 0, 15),
        ("ALIGNED", 12, page, 17),
        ("FREE", 0, 0, 17),
        ("ALIGNED", page, page, 19),
        ("FREE", 0, 0, 19),
        ("MALLOC", 0, 0, 21),
        ("FREE", 0, 0, 21),
        ("MALLOC", 40, 0, 23),
        ("FREE", 0, 0, 23),
        ("MALLOC", 41, 0, 25),
        ("FREE", 0, 0, 25),
    ]


def requests_of_thread(number):
    """What thread `number` of programs/threads.c asks for: the sizes, in order, and which by realloc."""
    value = number * 7919 + 1
    for _ in range(30_000):
        value = (value * 1664525 + 1013904223) % (1 << 32)
        yield (value >> 20) // 8 * 8 + number, (value >> 8) % 4 == 0


@pytest.mark.parametrize("tunables", ["", "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0"])
def test_threads_are_recorded_exactly(program, recorded, tunables):
    """Every thread's requests in its order; and blocks go from thread to thread without one being lost.

    With one arena and no caches, an address that one thread frees is another's at once.
    """
    recording, trace = recorded(program("threads"), env={**os.environ, "GLIBC_TUNABLES": tunables})
    assert (recording.strangers, recording.lost_frees) == (0, 0)
    assert trace.header.threads == 6
    assert trace.header.ops["thread_exit"] == 5
    assert trace.header.remote_frees > 0  # main frees what is left
    requests = {}
    reallocs = Counter()
    for event in trace.events():
        if event.thread and event.op in (Op.MALLOC, Op.REALLOC):
            requests.setdefault(event.size % 8, []).append(event.size)
            reallocs[event.size % 8] += event.op == Op.REALLOC
    wanted = [list(requests_of_thread(number)) for number in range(1, 6)]
    assert [requests[number] for number in range(1, 6)] == [[size for size, _ in thread] for thread in wanted]
    for number, thread in enumerate(wanted, 1):  # a realloc of NULL is a malloc
        assert 0 < reallocs[number] <= sum(moves for _, moves in thread)


def threads_of(events, process=0):
    """For each thread of a process: the sizes that it asked for, and whether its end is in the trace."""
    threads, living = [], {}
    for event in events:
        if event.process != process:
            continue
        if event.thread not in living:
            living[event.thread] = []
            threads.append([living[event.thread], False])
        if event.op == Op.THREAD_EXIT:
            sizes = living.pop(event.thread)
            next(thread for thread in threads if thread[0] is sizes)[1] = True
        elif event.size:
            living[event.thread].append(event.size)
    return threads


def test_threads_end_however_they_end(program, recorded):
    """By return, pthread_exit, cancellation; detached; with destructors that allocate; not by main's."""
    recording, trace = recorded(program("ending"))
    events = list(trace.events())
    assert (recording.strangers, recording.lost_frees) == (0, 0)
    of_ways = {sizes[0] // 1000: (sizes, ended) for sizes, ended in threads_of(events) if sizes[0] > 1000}
    assert {way for way, (_, ended) in of_ways.items() if ended} == {1, 2, 3, 4, 5, 6}
    assert all(way * 1000 + 2 in sizes for way, (sizes, ended) in of_ways.items() if ended)
    destructors = of_ways[5][0]
    assert destructors == [5001, 5002, 5002, 5002, 5002, 5003]
    assert not of_ways[7][1]
    assert trace.header.remote_frees == 1  # of a block that a thread left behind


def test_a_child_has_the_thread_that_forked(program, recorded):
    events = list(recorded(program("ending"))[1].events())
    (fork,) = (event for event in events if event.op == Op.FORK)
    child = [event for event in events if event.process == 1]
    assert {event.thread for event in child} == {fork.thread} != {0}
    assert [event.size for event in child if event.size] == [8001]
    assert child[-1].op == Op.EXIT


def test_a_process_may_outlive_its_main_thread(program, recorded):
    recording, trace = recorded(program("ending"), "pthread_exit")
    assert recording.status == 0
    threads = threads_of(trace.events())
    main, last = threads[0], threads[-1]
    assert main[1]
    assert last == [[9001], False]  # its end is the process's


def family(events):
    """The events of programs/family.c: those whose slot was asked for with its sizes, and of processes."""
    known, rows = set(), []
    for event in events:
        key = (event.process, event.id)
        if event.op >= Op.FORK:
            rows.append((event.process, event.op.name, event.id))
            if event.op == Op.FORK:
                known |= {(event.id, slot) for process, slot in known if process == event.process}
            elif event.op == Op.EXEC:
                known = {(process, slot) for process, slot in known if process != event.process}
        elif event.op == Op.FREE and key in known:
            known.remove(key)
            rows.append((event.process, "FREE"))
        elif event.op != Op.FREE and (
            101 <= event.size <= 104 or 201 <= event.size <= 202 or event.size == 301
        ):
            known.add(key)
            rows.append((event.process, event.op.name, event.size))
    return rows


def of_process(rows, process):
    return [row[1:] for row in rows if row[0] == process]


PARENT = [("MALLOC", 101), ("MALLOC", 102)]
AFTERWARDS = [("FREE",), ("MALLOC", 103), ("FREE",), ("MALLOC", 104), ("FREE",)]
CHILD = [("FREE",), ("MALLOC", 201), ("REALLOC", 202)]
AFTER_EXEC = [("EXEC", 0), ("MALLOC", 301), ("FREE",), ("EXIT", 0)]


@pytest.mark.parametrize(
    ("way", "child"),
    [
        ("fork", [*CHILD, ("FREE",), ("EXIT", 0)]),
        ("syscall", [*CHILD, ("FREE",), ("EXIT", 0)]),
        ("exec", [*CHILD, *AFTER_EXEC]),
        ("vfork", AFTER_EXEC),
        ("spawn", AFTER_EXEC),
    ],
)
def test_children_are_followed_however_they_are_made(program, recorded, way, child):
    recording, trace = recorded(program("family"), way)
    assert recording.status == 7
    assert (recording.strangers, recording.lost_frees) == (0, 0)
    assert trace.header.processes == 2
    rows = family(trace.events())
    assert of_process(rows, 1) == child
    parent = of_process(rows, 0)
    assert [row for row in parent if row != ("FORK", 1)] == [*PARENT, *AFTERWARDS]
    if way in ("fork", "syscall", "exec"):
        assert parent.index(("FORK", 1)) == 2


def test_children_forked_out_of_a_crowd_of_threads(program, recorded):
    """Each child frees its parent's block and does what it does; no other thread's work is among it."""
    recording, trace = recorded(program("crowd"))
    assert (recording.strangers, recording.lost_frees) == (0, 0)
    assert trace.header.processes == 26
    children = {}
    for event in trace.events():
        if event.process:
            children.setdefault(event.process, []).append((event.op, event.size))
    steps = [step for size in range(20_000, 20_200) for step in ((Op.MALLOC, size), (Op.FREE, 0))]
    assert list(children.values()) == [[(Op.FREE, 0), *steps, (Op.EXIT, 0)]] * 25


@pytest.mark.parametrize(
    ("way", "status"), [("kill", -signal.SIGKILL), ("abort", -signal.SIGABRT), ("_exit", 9), ("return", 9)]
)
def test_nothing_is_lost_however_a_program_ends(program, recorded, way, status):
    recording, trace = recorded(program("ends"), way, "1001")
    assert recording.status == status
    assert sum(event.op == Op.MALLOC and event.size == 50 for event in trace.events()) == 1001


@pytest.mark.parametrize("count", [2700, 2731, 90_000, 200_000])
def test_logs_of_any_length(program, recorded, count):
    """The log's chunks begin with records 4096, 135168, ...; there are three records for two steps."""
    recording, trace = recorded(program("ends"), "return", str(count))
    assert recording.status == 9
    ops = Counter(event.op for event in trace.events() if event.size == 50 or event.op == Op.FREE)
    assert ops[Op.MALLOC] == count
    assert ops[Op.FREE] >= count // 2
    assert trace.header.slots >= count // 2


def test_no_descriptor_is_held(program, recorded):
    assert recorded(program("ends"), "descriptor", "10000")[0].status == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "there is no program to record: name one, with its arguments"),
        (["no-such-program"], "no-such-program: there is no such program, or it may not be executed"),
        (["/"], "/: there is no such program, or it may not be executed"),
    ],
)
def test_a_program_that_cannot_be_run_is_refused(tmp_path, command, message):
    with pytest.raises(UsageError) as caught:
        record(command, tmp_path / "x.hlt")
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_program_is_refused(tmp_path):
    (tmp_path / "junk").write_text("\x00")
    (tmp_path / "junk").chmod(0o755)
    with pytest.raises(UsageError, match="junk: cannot be started: Exec format error"):
        record([str(tmp_path / "junk")], tmp_path / "x.hlt")


def test_a_directory_that_does_not_exist_is_refused_before_the_program_runs(tmp_path, program):
    with pytest.raises(UsageError, match=r"there is no directory .*none: make it first"):
        record([program("calls")], tmp_path / "none" / "x.hlt")


def test_a_static_program_is_told_apart(tmp_path, program):
    with pytest.raises(UsageError, match=r"recorded no events; .* was not recorded: it is statically linked"):
        record([program("calls", "-static")], tmp_path / "x.hlt")
    assert list(tmp_path.iterdir()) == []


def test_provenance_is_filled_in(program, recorded):
    _, trace = recorded(program("ends"), "return", "5")
    header = trace.header
    assert (header.name, header.program, header.command) == ("x", "ends", "ends return 5")
    assert len(header.date) == len("2026-01-31")


def test_what_was_preloaded_before_stays(program, recorded):
    """And its absence does: the environment is the caller's but for two variables."""
    env = {**os.environ, "LD_PRELOAD": "libm.so.6"}
    assert recorded(program("ends"), "return", "5", env=env)[0].status == 9


def test_the_library_may_stand_where_ld_preload_cannot_point(
    program, recorded, monkeypatch, tmp_path_factory
):
    place = tmp_path_factory.mktemp("my: things") / "recorder.so"
    place.write_bytes(recorder.library().read_bytes())
    monkeypatch.setattr(recorder, "library", lambda: place)
    assert recorded(program("ends"), "return", "1001")[1].header.ops["malloc"] >= 1001


def test_free_of_null_is_kept(program, recorded):
    _, trace = recorded(program("calls"))
    assert sum(event.id == NULL_ID for event in trace.events()) >= 1
