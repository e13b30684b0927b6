"""Parameters of a design, searched for a goal: less memory, fewer references, less time, or two of them.

Each trial is a spec that runs on every trace, as cells of a sweep: with a store, none is run twice.  What is
minimised is a ratio: a figure of the trial to that of the spec as it was given, the geometric mean over the
traces; so 0.9 is a tenth less.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from heaplab.allocators import Spec, parse
from heaplab.allocators.base import Option
from heaplab.errors import UsageError
from heaplab.lab.columns import COLUMNS
from heaplab.lab.metrics import geometric_mean
from heaplab.lab.pool import Pool
from heaplab.lab.sweeping.statistics import value_of
from heaplab.lab.sweeping.store import Row
from heaplab.lab.sweeping.sweep import Given, Sweep, sweep
from heaplab.machine.machine import USUAL_PAGE
from heaplab.native.playing import FINISHED
from heaplab.shown import text
from heaplab.units import parse_size

#: goals by name: the figure
GOALS = {
    "heap": "peak_heap_bytes",
    "mean-heap": "heap_over_live_mean",
    "resident": "peak_resident_bytes",
    "mean-resident": "resident_over_live_mean",
    "mems": "mems_mean",
    "faults": "faults",
    "entries": "faults+brk_calls+mmap_calls",  # how often the kernel is entered
    "seconds-native": "native_ns_per_op",
}
_NATIVE = "native_ns_per_op"
#: options that trade safety, not space or time alone: searched if ranges are given for them
_OF_SAFETY = ("checks", "seal")
#: a size goes from a page to so many times its default, a small count from 0 on
_MOST_TIMES = 64
#: of an option whose default is a word: 64 KiB to 32 MiB, as far as glibc's dynamic threshold goes
_OF_A_WORD = (64 << 10, 32 << 20)
#: specs that are tried at once; not the number of cores, so that the search is the same everywhere
_BATCH = 8


@dataclass(frozen=True)
class Trial:
    """A spec that was tried.

    ratios: of each goal, to the spec as given, the geometric mean over the traces; empty if the spec did not
    finish them all, and `reason` says why.  by_trace: the ratios, by trace.
    """

    spec: str
    ratios: tuple[float, ...]
    by_trace: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    given: the spec as given, all of whose ratios are 1.  axes: values tried, by option.
    trials: each spec once, in the order in which they were tried.  held_out: of the front's specs, the ratios
    on traces that the search did not see.
    """

    given: str
    goals: tuple[str, ...]
    axes: Mapping[str, tuple[str, ...]]
    trials: tuple[Trial, ...]
    held_out: Mapping[str, Trial]
    interrupted: bool = False

    @property
    def finished(self) -> list[Trial]:
        """The trials that have ratios."""
        return [trial for trial in self.trials if trial.ratios]

    @property
    def front(self) -> list[Trial]:
        """The trials that none is better than in one goal and as good in the others, by the first goal."""
        return front_of(self.finished)

    @property
    def best(self) -> Trial:
        """The trial with the least product of ratios."""
        return min(self.finished, key=lambda trial: math.prod(trial.ratios))

    def __str__(self) -> str:
        return text(self, "heaplab.report.sweeps:tuning_text")


def front_of(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that no other one dominates, each pair of ratios once.

    >>> [trial.spec for trial in front_of([Trial("a", (1, 2)), Trial("b", (2, 1)), Trial("c", (2, 2))])]
    ['a', 'b']
    """
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda each: each.ratios):
        if not any(_dominates(other.ratios, trial.ratios) for other in kept):
            kept.append(trial)
    return kept


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(mine <= its for mine, its in zip(one, other, strict=True))


def axes_of(spec: Spec, ranges: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the values to be tried of each option: those in `ranges`, else all that make sense.

    An option that the spec gives stays as it is given, and so do checks and seal, unless a range names them.
    Choices are all tried; sizes are powers of two from a page to 64 times the default, small counts from 0.
    Raises: UsageError for a range of what is no option, or with a value that the option cannot have.

    >>> axes_of(parse("slab", "c"), {"keep": "0,4KiB..16KiB"})["keep"]
    ('0', '4096', '8192', '16384')
    """
    known = {option.name: option for option in spec.design.OPTIONS}
    for name in ranges:
        if name not in known:
            raise UsageError(f"{spec.name} has no parameter {name!r}: there are {', '.join(known) or 'none'}")
    given = {name for name, _ in spec.given}
    axes = {}
    for name, option in known.items():
        if name in ranges:
            axes[name] = tuple(_in_range(spec, option, ranges[name]))
        elif name not in given and name not in _OF_SAFETY:
            axes[name] = tuple(_usual(option))
    return axes


def _usual(option: Option) -> Iterator[str]:
    if option.choices:
        yield from option.choices
        return
    if option.word:
        yield option.word
    if option.default == option.word:
        low, high = _OF_A_WORD
    else:
        default = parse_size(option.default)
        low, high = (USUAL_PAGE if default >= USUAL_PAGE else 1), min(default * _MOST_TIMES, option.most)
        yield "0"
    yield from _powers(low, high)


def _powers(low: int, high: int) -> Iterator[str]:
    while low <= high:
        yield str(low)
        low *= 2


def _in_range(spec: Spec, option: Option, given: str) -> Iterator[str]:
    for part in given.split(","):
        first, dots, last = part.strip().partition("..")
        if dots:
            low, high = parse_size(first), parse_size(last)
            if not 0 < low <= high:
                raise UsageError(f"{option.name}={part}: a range goes up, from above 0, as in 4KiB..1MiB")
            values = list(_powers(low, high))
        else:
            values = [first]
        for value in values:
            parse(f"{spec.name}:{option.name}={value}", spec.language)  # which raises for what cannot be
            yield value


def tune(
    spec: str,
    traces: Sequence[Given],
    *,
    minimise: Sequence[str] = ("heap",),
    ranges: Mapping[str, str] | None = None,
    trials: int = 50,
    seed: int = 1,
    held_out: Sequence[Given] = (),
    store: str | os.PathLike[str] | None = None,
    language: str = "c",
    progress: Callable[[int, int, str], None] = lambda done, planned, spec: None,
    **options: Any,
) -> Tuning:
    """Search the parameters of a design, and return all that was tried.

    spec: options that it gives are not searched.  minimise: one or two of `GOALS`, or columns of a frame.
    ranges: values of options, as in {"top_pad": "0,4KiB..1MiB"}; others are as `axes_of` says.
    trials: specs at most, the given one included.  If there are no more than that, all are tried; else a
    sampler draws them (Optuna's TPE, seeded).  seed: of the sampler.
    held_out: traces on which the front is tried in the end.  store, language, options: as of `sweep`.
    progress: called with the number of specs tried, that planned, and the latest.
    The goal "seconds-native" compiles each spec and times it; what is better by less than the noise is not
    better.  Ctrl-C ends the search; what was tried is returned.
    Raises: UsageError as `sweep`; for an unknown goal; when the given spec finishes no trace.

    >>> from heaplab.traces import synthetic
    >>> found = tune("spans:mmap_threshold=dynamic", [synthetic(300)], ranges={"delay": "0,2MiB"}, trials=2,
    ...     minimise=["mems"], jobs=1)
    >>> [trial.spec for trial in found.trials]
    ['spans:mmap_threshold=dynamic', 'spans:mmap_threshold=dynamic:delay=0']
    """
    start = parse(spec, language)
    metrics = _metrics(minimise)
    if trials < 1:
        raise UsageError(f"trials={trials}: give a number above 0")
    axes = {name: values for name, values in axes_of(start, ranges or {}).items() if values}
    if not axes:
        raise UsageError(f"{spec} leaves nothing to search: every parameter is given")
    with Pool(_jobs(options.get("jobs")), keep=True) as pool:
        runs = _Runs(traces, metrics, {"language": language, "store": store, "pool": pool, **options})
        search = _Search(str(start), axes, runs, progress)
        search.go(start, trials, seed)
        interrupted = search.interrupted
        tried = Tuning(str(start), tuple(minimise), axes, tuple(search.trials.values()), {})
        apart: dict[str, Trial] = {}
        if held_out and not interrupted and tried.finished:
            others = _Runs(held_out, metrics, runs.options)
            specs = [trial.spec for trial in tried.front]
            apart = {trial.spec: trial for trial in others.trials(specs, str(start))}
    return Tuning(tried.given, tried.goals, axes, tried.trials, apart, interrupted)


def _jobs(jobs: int | None) -> int:
    return jobs or len(os.sched_getaffinity(0))


def _metrics(goals: Sequence[str]) -> list[str]:
    by_key = {column.key for column in COLUMNS if column.best is min}
    if not 1 <= len(goals) <= 2 or len(set(goals)) < len(goals):
        raise UsageError("a search has one goal, or two different ones")
    for goal in goals:
        if goal not in GOALS and goal not in by_key:
            raise UsageError(
                f"there is no goal {goal!r}: there are {', '.join(GOALS)}, and figures of a sweep"
            )
    return [GOALS.get(goal, goal) for goal in goals]


class _Runs:
    """Specs on the same traces, by the same figures.  options: of `sweep`."""

    def __init__(self, traces: Sequence[Given], metrics: Sequence[str], options: Mapping[str, Any]) -> None:
        self.traces = traces
        self.metrics = metrics
        self.options = dict(options)
        self.base: dict[str, dict[str, float]] = {}
        self.interrupted = False

    def trials(self, specs: Sequence[str], given: str) -> list[Trial]:
        """Return the trials of specs whose cells are over; `given` is what they are compared with.

        Raises: UsageError when the given spec does not finish.
        """
        if not self.base:
            specs = [given, *(spec for spec in specs if spec != given)]
        values: dict[str, dict[str, dict[str, float]]] = {spec: {} for spec in specs}
        reasons = dict.fromkeys(specs, "")
        for swept in self._sweeps(specs):
            for row in swept.rows:
                spec = str(row.figures["allocator"]).removeprefix("heaplab:")
                reasons[spec] = reasons[spec] or _take(row, self.metrics, values[spec])
            self.interrupted = self.interrupted or swept.interrupted
            if swept.unread:
                raise UsageError("; ".join(swept.unread.values()))
        if not self.base:
            if reasons[given] or (missing := self._missing(values[given])):
                raise UsageError(f"{given} cannot be compared with: {reasons[given] or missing}")
            self.base = values[given]
        return [
            self._trial(spec, values[spec], reasons[spec])
            for spec in specs
            if reasons[spec] or not self._missing(values[spec])
        ]

    def _sweeps(self, specs: Sequence[str]) -> Iterator[Sweep]:
        if any(metric != _NATIVE for metric in self.metrics):
            yield sweep(self.traces, specs, **self.options)
        if _NATIVE in self.metrics:
            yield sweep(self.traces, native=[f"heaplab:{spec}" for spec in specs], **self.options)

    def _missing(self, values: Mapping[str, Mapping[str, float]]) -> str:
        """Why a spec has no ratios yet: "" when it has all."""
        if len(values) < len(self.traces):
            return "it was interrupted"
        lacking = [metric for metric in self.metrics for found in values.values() if metric not in found]
        return f"there is no {lacking[0]}" if lacking else ""

    def _trial(self, spec: str, values: Mapping[str, Mapping[str, float]], reason: str) -> Trial:
        if reason:
            return Trial(spec, (), reason=reason)
        by_trace = {
            trace: tuple(_ratio(values[trace][metric], base[metric]) for metric in self.metrics)
            for trace, base in self.base.items()
        }
        ratios = tuple(geometric_mean(each) for each in zip(*by_trace.values(), strict=True))
        return Trial(spec, ratios, by_trace)


def _take(row: Row, metrics: Sequence[str], values: dict[str, dict[str, float]]) -> str:
    """Take the figures of a cell; return why it has none."""
    trace = str(row.figures["trace"])
    if row.figures["outcome"] != FINISHED:
        return f"{trace}: {row.figures['outcome']}: {row.figures['reason']}"
    found = {metric: value for metric in metrics if (value := value_of(row, metric)) is not None}
    values.setdefault(trace, {}).update(found)
    return ""


def _ratio(value: float, base: float) -> float:
    return value / base if base else 1.0 if value == base else math.inf


class _Search:
    """Specs drawn, and what came of them.  trials: by spec."""

    def __init__(
        self,
        given: str,
        axes: Mapping[str, Sequence[str]],
        runs: _Runs,
        progress: Callable[[int, int, str], None],
    ) -> None:
        self.given = given
        self.axes = axes
        self.runs = runs
        self.progress = progress
        self.trials: dict[str, Trial] = {}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C has ended the search."""
        return self.runs.interrupted

    def go(self, start: Spec, trials: int, seed: int) -> None:
        """Try the given spec, and then others."""
        own = {name: option.default for option in start.design.OPTIONS if (name := option.name) in self.axes}
        self._own = own
        combinations = math.prod(map(len, self.axes.values()))
        self.planned = min(trials, combinations)
        self._try([self.given])
        if combinations <= trials:
            self._all()
        else:
            self._drawn(trials, seed)

    def _spec(self, values: Mapping[str, str]) -> str:
        """The spec with these values; those of the given spec are left out."""
        others = [f"{name}={value}" for name, value in values.items() if not self._is_own(name, value)]
        return ":".join([self.given, *others])

    def _is_own(self, name: str, value: str) -> bool:
        own = self._own[name]
        if value == own:
            return True
        return value.isdigit() and own[:1].isdigit() and parse_size(value) == parse_size(own)

    def _try(self, specs: Iterable[str]) -> None:
        """Run the specs that are new."""
        new = [spec for spec in dict.fromkeys(specs) if spec not in self.trials]
        if not new or self.interrupted:
            return
        for trial in self.runs.trials(new, self.given):
            self.trials[trial.spec] = trial
        self.progress(len(self.trials), self.planned, new[-1])

    def _all(self) -> None:
        combined = product(*self.axes.values())
        made = [self._spec(dict(zip(self.axes, values, strict=True))) for values in combined]
        for first in range(0, len(made), _BATCH):
            self._try(made[first : first + _BATCH])

    def _drawn(self, trials: int, seed: int) -> None:
        optuna = _optuna()
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_BATCH, constant_liar=True)
        goals = len(self.runs.metrics)
        study = optuna.create_study(directions=["minimize"] * goals, sampler=sampler)
        idle = 0
        while len(self.trials) < self.planned and not self.interrupted and idle < _BATCH:
            count = min(_BATCH, self.planned - len(self.trials))
            asked = [study.ask() for _ in range(count)]
            specs = [self._spec({name: self._draw(trial, name) for name in self.axes}) for trial in asked]
            before = len(self.trials)
            self._try(specs)
            idle = idle + 1 if len(self.trials) == before else 0
            for trial, spec in zip(asked, specs, strict=True):
                found = self.trials.get(spec)
                if found is not None and found.ratios:
                    study.tell(trial, list(found.ratios))
                else:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _draw(self, trial: Any, name: str) -> str:
        """One value of an axis: sizes by their place in the order, words and choices as they are."""
        values = self.axes[name]
        if len(values) > 2 and all(value.isdigit() for value in values):
            return values[int(trial.suggest_int(name, 0, len(values) - 1))]
        chosen: str = trial.suggest_categorical(name, list(values))
        return chosen


def _optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415 - slow, and an extra
    except ImportError:
        raise UsageError("a search needs Optuna: install heaplab[search]") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
