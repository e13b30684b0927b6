"""The heaps of one moment as a container: what the container of the whole run's moment holds."""

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.lab.moments import Moments
from heaplab.pages.answers import Answers
from heaplab.traces import Event, Op, Trace, synthetic
from heaplab.views.moment import moment_container
from heaplab.views.packing import unpack
from heaplab.views.run import view_of


@pytest.mark.parametrize("design", ["buddy", "rbtree", "spans"])
def test_it_holds_what_an_answer_about_the_run_holds(design):
    with Moments(synthetic(300, seed=1, slots=40), design) as moments:
        about, columns = unpack(moment_container(moments, 200))
        answer, expected = unpack(Answers(view_of([moments]), [moments]).moment(run=0, moment=200))
    assert columns.keys() == expected.keys()
    for name, column in columns.items():
        assert np.array_equal(column, expected[name]), name
    ours, whole = about.pop("runs")[0], answer.pop("runs")[0]
    assert about.pop("exact") == [199, 200]
    assert about == {key: value for key, value in answer.items() if key != "exact"}
    assert {key: ours[key] for key in ("allocator", "language", "page_size", "structure")} == {
        key: whole[key] for key in ("allocator", "language", "page_size", "structure")
    }
    low, high = np.array(ours["regions"]).T
    start, size = columns["r0.live.start"], columns["r0.live.size"]
    region = np.searchsorted(low, start, side="right") - 1
    assert (start + size <= high[region]).all()


def test_pages_copied_after_a_fork_are_said_to_be_shown_as_own():
    trace = Trace.of([Event(Op.MALLOC, 0, 100), Event(Op.FORK, 1), Event(Op.FREE, 0)])
    with Moments(trace, "buddy") as moments:
        about, _ = unpack(moment_container(moments, 3))
    assert about["remarks"] == ["pages that were copied after a fork are shown as the process's own"]


def test_a_moment_without_a_process_has_no_heap():
    trace = Trace.of([Event(Op.MALLOC, 0, 100), Event(Op.EXIT)])
    with Moments(trace, "buddy") as moments, pytest.raises(UsageError, match="no process is alive"):
        moment_container(moments, 2)
