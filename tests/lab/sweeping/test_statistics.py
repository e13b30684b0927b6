"""Means with intervals and paired differences, against scipy and by hand."""

import math

import pytest
from scipy import stats

from heaplab.errors import UsageError
from heaplab.lab.sweeping.grid import Template
from heaplab.lab.sweeping.statistics import mean_of, means, paired, value_of
from heaplab.lab.sweeping.store import Row


def row(trace, allocator, value, seed=1, fit=None, outcome="finished"):
    figures = {"trace": trace, "allocator": allocator, "language": "c", "seed": seed, "outcome": outcome}
    parameters = {} if fit is None else {"fit": fit}
    template = allocator if fit is None else allocator.replace(fit, "{fit}")
    templates = {"trace": Template(trace), "allocator": Template(template)}
    return Row("", parameters, {**figures, "heap": value, "live": 10, "reason": ""}, "", templates)


def test_an_interval_is_students():
    values = [3.0, 5.0, 4.0, 9.0]
    mean = mean_of(values)
    assert (mean.low, mean.high) == pytest.approx(stats.t.interval(0.95, 3, mean.value, stats.sem(values)))
    geometric = mean_of(values, geometric=True)
    logs = [math.log(value) for value in values]
    ends = stats.t.interval(0.95, 3, sum(logs) / 4, stats.sem(logs))
    assert (geometric.low, geometric.high) == pytest.approx([math.exp(end) for end in ends])
    assert geometric.value == pytest.approx(stats.gmean(values))


def test_of_one_number_there_is_no_interval_and_equal_ones_have_none():
    one, equal = mean_of([5.0]), mean_of([2.0, 2.0, 2.0])
    assert math.isnan(one.low)
    assert (one.value, one.count) == (5.0, 1)
    assert (equal.low, equal.high) == (2.0, 2.0)
    assert math.isnan(mean_of([0.0, 1.0], geometric=True).value)
    assert mean_of([]).count == 0


def test_a_trace_counts_once_however_many_seeds_it_has():
    rows = [row("a", "x", value, seed) for seed, value in enumerate((10, 20, 30))] + [row("b", "x", 40)]
    [mean] = means(rows, "heap", ["allocator"]).values()
    assert (mean.value, mean.count, mean.over) == (30.0, 2, "trace")
    [alone] = means(rows[:3], "heap", ["allocator"]).values()
    assert (alone.value, alone.count, alone.over) == (20.0, 3, "seed")


def test_means_are_over_the_traces_that_all_have_finished():
    rows = [row("a", "x", 1), row("b", "x", 3), row("a", "y", 5), row("b", "y", 0, outcome="failed")]
    found = means(rows, "heap", ["allocator"])
    assert {group: (mean.value, mean.count) for group, mean in found.items()} == {
        ("x",): (1, 1),
        ("y",): (5, 1),
    }


def test_pairs_are_alike_in_all_else():
    rows = [
        row(trace, f"f:{fit}{more}", heap, fit=fit)
        for trace, heaps in (("a", (10, 8, 20, 16)), ("b", (100, 90, 50, 50)))
        for (fit, more), heap in zip(
            (("first", ""), ("best", ""), ("first", ":lifo"), ("best", ":lifo")), heaps, strict=True
        )
    ]
    found = paired(rows, "heap", "first", "best", "fit")
    assert found.difference.value == pytest.approx((-2 - 4 - 10 - 0) / 4)
    assert found.ratio.value == pytest.approx((0.8 * 0.8 * 0.9 * 1) ** 0.25)
    assert (found.less, found.more, found.difference.count) == (3, 0, 4)
    assert not found.differs
    assert paired(rows, "heap", "f:first", "f:best", "allocator").difference.count == 2


def test_figures_and_ratios_of_figures():
    assert value_of(row("a", "x", 5), "heap/live") == 0.5
    with pytest.raises(UsageError, match="there is no figure 'heep': there are trace"):
        value_of(row("a", "x", 5), "heep")
    with pytest.raises(UsageError, match="trace is no number"):
        value_of(row("a", "x", 5), "trace")
    with pytest.raises(UsageError, match="no finished cell has allocator=z and heap: there are x"):
        paired([row("a", "x", 5)], "heap", "x", "z", "allocator")
