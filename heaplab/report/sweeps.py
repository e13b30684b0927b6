"""Sweeps as tables: means with intervals, what became better or worse, the front that was found."""

import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from heaplab.lab import Sweep
from heaplab.lab.columns import COLUMNS, COST, rate
from heaplab.lab.sweeping.diff import BETTER, WORSE, Change, Diff
from heaplab.lab.sweeping.statistics import Mean, means
from heaplab.lab.sweeping.store import Row
from heaplab.lab.sweeping.tune import Trial, Tuning
from heaplab.native.playing import FINISHED
from heaplab.report.plain import printed
from heaplab.report.sheets import Figures, Sheet, make_console, print_sheet
from heaplab.units import counted

#: what the table has means of: title, figure, how it is written
_SHOWN = (
    ("heap\n/ live", "peak_heap_bytes/peak_live_bytes", "{:.3f}".format),
    ("resident\n/ live", "peak_resident_bytes/peak_live_bytes", "{:.3f}".format),
    ("mems/op\nmean", "mems_mean", rate),
    ("native\nns/op", "native_ns_per_op", rate),
)
_VERDICTS = {BETTER: "green", WORSE: "red"}
#: failures that are told one by one
_MOST_TOLD = 10


def show_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Print a sweep: geometric means by allocator with their intervals, and how cells ended otherwise."""
    console = console or make_console()
    found = f", {sweep.found:,} of them found" if sweep.found else ""
    cut = ", interrupted" if sweep.interrupted else ""
    title = f"{counted(len(sweep.rows), 'cell')} of {sweep.planned:,}{found}{cut}"
    console.print(Text(title), style="bold")
    if sweep.rows:
        print_sheet(console, _sheet(sweep.rows), _notes(sweep))
    for sentence in _remarks(sweep):
        console.print(Text(sentence))


def sweep_text(sweep: Sweep) -> str:
    """The table of a sweep."""
    return printed(lambda console: show_sweep(sweep, console))


def _sheet(rows: Sequence[Row]) -> Sheet:
    allocators = list(dict.fromkeys(str(row.figures["allocator"]) for row in rows))
    ended = {name: [row for row in rows if row.figures["allocator"] == name] for name in allocators}
    finished = [
        f"{sum(row.figures['outcome'] == FINISHED for row in ended[name])} of {len(ended[name])}"
        for name in allocators
    ]
    columns = [Figures("cells\nfinished", [Text(cell) for cell in finished], COST)]
    for title, metric, form in _SHOWN:
        of = {group[0]: mean for group, mean in means(rows, metric, ["allocator"], geometric=True).items()}
        if any(mean.count and not math.isnan(mean.value) for mean in of.values()):
            columns.append(Figures(title, [Text(_written(of.get(name), form)) for name in allocators], COST))
    return Sheet(allocators, [""] * len(allocators), columns)


def _written(mean: Mean | None, form: Callable[[float], str]) -> str:
    """A mean with its interval."""
    if mean is None or math.isnan(mean.value):
        return "-"
    if math.isnan(mean.low):
        return form(mean.value)
    return f"{form(mean.value)} [{form(mean.low)}, {form(mean.high)}]"


def _notes(sweep: Sweep) -> list[str]:
    found = [mean for mean in means(sweep.rows, "peak_heap_bytes", ["allocator"]).values() if mean.count]
    if not found:
        return []
    over = counted(found[0].count, found[0].over)
    interval = ", with 95 % intervals" if found[0].count > 1 else ""
    return [f"geometric means over {over} that all have finished{interval}"]


def _remarks(sweep: Sweep) -> list[str]:
    failed = [row.figures for row in sweep.rows if row.figures["outcome"] != FINISHED]
    told = [
        f"! {row['allocator']} on {row['trace']}, seed {row['seed']}: {row['outcome']}: {row['reason']}"
        for row in failed[:_MOST_TOLD]
    ]
    if len(failed) > _MOST_TOLD:
        told.append(f"! and {len(failed) - _MOST_TOLD:,} more cells that did not finish")
    unread = (f"! no cells: {sentence}" for sentence in sweep.unread.values())
    return [*told, *unread, *sweep.remarks, *sweep.left_out]


def show_diff(diff: Diff, *, everything: bool = False, console: Console | None = None) -> None:
    """Print what became better or worse, trace by trace, and a sentence; everything: also what did not."""
    console = console or make_console()
    shown = diff.changes if everything else diff.of(BETTER, WORSE)
    for trace in dict.fromkeys(change.trace for change in shown):
        changes = [change for change in shown if change.trace == trace]
        console.print(Text(trace), style="bold")
        print_sheet(console, _diff_sheet(changes), [])
    for side, cells in zip(("first", "second"), diff.alone, strict=True):
        if cells:
            more = f" and {len(cells) - _MOST_TOLD:,} more" if len(cells) > _MOST_TOLD else ""
            console.print(Text(f"only the {side} has {', '.join(cells[:_MOST_TOLD])}{more}"))
    console.print(Text(str(diff)))


def _diff_sheet(changes: Sequence[Change]) -> Sheet:
    forms = {column.key: column.form for column in COLUMNS}
    cells = [
        [
            change.metric,
            *(_value(side, forms.get(change.metric, str)) for side in (change.before, change.after)),
            "-" if change.share is None else f"{100 * change.share:+.1f}%",
            change.verdict,
        ]
        for change in changes
    ]
    styles = [_VERDICTS.get(change.verdict, "") for change in changes]
    columns = [
        Figures(title, [Text(row[at], style) for row, style in zip(cells, styles, strict=True)], COST)
        for at, title in enumerate(("figure", "before", "after", "change", ""))
    ]
    return Sheet([change.allocator for change in changes], [""] * len(changes), columns)


def _value(value: str | float, form: Callable[[float], str]) -> str:
    return value if isinstance(value, str) else form(value)


def show_tuning(tuning: Tuning, console: Console | None = None) -> None:
    """Print the front of a search, and in a sentence what the best spec gains."""
    console = console or make_console()
    tried, cut = counted(len(tuning.trials), "spec"), ", interrupted" if tuning.interrupted else ""
    console.print(Text(f"{tried} tried{cut}; figures are ratios to those of {tuning.given}"), style="bold")
    if not tuning.finished:
        return
    front = tuning.front
    columns = [
        Figures(goal, [Text(f"{trial.ratios[at]:.4f}") for trial in front], COST)
        for at, goal in enumerate(tuning.goals)
    ]
    if tuning.held_out:
        columns += [
            Figures(
                f"{goal}\nheld out", [_apart(tuning.held_out.get(trial.spec), at) for trial in front], COST
            )
            for at, goal in enumerate(tuning.goals)
        ]
    print_sheet(console, Sheet([trial.spec for trial in front], [""] * len(front), columns), [])
    console.print(Text(_gain(tuning)))
    failed = [trial for trial in tuning.trials if not trial.ratios]
    if failed:
        console.print(
            Text(f"{counted(len(failed), 'spec')} did not finish: {failed[0].spec}: {failed[0].reason}")
        )


def _apart(trial: Trial | None, at: int) -> Text:
    return Text(f"{trial.ratios[at]:.4f}" if trial is not None and trial.ratios else "-")


def _gain(tuning: Tuning) -> str:
    best = tuning.best
    if best.spec == tuning.given:
        both = " in both goals together" if len(tuning.goals) > 1 else ""
        return f"nothing that was tried is better than {tuning.given}{both}"
    gains = ", ".join(
        f"{goal} {100 * (ratio - 1):+.1f} %" for goal, ratio in zip(tuning.goals, best.ratios, strict=True)
    )
    return f"the best is {best.spec}: {gains}"


def tuning_text(tuning: Tuning) -> str:
    """The front of a search."""
    return printed(lambda console: show_tuning(tuning, console))
