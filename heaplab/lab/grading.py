"""Many submissions to a malloc course, graded side by side on the same traces.

A submission is an allocator from outside (`heaplab.outside`), most often an mm.c.  Nobody vouches for it, so
it is compiled and played confined (`heaplab.confining`), each trace in a process of its own.  One that
crashes, does not end, or does not compile costs its own row.

A trace on which the submission keeps its contract to the end is valid.  Its marks there are

    utilisation   peak live / peak heap
    throughput    a ratio to the reference (csrc/outside/reference.c), graded in the same run: by default the
                  reference's mems / the submission's, which is the same on every computer

On a trace that is not valid both are 0.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from heaplab.confining import Limits, what_is_missing
from heaplab.csrc import c_sources
from heaplab.errors import HeaplabError, UsageError
from heaplab.lab.course import Exam, Formula, Weight, bundled_exams, classic, first_file, shown_names
from heaplab.lab.metrics import Mems
from heaplab.native.playing import FINISHED, MAX_SECONDS, ROUNDS, play_times
from heaplab.native.stage import Stage
from heaplab.outside import Outside, find_outside, judge
from heaplab.units import counted

#: references that a submission may make on one trace: so many for an operation, and these besides
MEMS_PER_OPERATION = 10_000
_MEMS_BESIDES = 10_000_000
#: what a submission may have while it plays a trace
LIMITS = Limits(cpu_seconds=120)

Throughput = Literal["mems", "time"]
_REFERENCE_FILE = c_sources() / "outside" / "reference.c"
_COUNTS_NOTHING = "its mems cannot be counted, so its throughput is 0: grade with --throughput time"


@dataclass(frozen=True)
class Marked:
    """A submission on one trace.

    why: it is not valid; "" when it is.  utilisation, throughput: 0 when it is not.  throughput: not capped.
    mems_mean, mems_p99: references of an operation; ns_per_op: of the submission; None where not measured.
    peak_live, peak_heap: bytes, until the end.
    """

    trace: str
    weight: Weight
    valid: bool
    why: str
    utilisation: float = 0.0
    throughput: float = 0.0
    operations: int = 0
    peak_live: int = 0
    peak_heap: int = 0
    mems_mean: float | None = None
    mems_p99: int | None = None
    ns_per_op: float | None = None


@dataclass(frozen=True)
class Grade:
    """A submission.

    name: distinct and short.  file: as it was given.  index: what the formula makes of the marks.  marks: in
    the order of the traces.  remarks: sentences.  refused: why nothing of it could be played; "" when it was.
    """

    name: str
    file: str
    index: float
    marks: tuple[Marked, ...]
    refused: str = ""
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        marked = f"index {self.index:.1f}, valid on {self.valid} of {counted(len(self.marks), 'trace')}"
        return f"<Grade of {self.name}: {self.refused or marked}>"

    @property
    def valid(self) -> int:
        """On how many traces."""
        return sum(mark.valid for mark in self.marks)

    @property
    def utilisation(self) -> float | None:
        """The mean over the traces that count for it; None without one."""
        return _mean([mark.utilisation for mark in self.marks if mark.weight.of_utilisation])

    @property
    def throughput(self) -> float | None:
        """The mean of the ratios, none taken for more than 1, over the traces that count for it."""
        return _mean([min(mark.throughput, 1.0) for mark in self.marks if mark.weight.of_throughput])


@dataclass(frozen=True)
class Grading:
    """The submissions' grades, the best index first.

    reference: the reference's own, for comparison.  settings: as plain data.  planned: submissions that there
    are; when interrupted, those that were not played to the end are missing.  unprotected: sentences, what
    foreign code was not kept from.
    """

    grades: tuple[Grade, ...]
    reference: Grade
    exams: tuple[Exam, ...]
    settings: dict[str, Any]
    planned: int
    interrupted: bool = False
    unprotected: tuple[str, ...] = ()

    def __repr__(self) -> str:
        of = f"{counted(len(self.grades), 'submission')} on {counted(len(self.exams), 'trace')}"
        return f"<Grading of {of}{', interrupted' if self.interrupted else ''}>"


@dataclass(frozen=True)
class Step:
    """How far a grading is: passes done, of how many; what was played last."""

    done: int
    planned: int
    latest: str


def grade(
    submissions: Sequence[str],
    exams: Sequence[Exam] | None = None,
    *,
    formula: Formula = classic,
    throughput: Throughput = "mems",
    rounds: int = ROUNDS,
    max_mems: int | None = None,
    max_seconds: float = MAX_SECONDS,
    limits: Limits = LIMITS,
    jobs: int | None = None,
    progress: Callable[[Step], None] = lambda step: None,
) -> Grading:
    """Grade submissions on traces; the marks do not depend on the number of jobs, nor on the computer.

    submissions: files as `find_outside` takes them, or folders with an mm.c.
    exams: by default `bundled_exams`.
    throughput: "mems", or "time": of replays without hooks, in rounds in which reference and submission take
    turns; this differs from run to run.
    max_mems: on one trace; None: MEMS_PER_OPERATION.  max_seconds: for one event.
    limits: what a submission may have while it plays.  Ctrl-C ends the grading: whose marks are complete is
    returned.
    Raises: UsageError without submissions, for one that is not there or named twice, for a trace that the
    reference cannot play, and for what a formula does wrong.

    >>> (tmp / "mm.c").write_bytes((c_sources() / "outside" / "reference.c").read_bytes()) > 0
    True
    >>> graded = grade([str(tmp / "mm.c")], bundled_exams()[-1:])
    >>> [(mark.trace, mark.valid, mark.throughput) for mark in graded.grades[0].marks]
    [('merging', True, 1.0)]
    """
    if not submissions:
        raise UsageError("there is nothing to grade: name files or folders")
    for text in submissions:
        _demand_existing(text)
    exams = bundled_exams() if exams is None else list(exams)
    names = shown_names(submissions)
    grader = _Grader(tuple(exams), throughput, rounds, max_mems, max_seconds, limits)
    with _threads(jobs) as pool:
        reference = grader.take(str(_REFERENCE_FILE))
        if isinstance(reference, str):
            raise HeaplabError(f"the reference cannot be built: {reference}")
        grader.reference = reference
        grader.measures = list(pool.map(partial(grader.measure, reference), exams))
        entries = [
            _Entry(name, text, [None] * len(exams)) for name, text in zip(names, submissions, strict=True)
        ]
        interrupted = False
        try:
            for step in grader.mark_all(entries, pool):
                progress(step)
        except KeyboardInterrupt:
            interrupted = True
    grades = [entry.graded(formula) for entry in entries if None not in entry.marks]
    own = _Entry("reference", str(_REFERENCE_FILE), list(grader.measures))
    return Grading(
        tuple(sorted(grades, key=lambda each: (-each.index, each.name))),
        own.graded(formula),
        tuple(exams),
        {
            "throughput": throughput,
            "rounds": rounds if throughput == "time" else None,
            "max_mems": max_mems,
            "max_seconds": max_seconds,
        },
        len(submissions),
        interrupted,
        tuple(what_is_missing()),
    )


def _demand_existing(text: str) -> None:
    """Raise UsageError for what was mistyped; what is there and cannot be taken costs its own row."""
    if not Path(first_file(text)).exists():
        raise UsageError(f"there is no submission {text}")


@dataclass
class _Entry:
    """A submission on its way: its marks as they come."""

    name: str
    file: str
    marks: list[Marked | None]
    outside: Outside | None = None
    refused: str = ""

    def graded(self, formula: Formula) -> Grade:
        marks = tuple(mark for mark in self.marks if mark is not None)
        remarks = []
        if any(mark.valid and mark.mems_mean is None and mark.ns_per_op is None for mark in marks):
            remarks.append(_COUNTS_NOTHING)
        return Grade(self.name, self.file, formula(marks), marks, self.refused, tuple(remarks))


@dataclass
class _Grader:
    """What all submissions have in common.  measures: the reference's marks, its ratios to itself."""

    exams: tuple[Exam, ...]
    throughput: Throughput
    rounds: int
    max_mems: int | None
    max_seconds: float
    limits: Limits
    reference: Outside | None = None
    measures: Sequence[Marked] = ()

    def mark_all(self, entries: Sequence[_Entry], pool: ThreadPoolExecutor) -> Iterator[Step]:
        """Take and play all; times come last, one after the other, since nothing else may run then."""
        planned = len(entries) * len(self.exams)
        done = 0
        playing: dict[Future[Marked], tuple[_Entry, int]] = {}
        taking = {pool.submit(self.take, entry.file): entry for entry in entries}
        for taken in as_completed(taking):
            entry, outside = taking[taken], taken.result()
            if isinstance(outside, str):
                entry.refused = outside
                entry.marks = [_invalid(exam, outside) for exam in self.exams]
                done += len(self.exams)
                yield Step(done, planned, entry.name)
                continue
            entry.outside = outside
            for at in range(len(self.exams)):
                playing[pool.submit(self.play, outside, at)] = (entry, at)
        for played in as_completed(playing):
            entry, at = playing[played]
            entry.marks[at] = played.result()
            yield Step(done := done + 1, planned, f"{entry.name} on {self.exams[at].name}")
        if self.throughput == "time":
            for entry in entries:
                if entry.outside is not None:
                    for at, mark in enumerate(entry.marks):
                        assert mark is not None
                        yield Step(planned, planned, f"{entry.name} on {mark.trace}, in {self.rounds} rounds")
                        entry.marks[at] = self.time(entry.outside, at, mark)

    def take(self, text: str) -> Outside | str:
        """Return the submission, compiled; or why it cannot be taken."""
        path = Path(text)
        if path.is_dir():
            if not (path / "mm.c").is_file():
                return "a folder without mm.c"
            text = str(path / "mm.c")
        try:
            outside = find_outside(text, confined=self.limits)
        except UsageError as error:
            return str(error)
        except Exception as error:  # what the compiler made of it broke a tool that reads it
            return f"cannot be taken: {type(error).__name__}: {error}"
        return outside or "no allocator from outside: a C file with mm_malloc or malloc, or a shared library"

    def measure(self, reference: Outside, exam: Exam) -> Marked:
        """Play the reference, which others are held against.  Raises: UsageError if it cannot play this."""
        mark = self._played(reference, exam)
        if not mark.valid:
            raise UsageError(f"{exam.name}: nobody can be graded on this trace: {mark.why}")
        return replace(mark, throughput=1.0)

    def play(self, outside: Outside, at: int) -> Marked:
        """Play a trace, and compare the mems with the reference's."""
        mark, measure = self._played(outside, self.exams[at]), self.measures[at]
        if not mark.valid or mark.mems_mean is None or measure.mems_mean is None or self.throughput == "time":
            return mark
        return replace(mark, throughput=_ratio(measure.mems_mean, mark.mems_mean))

    def _played(self, outside: Outside, exam: Exam) -> Marked:
        try:
            judged = judge(
                exam.trace,
                outside,
                max_mems=self.max_mems or MEMS_PER_OPERATION * exam.trace.header.events + _MEMS_BESIDES,
                max_seconds=self.max_seconds,
                confined=self.limits,
            )
        except Exception as error:  # what the compiler made of it broke a tool that reads it
            return _invalid(exam, f"cannot be played: {type(error).__name__}: {error}")
        mems = Mems.of_each(judged.mems) if judged.mems is not None else Mems(None)
        valid = judged.end.outcome == FINISHED
        return Marked(
            exam.name,
            exam.weight,
            valid,
            judged.end.reason,
            _ratio(exam.trace.header.peak_live, judged.peak_heap) if valid else 0.0,
            0.0,
            judged.operations,
            judged.peak_live,
            judged.peak_heap,
            mems.mean,
            mems.p99,
        )

    def time(self, outside: Outside, at: int, mark: Marked) -> Marked:
        """Play a trace without hooks, in turn with the reference."""
        assert self.reference is not None
        if not mark.valid:
            return mark
        with closing(Stage(self.exams[at].trace)) as stage:
            (_, mine), (end, theirs) = play_times(
                stage,
                [self.reference, outside],
                rounds=self.rounds,
                max_seconds=self.max_seconds,
                confined=self.limits,
            )
        if mine is None or theirs is None:
            return replace(_invalid(self.exams[at], end.reason), mems_mean=mark.mems_mean)
        ratio = _ratio(max(mine.ns_per_op, 0.0), max(theirs.ns_per_op, 0.0))
        return replace(mark, throughput=ratio, ns_per_op=theirs.ns_per_op)


def _invalid(exam: Exam, why: str) -> Marked:
    return Marked(exam.name, exam.weight, False, why)


def _ratio(one: float, other: float) -> float:
    """one / other; 1 when both are 0."""
    return one / other if other else float(one == 0) or math.inf


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


@contextmanager
def _threads(jobs: int | None) -> Iterator[ThreadPoolExecutor]:
    """Threads that start players and wait for them; what has not begun when the block ends, does not."""
    pool = ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0)))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
