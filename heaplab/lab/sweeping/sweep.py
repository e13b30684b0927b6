"""A sweep: every cell of a grid is run once, kept at once, and never again."""

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heaplab import __version__
from heaplab.allocators import Spec
from heaplab.errors import UsageError
from heaplab.lab.columns import row_of
from heaplab.lab.compare import DEFAULT_MAX_MEMS, DEFAULT_MAX_SECONDS
from heaplab.lab.plan import Planned, Progress, Tally, carry_out, count_workers, play, refuse_too_large
from heaplab.lab.pool import Pool
from heaplab.lab.real import Timing
from heaplab.lab.record import Run
from heaplab.lab.room import host_memory
from heaplab.lab.run import RAM
from heaplab.lab.sources import Placing, Source, open_source
from heaplab.lab.sweeping.grid import Grid, Point
from heaplab.lab.sweeping.identity import code_of, content_of, key_of, own_code
from heaplab.lab.sweeping.statistics import Paired, mean_frame, means, paired
from heaplab.lab.sweeping.store import Row, Store, table_of
from heaplab.native.peers import Peer, find_peers
from heaplab.native.playing import ROUNDS
from heaplab.outside import find_allocator, find_outside
from heaplab.shown import text
from heaplab.traces import Trace
from heaplab.traces.opening import WORKLOAD
from heaplab.traces.workload import Workload
from heaplab.units import counted

if TYPE_CHECKING:
    import pandas as pd

Given = str | Path | Trace | Workload
#: of the text of a workload, its seed
_SEED = re.compile(r":seed=\d+")


@dataclass(frozen=True)
class Sweep:
    """The finished cells of a grid, in its order: trace by trace, seed by seed, then the allocators.

    parameters: of the grid.  planned: cells that the grid has.  found: cells that the store had already.
    unread: of each trace without cells, a sentence that says why.  left_out: a sentence for each real
    allocator that is not installed.
    """

    rows: tuple[Row, ...]
    parameters: tuple[str, ...]
    planned: int
    found: int = 0
    interrupted: bool = False
    unread: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def frame(self) -> "pd.DataFrame":
        """Return the cells as a tidy pandas DataFrame: a row a cell, a column a parameter or figure.

        Raises: UsageError without pandas.
        """
        return frame_of(self.rows, self.parameters)

    def means(
        self, metric: str, by: str | Sequence[str] = "allocator", *, geometric: bool = False
    ) -> "pd.DataFrame":
        """Return a DataFrame of means of a figure, with the intervals in which they lie in 95 of 100 cases.

        Its columns are those of `by`, value (the mean), low, high, and count: of how many numbers.
        metric: a column of the frame, or the ratio of two: "peak_heap_bytes/peak_live_bytes".
        by: whose values have a row each: a column, or several.  The means are over the traces that all of
        them finished, each the mean over its seeds; over the seeds, if there is one trace.
        geometric: means of ratios.
        Raises: UsageError for a name that is none; without scipy.
        """
        names = [by] if isinstance(by, str) else list(by)
        return mean_frame(means(self.rows, metric, names, geometric=geometric), names)

    def paired(self, metric: str, first: Any, second: Any, by: str = "allocator") -> Paired:
        """Return how `second` differs from `first` in a figure, over the cells that are alike in all else.

        Pairs leave out what traces differ in, so the interval is narrower than those of the two means.
        Raises: UsageError as `means`, and when there are no such cells.
        """
        return paired(self.rows, metric, first, second, by)

    def __repr__(self) -> str:
        cut = ", interrupted" if self.interrupted else ""
        return f"<Sweep of {counted(self.planned, 'cell')}: {len(self.rows)} finished{cut}>"

    def __str__(self) -> str:
        return text(self, "heaplab.report.sweeps:sweep_text")


def frame_of(rows: Iterable[Row], parameters: Iterable[str] = ()) -> "pd.DataFrame":
    """Return cells as a tidy DataFrame; these parameters come first.

    Raises: UsageError without pandas or pyarrow.
    """
    try:
        import pandas  # noqa: F401, PLC0415 - slow, and an extra
    except ImportError:
        raise UsageError("a frame needs pandas: install heaplab[lab]") from None
    frame: pd.DataFrame = table_of(rows, parameters).to_pandas()
    return frame


@dataclass(frozen=True)
class _Cell:
    """One cell: its place in the grid, its trace and allocator, and the key of its result.

    options: what `run` takes.
    """

    number: int
    point: Point
    source: Source
    allocator: Spec | Peer
    options: Mapping[str, Any]
    key: str
    code: str

    def row(self, run: Run) -> Row:
        """The record of the cell's run, as it is kept."""
        point = self.point
        figures = {**row_of(run), "heaplab": __version__}
        return Row(self.key, dict(point.parameters), figures, self.code, point.templates)

    def known_by(self, row: Row) -> Row:
        """A row that was kept, under the names that this grid has for it."""
        point = self.point
        figures = {**row.figures, "trace": point.trace}
        return replace(row, parameters=dict(point.parameters), figures=figures, templates=point.templates)


def sweep(
    traces: Sequence[Given],
    allocators: Iterable[str] = (),
    *,
    seeds: Iterable[int] = (1,),
    store: str | os.PathLike[str] | None = None,
    cluster: str | None = None,
    language: str = "c",
    native: Iterable[str] = (),
    max_mems: int | None = DEFAULT_MAX_MEMS,
    max_seconds: float | None = DEFAULT_MAX_SECONDS,
    verify: bool = True,
    payload: bool = True,
    ram: int | str = RAM,
    jobs: int | None = None,
    rounds: int = ROUNDS,
    latency: bool = False,
    pool: Pool | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    **grid: Any,
) -> Sweep:
    """Run every trace on every allocator for all values of all parameters and all seeds.

    traces: what `compare` takes; workloads too.  allocators: specs in `language`, or allocators from outside.
    Both may have `{name}` in their text, where the values stand that `grid` gives for the name.
    seeds: of the kernel's placement, and of workloads whose text has no seed of its own; `{seed}` works too.
    store: a directory in which each cell is kept as soon as it is finished, in Parquet; a cell that is there
    with equal content of trace and code, parameters and options is not run again.  None: nothing is kept.
    cluster: the address of a Dask scheduler, whose workers do the cells of the model.
    native: real allocators, timed when nothing else runs.  pool: of workers that stay for other sweeps, used
    if memory allows as many.  The other arguments are those of `compare`.
    A cell that fails, crashes, or does not end is a row, with outcome and reason.  Ctrl-C ends the sweep:
    what is finished is returned, marked as interrupted.
    Raises: UsageError for an empty grid, an unknown allocator, a store of another version or of others'
    files, a full disk, a cluster that goes away; cells that were finished are in the store then.

    >>> from heaplab.traces import synthetic
    >>> found = sweep([synthetic(300)], ["freelist:fit={fit}", "rbtree"], fit=["first", "best"], jobs=1)
    >>> found.frame()[["allocator", "fit", "seed", "outcome"]]
                allocator    fit  seed   outcome
    0  freelist:fit=first  first     1  finished
    1   freelist:fit=best   best     1  finished
    2              rbtree    NaN     1  finished
    """
    if rounds < 1:
        raise UsageError(f"rounds={rounds}: a time needs one round at least")
    if max_seconds is not None and not 0 < max_seconds < threading.TIMEOUT_MAX / 4:
        raise UsageError(f"max_seconds={max_seconds} is no time to wait: give seconds above 0, or None")
    verify = verify and payload
    options = {"verify": verify, "payload": payload, "max_mems": max_mems, "ram": ram}
    whole = Grid.of([_label(each) for each in traces], allocators, native, seeds, grid)
    setting = _Setting(traces, language, options, max_seconds, Timing(rounds, latency))
    cells, left_out = setting.cells(whole)
    if not cells:
        raise UsageError("; ".join(["there is nothing to sweep", *left_out]))
    work = _Work(cells, setting, jobs, cluster, pool, progress)
    if store is None:
        work.do({}, lambda row: None)
    else:
        with Store(store) as kept:
            known = {cell.key: kept.rows[cell.key] for cell in cells if cell.key in kept.rows}
            kept.add(*_renamed(cells, known))
            work.do(known, kept.add)
    return Sweep(
        tuple(work.rows[cell.number] for cell in cells if cell.number in work.rows),
        tuple(whole.values),
        len(cells),
        work.found,
        work.interrupted,
        {cell.source.label: cell.source.unread for cell in cells if cell.source.unread},
        tuple(left_out),
        tuple(work.remarks),
    )


def _label(trace: Given) -> str:
    """What a trace is called in the grid: its text; of one in memory its name."""
    if isinstance(trace, Workload):
        return _SEED.sub("", str(trace))
    return trace.header.name if isinstance(trace, Trace) else os.fspath(trace)


def _seeded(given: Given, label: str, seed: int) -> Trace | str:
    """What opens the trace of a cell with this seed.

    A workload has the cell's seed, unless its text has one of its own.
    """
    if isinstance(given, Trace):
        return given
    if isinstance(given, Workload):
        return given.trace(seed)
    text = label.replace("{seed}", str(seed))
    if text.endswith(".toml") and Path(text).is_file():
        return Workload.load(text).trace(seed)
    return f"{text}:seed={seed}" if text.startswith(WORKLOAD) and not _SEED.search(text) else text


def _renamed(cells: Iterable[_Cell], known: Mapping[str, Row]) -> list[Row]:
    """Rows that were kept under other names than this grid's, with the parameters that it adds."""
    changed = []
    for cell in cells:
        if cell.key in known:
            row = cell.known_by(known[cell.key])
            row = replace(row, parameters={**known[cell.key].parameters, **row.parameters})
            if row != known[cell.key]:
                changed.append(row)
    return changed


@dataclass
class _Setting:
    """What all cells of a sweep have in common."""

    given: Sequence[Given]
    language: str
    options: Mapping[str, Any]
    max_seconds: float | None
    timing: Timing
    _sources: dict[tuple[int, str, int], tuple[Source, str]] = field(default_factory=dict)

    def cells(self, grid: Grid) -> tuple[list[_Cell], list[str]]:
        """Return the cells of a grid, and why real allocators are left out."""
        own, texts = own_code(), {False: self._find, True: self._find_real}
        found: dict[tuple[str, bool], tuple[Spec | Peer | None, str]] = {}
        left_out: list[str] = []
        cells: list[_Cell] = []
        keys: set[tuple[str, str]] = set()
        for point in grid.points():
            named = (point.allocator, point.native)
            if named not in found:
                allocator, why = texts[point.native](point.allocator)
                left_out += why
                found[named] = allocator, code_of(allocator) if allocator else ""
            allocator, code = found[named]
            if allocator is None:
                continue
            source, content = self._source(point)
            options = {**self.options, "seed": point.seed}
            timed = [self.timing.rounds, self.timing.latency]
            how = timed if isinstance(allocator, Peer) else [allocator.language]
            key = key_of(content, str(allocator), how, options, self.max_seconds, [own, code])
            if (key, source.label) in keys:
                raise UsageError(f"the cell of {source.label} on {point.allocator} is given twice")
            keys.add((key, source.label))
            code = key_of(own, code)[:12]
            cells.append(_Cell(len(cells), point, source, allocator, options, key, code))
        return cells, left_out

    def _find(self, text: str) -> tuple[Spec | Peer | None, list[str]]:
        return find_allocator(text.strip(), self.language), []

    def _find_real(self, text: str) -> tuple[Spec | Peer | None, list[str]]:
        peers, left_out = find_peers([find_outside(text.strip()) or text.strip()])
        return (peers[0] if peers else None), left_out

    def _source(self, point: Point) -> tuple[Source, str]:
        """The trace of a point, not opened yet, and its content; points that differ in no more share it."""
        given = self.given[point.place]
        made = isinstance(given, Workload) or point.trace.endswith(".toml")
        of_seed = point.seed if made or point.trace.startswith(WORKLOAD) or "{seed}" in point.trace else 0
        at = (point.place, point.trace, of_seed)
        if at not in self._sources:
            what = _seeded(given, point.trace, point.seed)
            content = content_of(what)
            self._sources[at] = Source(what, None, point.trace), content
        return self._sources[at]


class _Work:
    """The cells of a sweep on their way.  rows: of the finished ones, by the cells' numbers."""

    def __init__(
        self,
        cells: Sequence[_Cell],
        setting: _Setting,
        jobs: int | None,
        cluster: str | None,
        pool: Pool | None,
        progress: Callable[[Progress], None],
    ) -> None:
        self.cells = cells
        self.setting = setting
        self.jobs = jobs
        self.cluster = cluster
        self.pool = pool
        self.progress = progress
        self.rows: dict[int, Row] = {}
        self.found = 0
        self.interrupted = False
        self.remarks: list[str] = []
        self.few: list[str] = []

    def do(self, known: Mapping[str, Row], keep: Callable[[Row], None]) -> None:
        """Run the cells that are not known; every one that is finished goes to `keep` at once."""
        for cell in self.cells:
            if cell.key in known:
                self.rows[cell.number] = cell.known_by(known[cell.key])
        self.found = len(self.rows)
        missing = [cell for cell in self.cells if cell.number not in self.rows]
        if not missing:
            return

        def keep_run(number: int, run: Run) -> None:
            row = missing[number].row(run)
            keep(row)
            self.rows[missing[number].number] = row

        try:
            self._open(missing)
            events = [cell.source.trace.header.events if cell.source.trace else 0 for cell in missing]
            tally = Tally(events, self.progress, keep_run)
            self._on_the_model(missing, tally)
            self._on_real_ones(missing, tally)
        except KeyboardInterrupt:
            self.interrupted = True

    def _open(self, missing: Sequence[_Cell]) -> None:
        """Open the traces of these cells; those too large have no runs."""
        sources = list({id(cell.source): cell.source for cell in missing}.values())
        for source in sources:
            open_source(source)
        modelled = {id(cell.source) for cell in missing if isinstance(cell.allocator, Spec)}
        if self.setting.options["payload"]:
            large = [source for source in sources if id(source) in modelled]
            refuse_too_large(large, self.setting.options["ram"], host_memory())

    def _on_the_model(self, missing: Sequence[_Cell], tally: Tally) -> None:
        plan = [
            Planned(
                number,
                cell.source,
                cell.source.trace.header,
                cell.allocator,
                cell.options,
                self.setting.max_seconds,
            )
            for number, cell in enumerate(missing)
            if isinstance(cell.allocator, Spec) and cell.source.trace and not cell.source.unread
        ]
        if not plan:
            return
        if self.cluster is not None:
            from heaplab.lab.sweeping.cluster import carry_out_on  # noqa: PLC0415 - an extra

            carry_out_on(self.cluster, plan, tally)
            return
        options = self.setting.options
        workers, self.few = count_workers(plan, self.jobs, options["ram"], host_memory(), options["payload"])
        self.remarks += self.few
        with Placing() as placing:
            self._carry_out(plan, workers, tally, placing)

    def _carry_out(self, plan: Sequence[Planned], workers: int, tally: Tally, placing: Placing) -> None:
        """Do the plan; each trace has its place from before its first run until its last one is over."""
        left = Counter(id(planned.source) for planned in plan)

        def placed() -> Iterator[Planned]:
            for planned in plan:
                placing.place(planned.source)
                yield planned

        def over(planned: Planned) -> None:
            left[id(planned.source)] -= 1
            if not left[id(planned.source)]:
                placing.remove(planned.source)

        carry_out(placed(), workers, tally, over, None if self.few else self.pool)

    def _on_real_ones(self, missing: Sequence[_Cell], tally: Tally) -> None:
        rounds: dict[tuple[int, int], list[int]] = {}
        for number, cell in enumerate(missing):
            if isinstance(cell.allocator, Peer):
                rounds.setdefault((id(cell.source), cell.point.seed), []).append(number)
        for numbers in rounds.values():
            cells = [missing[number] for number in numbers]
            peers = [cell.allocator for cell in cells if isinstance(cell.allocator, Peer)]
            source, options = cells[0].source, cells[0].options
            play(source, peers, numbers, tally, self.setting.timing, options, self.setting.max_seconds)
