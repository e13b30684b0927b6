"""Raw files put together by hand: orders, clocks and families that real programs show only now and then."""

import struct

import numpy as np

from heaplab.native.assemble import Assembler
from heaplab.native.raw import Clock, Image, Kind, open_images
from heaplab.traces import Op, Trace


def image(*records, pid=100, started=0, parent=1, process=None, forked_from=0, fork_index=0, thread=None):
    """An image of these records: (time, kind, thread, address, size)."""
    words = [
        [time << 8 | kind, thread << 48 | address, size] for time, kind, thread, address, size in records
    ]
    return Image(
        pid=pid,
        parent_pid=parent,
        started=started,
        process=pid if process is None else process,
        forked_from=forked_from,
        fork_index=fork_index,
        thread=thread,
        failed=0,
        program="x",
        words=np.array(words, np.uint64).reshape(-1, 3),
    )


def assembled(*images, deaths=None):
    """The assembler, and its events; they have to be a valid trace.

    deaths: by process; if not given, each process ends with its last record.
    """
    last = {each.process: each.last()[0] for each in images}
    assembler = Assembler(images, last if deaths is None else deaths)
    events = [event for block in assembler.blocks() for event in block]
    assert list(Trace.of(events).events()) == events
    return assembler, events


def shown(events):
    return [str(event) for event in events]


def test_an_address_may_be_reused_while_a_realloc_is_under_way():
    """Thread 1 is given the old address before thread 0's realloc has returned with the new one."""
    assembler, events = assembled(
        image(
            (1, Kind.MALLOC, 0, 0xA0, 10),
            (2, Kind.REALLOC_BEGIN, 0, 0xA0, 0),
            (3, Kind.MALLOC, 1, 0xA0, 20),
            (4, Kind.REALLOC_END, 0, 0xB0, 30),
            (5, Kind.FREE, 1, 0xA0, 0),
            (6, Kind.FREE, 0, 0xB0, 0),
        )
    )
    assert shown(events) == [
        "malloc 0 10",
        "malloc 1 20 (process 0, thread 1)",
        "realloc 0 30",
        "free 1 (process 0, thread 1)",
        "free 0",
    ]
    assert (assembler.strangers, assembler.lost_frees) == (0, 0)


def test_reallocs_that_fail_or_free():
    _, events = assembled(
        image(
            (1, Kind.MALLOC, 0, 0xA0, 10),
            (2, Kind.REALLOC_BEGIN, 0, 0xA0, 0),
            (3, Kind.REALLOC_END, 0, 0, 1),
            (4, Kind.REALLOC_BEGIN, 0, 0xA0, 0),
            (5, Kind.REALLOC_END, 0, 0xA0, 0),
            (6, Kind.REALLOC_BEGIN, 0, 0xA0, 0),
            (7, Kind.REALLOC_END, 0, 0, 0),
        )
    )
    assert shown(events) == ["malloc 0 10", "realloc 0 1", "free 0"]


def test_blocks_from_before_the_recording_and_frees_that_were_not_seen():
    assembler, events = assembled(
        image(
            (1, Kind.FREE, 0, 0xF0, 0),
            (2, Kind.REALLOC_BEGIN, 0, 0xF1, 0),
            (3, Kind.REALLOC_END, 0, 0xA0, 10),
            (4, Kind.MALLOC, 0, 0xA0, 20),
            (5, Kind.CALLOC, 0, 0xA0, 30),
            (6, Kind.FREE, 0, 0xA0, 0),
        )
    )
    assert shown(events) == ["malloc 0 10", "free 0", "malloc 0 20", "free 0", "calloc 0 30", "free 0"]
    assert (assembler.strangers, assembler.lost_frees) == (2, 2)


def test_records_never_finished_are_skipped():
    _, events = assembled(image((0, 0, 0, 0, 0), (1, Kind.MALLOC, 0, 0xA0, 10), (0, 0, 0, 0, 0)))
    assert shown(events) == ["malloc 0 10"]


def test_a_thread_that_reads_the_clock_late_does_not_turn_time_back():
    _, events = assembled(image((9, Kind.MALLOC, 0, 0xA0, 1), (4, Kind.MALLOC, 1, 0xB0, 2)))
    assert [event.time for event in events] == [9, 9]


def test_a_child_begins_at_its_record_whatever_the_clocks_say():
    """The parent's second record, before the fork, carries a later time than all the child did."""
    _, events = assembled(
        image(
            (1, Kind.MALLOC, 0, 0xA0, 1),
            (50, Kind.MALLOC, 1, 0xB0, 2),
            (60, Kind.MALLOC, 0, 0xC0, 3),
            started=1,
        ),
        image((21, Kind.FREE, 0, 0xB0, 0), pid=101, parent=100, started=20, forked_from=1, fork_index=2),
    )
    assert shown(events) == [
        "malloc 0 1",
        "malloc 1 2 (process 0, thread 1)",
        "fork 1",
        "free 1 (process 1, thread 0)",
        "exit (process 1, thread 0)",
        "malloc 2 3",
    ]
    assert [event.time for event in events] == [0, 18, 18, 20, 21, 59]


def test_children_whose_files_begin_in_another_order_than_their_forks():
    """The first child was slow to begin; each has the heap of its own record."""
    _, events = assembled(
        image((1, Kind.MALLOC, 0, 0xA0, 1), (2, Kind.FREE, 0, 0xA0, 0), started=1),
        image((8, Kind.MALLOC, 0, 0xA0, 3), pid=102, parent=100, started=7, forked_from=1, fork_index=2),
        image((9, Kind.FREE, 0, 0xA0, 0), pid=101, parent=100, started=8, forked_from=1, fork_index=1),
    )
    assert shown(events) == [
        "malloc 0 1",
        "fork 1",
        "free 0",
        "fork 2",
        "malloc 0 3 (process 2, thread 0)",
        "exit",
        "exit (process 2, thread 0)",
        "free 0 (process 1, thread 0)",
    ]


def test_a_process_that_execs_is_the_same_process():
    _, events = assembled(
        image((1, Kind.MALLOC, 0, 0xA0, 1), started=1),
        image((5, Kind.MALLOC, 0, 0xA0, 2), started=4),
    )
    assert shown(events) == ["malloc 0 1", "exec", "malloc 0 2"]


def test_a_pid_used_again_is_another_process():
    _, events = assembled(
        image((1, Kind.MALLOC, 0, 0xA0, 1), (9, Kind.FREE, 0, 0xA0, 0), pid=100, started=1),
        image((2, Kind.MALLOC, 0, 0xA0, 1), pid=101, parent=100, started=2, process=5),
        image((5, Kind.MALLOC, 0, 0xA0, 2), pid=101, parent=100, started=4, process=6),
    )
    assert [event.process for event in events if event.op == Op.MALLOC] == [0, 1, 2]


def test_a_program_whose_parent_was_not_recorded_belongs_to_the_first():
    _, events = assembled(
        image((1, Kind.MALLOC, 0, 0xA0, 1), started=1),
        image((5, Kind.MALLOC, 0, 0xA0, 2), pid=300, parent=200, started=4),
    )
    assert shown(events) == [
        "malloc 0 1",
        "fork 1",
        "exec (process 1, thread 0)",
        "exit",
        "malloc 0 2 (process 1, thread 0)",
    ]


def test_a_parent_lives_until_its_last_child_has_begun():
    """A shell does nothing more of its own while its children run."""
    _, events = assembled(
        image((1, Kind.MALLOC, 0, 0xA0, 1), started=1),
        image((9, Kind.MALLOC, 0, 0xA0, 2), pid=101, parent=100, started=8),
        image((20, Kind.MALLOC, 0, 0xA0, 3), pid=102, parent=101, started=15),
        image((30, Kind.MALLOC, 0, 0xA0, 3), pid=103, parent=100, started=25),
    )
    assert [(event.op.name, event.process) for event in events if event.op != Op.MALLOC] == [
        ("FORK", 0),
        ("EXEC", 1),
        ("FORK", 1),
        ("EXEC", 2),
        ("EXIT", 1),
        ("EXIT", 2),
        ("FORK", 0),
        ("EXEC", 3),
        ("EXIT", 0),
    ]


def test_a_thread_ends_with_its_last_record_and_its_number_is_free():
    """A destructor frees a block after the recorder's own was called; others go on meanwhile."""
    _, events = assembled(
        image(
            (1, Kind.MALLOC, 0, 0xA0, 1),
            (2, Kind.MALLOC, 7, 0xB0, 2),
            (3, Kind.THREAD_END, 7, 0, 0),
            (4, Kind.MALLOC, 8, 0xC0, 3),
            (5, Kind.FREE, 7, 0xB0, 0),
            (6, Kind.FREE, 0, 0xA0, 0),
            (7, Kind.MALLOC, 9, 0xA0, 4),
            (8, Kind.THREAD_END, 9, 0, 0),
            (9, Kind.THREAD_END, 10, 0, 0),  # it did nothing: it is not in the trace
            (10, Kind.MALLOC, 0, 0xD0, 5),
        )
    )
    assert shown(events) == [
        "malloc 0 1",
        "malloc 1 2 (process 0, thread 1)",
        "malloc 2 3 (process 0, thread 2)",
        "free 1 (process 0, thread 1)",
        "thread_exit (process 0, thread 1)",
        "free 0",
        "malloc 0 4 (process 0, thread 1)",
        "thread_exit (process 0, thread 1)",
        "malloc 1 5",
    ]
    assert [event.time for event in events] == [1, 2, 4, 5, 5, 6, 7, 8, 10]


def test_a_child_has_the_forking_thread_and_no_number_of_the_others():
    _, events = assembled(
        image(
            (1, Kind.MALLOC, 0, 0xA0, 1),
            (2, Kind.MALLOC, 1, 0xB0, 2),
            (3, Kind.MALLOC, 2, 0xC0, 3),
            (90, Kind.THREAD_END, 1, 0, 0),
            (91, Kind.MALLOC, 3, 0xD0, 4),
            started=1,
        ),
        image(
            (20, Kind.FREE, 1, 0xB0, 0),
            (21, Kind.MALLOC, 3, 0xB0, 5),
            (22, Kind.THREAD_END, 3, 0, 0),
            (23, Kind.MALLOC, 4, 0xD0, 6),
            (24, Kind.EXIT, 1, 0, 0),
            pid=101,
            parent=100,
            started=19,
            forked_from=1,
            fork_index=3,
            thread=1,
        ),
    )
    assert shown(events) == [
        "malloc 0 1",
        "malloc 1 2 (process 0, thread 1)",
        "malloc 2 3 (process 0, thread 2)",
        "fork 1 (process 0, thread 1)",
        "free 1 (process 1, thread 1)",
        "malloc 1 5 (process 1, thread 3)",
        "thread_exit (process 1, thread 3)",
        "malloc 3 6 (process 1, thread 3)",
        "exit (process 1, thread 1)",
        "thread_exit (process 0, thread 1)",
        "malloc 3 4 (process 0, thread 1)",
    ]
    counts = Trace.of(events).header
    assert (counts.threads, counts.remote_frees) == (7, 0)


def test_a_thread_that_forks_before_it_does_anything_else():
    _, events = assembled(
        image((1, Kind.MALLOC, 0, 0xA0, 1), (9, Kind.FREE, 5, 0xA0, 0), started=1),
        image(
            (4, Kind.FREE, 5, 0xA0, 0), pid=101, parent=100, started=3, forked_from=1, fork_index=1, thread=5
        ),
    )
    assert shown(events) == [
        "malloc 0 1",
        "fork 1 (process 0, thread 1)",
        "free 0 (process 1, thread 1)",
        "exit (process 1, thread 1)",
        "free 0 (process 0, thread 1)",
    ]


def test_the_end_of_the_last_thread_is_the_end_of_its_process():
    """main ended by pthread_exit; the thread that was left ends, and calls exit while ending."""
    _, events = assembled(
        image(
            (1, Kind.MALLOC, 0, 0xA0, 1),
            (2, Kind.MALLOC, 1, 0xB0, 2),
            (3, Kind.THREAD_END, 0, 0, 0),
            (4, Kind.THREAD_END, 1, 0, 0),
            (5, Kind.EXIT, 1, 0, 0),
            started=1,
        ),
        image((8, Kind.MALLOC, 0, 0xB0, 2), pid=101, parent=100, started=7),
        image((8, Kind.MALLOC, 0, 0xB0, 2), pid=102, parent=101, started=9),
    )
    assert shown(events)[:3] == ["malloc 0 1", "malloc 1 2 (process 0, thread 1)", "thread_exit"]
    assert [event.thread for event in events if event.op == Op.EXIT and event.process == 0] == [1]
    assert sum(event.op == Op.THREAD_EXIT for event in events) == 1


def test_a_process_that_is_killed_lives_until_it_is_seen_to_be_gone():
    """Its block is there while the parent allocates its own; after a call of exit it would not be."""
    parent = image((1, Kind.MALLOC, 0, 0xA0, 1), (50, Kind.MALLOC, 0, 0xB0, 60), started=1)
    child = {"pid": 101, "parent": 100, "started": 10, "forked_from": 1, "fork_index": 1}
    killed = image((11, Kind.MALLOC, 0, 0xB0, 50), **child)
    _, events = assembled(parent, killed, deaths={100: 99, 101: 70})
    assert shown(events)[-2:] == ["malloc 1 50 (process 1, thread 0)", "malloc 1 60"]
    assert Trace.of(events).header.peak_live == 112
    exited = image((11, Kind.MALLOC, 0, 0xB0, 50), (12, Kind.EXIT, 0, 0, 0), **child)
    _, events = assembled(parent, exited, deaths={100: 99, 101: 70})
    assert shown(events)[-2:] == ["exit (process 1, thread 0)", "malloc 1 60"]


def test_a_process_has_ended_when_its_parent_has_waited_for_it():
    """However late the end was seen.  A later process has the same pid: that one was not waited for."""
    parent = image(
        (1, Kind.MALLOC, 0, 0xA0, 1),
        (40, Kind.WAITED, 0, 101, 0),
        (50, Kind.MALLOC, 0, 0xB0, 60),
        (90, Kind.FREE, 0, 0xB0, 0),
        started=1,
    )
    child = {"pid": 101, "parent": 100, "forked_from": 1, "fork_index": 1}
    first = image((11, Kind.MALLOC, 0, 0xB0, 50), started=10, process=7, **child)
    second = image((61, Kind.MALLOC, 0, 0xC0, 70), started=60, process=8, **{**child, "fork_index": 3})
    _, events = assembled(parent, first, second, deaths={100: 99, 7: 70, 8: 80})
    assert [(event.op.name, event.process) for event in events if event.op != Op.FORK] == [
        ("MALLOC", 0),
        ("MALLOC", 1),
        ("EXIT", 1),
        ("MALLOC", 0),
        ("MALLOC", 2),
        ("EXIT", 2),
        ("FREE", 0),
    ]


def test_a_process_that_outlives_the_recording_has_no_end():
    _, events = assembled(
        image((1, Kind.MALLOC, 0, 0xA0, 1), (90, Kind.MALLOC, 0, 0xB0, 2), started=1),
        image((11, Kind.MALLOC, 0, 0xB0, 3), pid=101, parent=100, started=10, forked_from=1, fork_index=1),
        deaths={100: 95},
    )
    assert [event.op for event in events if event.op == Op.EXIT] == []


def raw_file(directory, *, magic=b"heaprec2", failed=0, records=b""):
    header = struct.pack("<8s2I4Q2I16s", magic, 100, 1, 5, 7, 0, 0, failed, 0, b"x")
    (directory / "7.rec").write_bytes(header + records)


def test_files_are_read(tmp_path):
    raw_file(tmp_path, records=struct.pack("<3Q", 6 << 8 | Kind.ALIGNED, 0xA0, 4 << 48 | 24) + bytes(24 * 9))
    (opened,) = open_images(tmp_path, Clock())
    assert (opened.pid, opened.started, opened.program, opened.last()) == (
        100,
        5,
        "x",
        (6, Kind.ALIGNED),
    )
    (records,) = opened.batches()
    assert {name: column.tolist() for name, column in vars(records).items()} == {
        "index": [0],
        "time": [6],
        "kind": [Kind.ALIGNED],
        "thread": [0],
        "address": [0xA0],
        "size": [24],
        "align": [16],
    }


def test_the_clock_of_the_processor_becomes_nanoseconds(tmp_path):
    """The clock began at 1,000 nanoseconds, and four of its steps take one."""
    raw_file(tmp_path, records=struct.pack("<3Q", 400 << 8 | Kind.FREE, 0xA0, 0))
    (opened,) = open_images(tmp_path, Clock.of(1000, 4000, 2000))
    assert (opened.started, opened.last()) == (1001, (1100, Kind.FREE))
    (records,) = opened.batches()
    assert records.time.tolist() == [1100]


def test_a_file_of_a_program_that_died_at_once_is_left_out(tmp_path):
    raw_file(tmp_path, magic=bytes(8))
    (tmp_path / "1.rec").write_bytes(b"")
    assert open_images(tmp_path, Clock()) == []
