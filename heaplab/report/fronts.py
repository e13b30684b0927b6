"""The front of a search, drawn: all specs that were tried, and those that none is better than."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from heaplab.lab.sweeping.tune import Tuning
from heaplab.report import style


def front(tuning: Tuning) -> Figure:
    """Draw the trials of a search: one goal against the other; of one goal alone, trial after trial."""
    figure = style.figure(5.2, 3.9)
    axes = figure.add_subplot()
    style.plain(axes)
    trials = tuning.finished
    if len(tuning.goals) == 1:
        ratios = [trial.ratios[0] for trial in trials]
        best = [min(ratios[: at + 1]) for at in range(len(ratios))]
        axes.plot(range(1, len(ratios) + 1), ratios, "o", color=style.SKY, markersize=4, label="a spec")
        axes.step(range(1, len(best) + 1), best, where="post", color=style.BLUE, label="the best so far")
        axes.set_xlabel("specs tried", fontsize=9)
        axes.set_ylabel(f"{tuning.goals[0]}, as a ratio to the spec as given", fontsize=9)
    else:
        kept = tuning.front
        axes.plot(
            *zip(*(trial.ratios for trial in trials), strict=True),
            "o",
            color=style.SKY,
            markersize=4,
            label="a spec",
        )
        axes.step(
            *zip(*(trial.ratios for trial in kept), strict=True),
            where="post",
            color=style.BLUE,
            marker="o",
            markersize=5,
            label="the front: none is better in both",
        )
        across, up = tuning.goals
        axes.set_xlabel(f"{across}, as a ratio to the spec as given", fontsize=9)
        axes.set_ylabel(f"{up}, as a ratio to the spec as given", fontsize=9)
        axes.loglog()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=12))
            axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.plot(1, 1, "X", color=style.VERMILION, markersize=8, label="as given")
        axes.axvline(1, color=style.GREY, linewidth=0.7, linestyle=":")
    axes.axhline(1, color=style.GREY, linewidth=0.7, linestyle=":")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure
