"""What can be seen, and that no difference in it escapes."""

from dataclasses import replace

import pytest

from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.observe import (
    SLEEPS,
    Caught,
    Fault,
    Maps,
    Outcome,
    View,
    Vma,
    caught_by_any,
    compare_outcomes,
    compare_pages,
    compare_views,
    frame_at,
    parse_maps,
    spans_of,
)

SPANS = [(2, 0x1000, 2), (3, 0x1000, 2)]


def maps(*vmas, inodes=None):
    return Maps(vmas, inodes or (0,) * len(vmas))


def test_maps_are_read_as_far_as_they_are_asked_for(heap):
    text = (
        "00400000-00401000 r-xp 00000000 fe:00 77                                 /agent\n"
        "00401000-00403000 rw-p 00000000 00:00 0                                  [heap]\n"
        "7ffff7ff0000-7ffff7ff4000 rw-s 00002000 00:01 9                          /dev/zero (deleted)\n"
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
    )
    shared = Vma(0x7FFFF7FF0000, 0x7FFFF7FF4000, "rw-s", 0x2000, "/dev/zero (deleted)")
    assert parse_maps(text, 0x401000) == Maps((heap, shared), (0, 9))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"state": "Z"}, "process 2: state"),
        ({"ppid": 2}, "process 2: parent"),
        ({"pgid": 2}, "process 2: process group"),
        ({"sid": 2}, "process 2: session"),
        ({"threads": 2}, "process 2: threads"),
        ({"comm": "sh"}, "process 2: name"),
        ({"minflt": 1}, "process 2: minor faults"),
        ({"cminflt": 1}, "process 2: minor faults of children"),
        ({"caught": (Caught(17, 1, 3, 0, 0),)}, "process 2: caught"),
        ({"start": 0x402000}, "process 2: maps"),
        ({"end": 0x404000}, "process 2: maps"),
        ({"rights": "r--p"}, "process 2: maps"),
        ({"offset": PAGE}, "process 2: maps"),
        ({"name": ""}, "process 2: maps"),
    ],
)
def test_processes_that_differ(heap, change, what):
    view = View("R", 1, maps(heap))
    of_view = {key: value for key, value in change.items() if key in vars(view)}
    of_vma = {key: value for key, value in change.items() if key not in of_view}
    other = replace(view, **of_view, maps=maps(replace(heap, **of_vma)))
    assert compare_views({2: view}, {2: view}) == []
    (found,) = compare_views({2: view}, {2: other})
    assert found.what == what
    assert found.real != found.model


def test_how_often_children_are_heard_of_in_one_step_is_open(heap):
    def views(*caught):
        return {2: View("R", 1, maps(heap), caught=caught)}

    first, again, killed = Caught(17, 6, 3, 18, 0), Caught(17, 2, 3, 15, 0), Caught(17, 0, 3, 0, 0)
    assert compare_views(views(first), views(first, again)) == []
    assert compare_views(views(again), views(first, again)) != []
    assert compare_views(views(first), views(first, killed)) != []


def test_which_of_the_tasks_that_wake_together_catches_a_signal_is_open(heap):
    cont, user = Caught(18, 0, 1, 0, 0x20000), Caught(10, 0, 1, 0, 0x200)

    def views(first, second):
        return {2: View("R", 1, maps(heap), caught=first), 3: View("R", 1, maps(heap), caught=second)}

    one, other = (caught_by_any([2, 3], each) for each in (views((cont, user), ()), views((user,), (cont,))))
    assert compare_views(one, other) == []
    assert compare_views(one, caught_by_any([2, 3], views((cont,), ()))) != []


def test_processes_that_are_not_on_both_sides(heap):
    view = View("R", 1, maps(heap))
    (found,) = compare_views({2: view}, {2: view, 3: view})
    assert (found.real, found.model) == ("[2]", "[2, 3]")


@pytest.mark.parametrize(("model", "same"), [((1, 1, 2), True), ((1, 2, 2), False), ((1, 1, 1), False)])
def test_inodes_may_have_other_numbers_but_not_other_owners(heap, model, same):
    def views(inodes):
        return {2: View("R", 1, maps(heap, heap, heap, inodes=inodes))}

    assert (compare_views(views((7, 7, 9)), views(model)) == []) is same


@pytest.mark.parametrize(
    ("frames", "exclusive", "file", "what"),
    [
        ([1, None, None, 2], [], [], "present bit of 0x1000 of process 3, 0x2000 of process 3"),
        ([1, None, 1, None], [0], [], "exclusive bit of 0x1000 of process 2"),
        ([1, None, 1, None], [], [2], "file bit of 0x1000 of process 3"),
        ([1, None, 2, None], [], [], "the frame of 0x1000 of process 3"),
    ],
)
def test_page_tables_that_differ(entries, frames, exclusive, file, what):
    real = entries([70, None, 70, None])
    assert compare_pages(SPANS, real, entries([1, None, 1, None])) == []
    (found,) = compare_pages(SPANS, real, entries(frames, exclusive, file))
    assert found.what == what


def test_frames_shared_in_the_model_alone(entries):
    (found,) = compare_pages(SPANS, entries([70, None, 71, None]), entries([1, None, 1, None]))
    assert (found.real, found.model) == ("its own", "that of 0x1000 of process 2")


def test_the_frame_of_an_address(entries):
    tables = entries([70, None, 71, 72])
    assert [frame_at(SPANS, tables, 3, address) for address in (0x1000, 0x2FFF, 0x3000)] == [71, 72, None]
    assert frame_at(SPANS, tables, 2, 0x2000) is None


def test_outcomes_say_what_people_look_for():
    assert str(Outcome(-12)) == "-ENOMEM, 0 minor faults"
    assert str(Outcome(0x7FFF0000, 2)) == "0x7fff0000, 2 minor faults"
    assert str(Outcome(3, told="status 0x300")) == "3, status 0x300, 0 minor faults"
    assert str(Outcome(fault=Fault(11, 1, 0x10))) == "SIGSEGV, si_code 1, at 0x10, 0 minor faults"
    assert str(Outcome(SLEEPS)) == "sleeps, 0 minor faults"


@pytest.mark.parametrize(
    "other", [Outcome(4), Outcome(3, 1), Outcome(3, told="status 0x0"), Outcome(3, fault=Fault(11, 1, 0))]
)
def test_outcomes_that_differ(other):
    assert compare_outcomes(Outcome(3), Outcome(3)) == []
    (found,) = compare_outcomes(Outcome(3), other)
    assert found.real != found.model


def test_large_vmas_are_looked_at_where_something_was(heap):
    large = Vma(0x10000000, 0x10000000 + 4096 * PAGE, "rw-p", 0, "")
    beside = Vma(heap.end, heap.end + PAGE, "r--p", 0, "")
    views = {2: View("R", 1, maps(heap, beside, large))}
    assert spans_of(views, {large.start + 1000 * PAGE + 5, large.start + 3, 0x5000}) == [
        (2, heap.start, 3),
        (2, large.start, 32),
        (2, large.start + 1000 * PAGE, 1),
        (2, large.end - 32 * PAGE, 32),
    ]
