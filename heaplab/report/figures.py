"""The figures of a comparison: one function each, runs in, a matplotlib Figure out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from heaplab.lab import Comparison, Run
from heaplab.lab.columns import foreign_clock, rate
from heaplab.lab.record import NATIVE
from heaplab.native.playing import FINISHED
from heaplab.report import style
from heaplab.report.maps import Grid, pixels
from heaplab.report.means import MEMS, UTILISATION, Summary

#: of a row of panels
_COLUMNS = 3
_PANEL_WIDTH, _PANEL_HEIGHT = 3.1, 2.2
#: inches that the widest legend needs
_LEGEND_WIDTH = 6.4


def timeline(runs: Sequence[Run]) -> Figure:
    """Live payload, heap and resident memory over the trace, a panel for each allocator, on equal axes."""
    figure, panels = _panels(len(runs))
    unit, name = style.unit_of(run.peak_heap for run in runs)
    for axes, run in zip(panels, runs, strict=True):
        style.plain(axes)
        line = run.timeline
        axes.fill_between(line.event, np.array(line.live) / unit, color=style.LIVE, alpha=0.45, linewidth=0)
        axes.plot(line.event, np.array(line.heap) / unit, color=style.HEAP, linewidth=2.2)
        axes.plot(line.event, np.array(line.resident) / unit, color=style.RESIDENT, linewidth=1.1)
        if run.outcome != FINISHED:
            axes.axvline(run.events_done, color=style.GREY, linestyle=":", linewidth=1)
        axes.set_title(_labelled(run), fontsize=8.5)
    first = panels[0]
    first.set_xlim(0, max(1, *(run.events for run in runs)))
    first.set_ylim(0)
    style.counts(first.xaxis)
    figure.supxlabel("events of the trace carried out", fontsize=9)
    figure.supylabel(name, fontsize=9)
    figure.legend(
        handles=[
            Line2D([], [], color=style.HEAP, label="heap (VMAs)"),
            Line2D([], [], color=style.RESIDENT, label="resident frames"),
            Patch(color=style.LIVE, alpha=0.45, label="live payload"),
        ],
        loc="outside upper center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
    )
    return figure


def heap_map(runs: Sequence[Run]) -> Figure:
    """The heap of each allocator at the peak of live, byte after byte, to one scale.

    A pixel's colour is the mixture of what lies in its bytes.  Rows run from left to right, addresses from
    top to bottom: first the brk heap, then the mappings of large blocks.
    """
    shown = [(run, run.heap_map) for run in runs if run.heap_map is not None]
    grid = Grid.for_heaps(heap for _, heap in shown)
    cell, height = grid.cell, grid.rows
    unit, name = style.unit_of([grid.largest])
    figure, panels = _panels(len(shown))
    row_bytes = cell * grid.columns
    for axes, (run, heap) in zip(panels, shown, strict=True):
        style.plain(axes)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.imshow(
            pixels(heap, grid),
            aspect="auto",
            interpolation="nearest",
            extent=(0, row_bytes / 1024, height * row_bytes / unit, 0),
        )
        axes.set_title(_labelled(run), fontsize=8.5)
    figure.supxlabel("place in the row, KiB", fontsize=9)
    figure.supylabel(f"offset in the heap, {name}", fontsize=9)
    figure.legend(
        handles=[
            Patch(color=style.LIVE, label="allocated payload"),
            Patch(color=style.INTERNAL, label="overhead: rounding, headers, metadata"),
            Patch(color=style.EXTERNAL, label="free"),
        ],
        loc="outside upper center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
    )
    return figure


def fragmentation(runs: Sequence[Run]) -> Figure:
    """Where the heap's bytes are at the peak of live: payload, lost inside blocks, lost between them."""
    shown = [(run, run.fragmentation) for run in runs if run.fragmentation is not None]
    figure = style.figure(7.2, 0.42 * len(shown) + 1.3)
    axes = figure.subplots()
    style.plain(axes)
    places = np.arange(len(shown))
    left = np.zeros(len(shown))
    for label, colour, values in (
        ("live payload", style.LIVE, [1 - part.internal - part.external for _, part in shown]),
        ("internal fragmentation", style.INTERNAL, [part.internal for _, part in shown]),
        ("external fragmentation", style.EXTERNAL, [part.external for _, part in shown]),
    ):
        widths = 100 * np.array(values)
        axes.barh(places, widths, left=left, color=colour, height=0.72, label=label)
        for place, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 6:
                dark = colour == style.LIVE
                axes.text(
                    start + width / 2,
                    place,
                    f"{width:.1f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
        left += widths
    axes.set_yticks(places, [_labelled(run) for run, _ in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the heap at the peak of the live payload", fontsize=9)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8.5, frameon=False)
    return figure


def cost(runs: Sequence[Run]) -> Figure:
    """Mems per operation (mean, p99, maximum) and nanoseconds per operation, by allocator.

    Real allocators have no mems; their nanoseconds, another measure, are squares with their quartiles.
    """
    shown = [run for run in runs if run.mems.mean is not None or run.seconds.times]
    counted = [(place, run.mems) for place, run in enumerate(shown) if run.mems.mean is not None]
    figure = style.figure(9.0, 0.42 * len(shown) + 1.4)
    mems, seconds = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    places = np.arange(len(shown))
    with_mems = [place for place, _ in counted]
    low = [_drawn(each.mean) for _, each in counted]
    high = [_drawn(each.max) for _, each in counted]
    mems.hlines(with_mems, low, high, color=style.GREY, linewidth=1, zorder=1)
    for label, colour, marker, values in (
        ("mean", style.BLUE, "o", low),
        ("p99", style.ORANGE, "s", [_drawn(each.p99) for _, each in counted]),
        ("maximum", style.VERMILION, "|", high),
    ):
        mems.scatter(values, with_mems, color=colour, marker=marker, s=42, label=label, zorder=2)
    if counted:
        mems.set_xscale("log")
        style.log_counts(mems.xaxis)
    mems.set_xlabel("memory references per operation (log scale)", fontsize=9)
    mems.grid(axis="x", color=style.LIGHT)
    mems.set_yticks(places, [_labelled(run) for run in shown], fontsize=8)
    mems.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    foreign = foreign_clock(runs)
    timed = {
        place: _drawn(run.seconds.ns_per_op)
        for place, run in enumerate(shown)
        if run.seconds.ns_per_op is not None and run.allocator not in foreign
    }
    seconds.scatter(list(timed.values()), list(timed), color=style.GREEN, s=42)
    real = {place: run.seconds.times for place, run in enumerate(shown) if run.seconds.times}
    medians = {place: _drawn(times.ns_per_op) for place, times in real.items()}
    seconds.scatter(list(medians.values()), list(medians), color=style.BLUE, marker="s", s=34)
    seconds.hlines(
        list(real),
        [_drawn(times.low) for times in real.values()],
        [_drawn(times.high) for times in real.values()],
        color=style.BLUE,
        linewidth=1.5,
    )
    timed |= medians
    times = list(timed.values())
    for place, time in timed.items():
        seconds.annotate(
            rate(time), (time, place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8
        )
    seconds.set_xscale("log")
    seconds.set_xlim(min(times, default=1) / 2, max(times, default=1) * 4)
    style.log_counts(seconds.xaxis)
    seconds.grid(axis="x", color=style.LIGHT)
    seconds.set_xlabel("ns per operation (log scale)", fontsize=9)
    for axes in (mems, seconds):
        style.plain(axes)
    figure.legend(
        *mems.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
        title="memory references",
        title_fontsize=8.5,
    )
    return figure


def summary(comparison: Comparison) -> Figure:
    """Utilisation against mems per operation: each trace small, each allocator's geometric mean large.

    Means are over the traces that all of them finished; see `means`.
    """
    figure = style.figure(8.4, 4.6)
    axes = figure.subplots()
    style.plain(axes)
    means = Summary(comparison)
    for number, allocator in enumerate(means.allocators):
        runs = [run for run in means.finished[allocator].values() if run.language != NATIVE]
        if not runs:
            continue
        colour, marker = style.SERIES[number % len(style.SERIES)]
        mems = [_drawn(run.mems.mean) for run in runs]
        used = [100 * (run.utilisation or 0) for run in runs]
        axes.scatter(mems, used, color=colour, marker=marker, s=16, alpha=0.55, linewidths=0)
        centre = means.value(MEMS, allocator), means.value(UTILISATION, allocator)
        if centre[0] is None or centre[1] is None:
            continue
        axes.scatter(
            _drawn(centre[0]),
            100 * centre[1],
            color=colour,
            marker=marker,
            s=120,
            label=style.name_lines(allocator),
            edgecolors="black",
            linewidths=0.7,
            zorder=3,
        )
    axes.set_xscale("log")
    style.log_counts(axes.xaxis)
    axes.set_ylim(0, 100)
    axes.grid(color=style.LIGHT)
    axes.set_xlabel("mean memory references per operation (log scale)", fontsize=9)
    axes.set_ylabel("utilisation, peak live / peak heap, %", fontsize=9)
    figure.legend(loc="outside right upper", fontsize=8.5, labelspacing=1.0, frameon=False)
    return figure


def _drawn(value: float | None) -> float:
    """Where a logarithmic axis, which has no 0, shows a value."""
    return max(value or 0, 0.1)


def _labelled(run: Run) -> str:
    """The allocator, and how its run ended if that was early."""
    return style.name_lines(run.allocator) + ("" if run.outcome == FINISHED else f" ({run.outcome})")


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels on equal axes."""
    rows, columns = max(1, -(-count // _COLUMNS)), max(1, min(count, _COLUMNS))
    width = max(_PANEL_WIDTH * columns + 0.6, _LEGEND_WIDTH)
    figure = style.figure(width, _PANEL_HEIGHT * rows + 0.7)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for number in range(count, rows * columns):
        panels.flat[number].set_visible(False)
        panels.flat[number - columns].tick_params(labelbottom=True)  # it ends its column now
    return figure, list(panels.flat)[:count]
