"""What a malloc course gives and takes: traces with weights, submissions with names, formulas for a mark."""

import importlib.util
import math
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from heaplab.errors import UsageError
from heaplab.traces import Event, Op, Provenance, Trace, cut, open_trace, synthetic
from heaplab.traces.formats.rep import weight_in
from heaplab.traces.streams import unpacked


class Weight(IntEnum):
    """What a trace counts for, as a course's .rep file says it in its header."""

    NOTHING, BOTH, UTILISATION, THROUGHPUT = range(4)

    @property
    def of_utilisation(self) -> bool:
        return self in (Weight.BOTH, Weight.UTILISATION)

    @property
    def of_throughput(self) -> bool:
        return self in (Weight.BOTH, Weight.THROUGHPUT)


@dataclass(frozen=True)
class Exam:
    """A trace that submissions are graded on.  name: distinct among the traces of a grading."""

    name: str
    trace: Trace
    weight: Weight = Weight.BOTH


# ---- traces ----

_REAL = ("lua", "sqlite", "jq")
_SHORT = 4000


def bundled_exams() -> list[Exam]:
    """Return the traces to grade on if nobody gives any: parts of bundled ones, and made-up ones.

    None has aligned blocks, threads, or more than one process.

    >>> [exam.name for exam in bundled_exams()]
    ['lua', 'sqlite', 'jq', 'random', 'resizing', 'holes', 'merging']
    """
    real = [Exam(name, cut(open_trace(name), events=(0, _SHORT))) for name in _REAL]
    made = [
        Exam("random", synthetic(_SHORT, seed=1, slots=300, median=200, aligned=0)),
        Exam("resizing", synthetic(_SHORT, seed=2, slots=100, median=200, aligned=0, realloc=0.5)),
        Exam("holes", _made("holes", _holes())),
        Exam("merging", _made("merging", _merging())),
    ]
    return real + made


def _made(name: str, events: Iterator[Event]) -> Trace:
    trace = Trace.of(events, name)
    return Trace.lazy(trace.read, Provenance(name, program="heaplab.lab.course"))


def _holes(pairs: int = 700) -> Iterator[Event]:
    """Small and large blocks in turn; the large ones are freed, and what comes next fits no hole."""
    for pair in range(pairs):
        yield Event(Op.MALLOC, 2 * pair, 64)
        yield Event(Op.MALLOC, 2 * pair + 1, 448)
    for pair in range(pairs):
        yield Event(Op.FREE, 2 * pair + 1)
    for pair in range(pairs):
        yield Event(Op.MALLOC, 2 * pair + 1, 512)
    for number in range(2 * pairs):
        yield Event(Op.FREE, number)


def _merging(rounds: int = 700) -> Iterator[Event]:
    """Two neighbours are freed, and a block is asked for that fits both together."""
    for _ in range(rounds):
        yield Event(Op.MALLOC, 0, 4000)
        yield Event(Op.MALLOC, 1, 4000)
        yield Event(Op.FREE, 0)
        yield Event(Op.FREE, 1)
        yield Event(Op.MALLOC, 0, 8000)
        yield Event(Op.FREE, 0)


def exams_in(folder: str | Path) -> list[Exam]:
    """Return the traces of a folder by their names, of all formats that can be read; hidden files are none.

    Raises: UsageError when it is no folder, is empty, or one of its files is no valid trace.
    """
    if not Path(folder).is_dir():
        raise UsageError(f"{folder}: is no folder: name one that holds traces")
    files = sorted(file for file in Path(folder).iterdir() if file.is_file() and file.name[0] != ".")
    if not files:
        raise UsageError(f"{folder}: holds no trace")
    stems = [file.name.split(".")[0] for file in files]
    return [
        Exam(file.name if stems.count(stem) > 1 else stem, open_trace(file), weight_of(file))
        for file, stem in zip(files, stems, strict=True)
    ]


def weight_of(file: Path) -> Weight:
    """Return the weight that the header of a .rep file states; BOTH for every other file.

    >>> (tmp / "x.rep").write_text("3\\n1\\n2\\n24\\na 0 24\\nf 0\\n") > 0
    True
    >>> weight_of(tmp / "x.rep").name
    'THROUGHPUT'
    """
    with file.open("rb") as opened:
        stated = weight_in(unpacked(str(file), opened).peek(1 << 12))
    return Weight.BOTH if stated is None else Weight(stated)


# ---- submissions ----


def shown_names(texts: Sequence[str]) -> list[str]:
    """Return the shortest names that tell these submissions apart, each with a whole part of a path.

    The name of an mm.c is that of its folder.  Raises: UsageError when one is named twice.

    >>> shown_names(["a/ann/mm.c", "a/bob/mm.c", "b/bob", "c/eve.c:align=8"])
    ['ann', 'a/bob', 'b/bob', 'eve.c:align=8']
    """
    parts = [_parts(text) for text in texts]
    for number, each in enumerate(parts):
        if each in parts[:number]:
            raise UsageError(f"{texts[number]}: is named twice")
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(each[-length:]) for each, length in zip(parts, lengths, strict=True)]
        alike = [number for number, name in enumerate(names) if names.count(name) > 1]
        longer = [number for number in alike if lengths[number] < len(parts[number])]
        if not longer:
            return names
        for number in longer:
            lengths[number] += 1


def _parts(text: str) -> list[str]:
    file = first_file(text)
    parts = list(Path(os.path.abspath(file)).parts)
    if parts[-1] == "mm.c":
        del parts[-1]
    parts[-1] += text[len(file) :]
    return parts


def first_file(text: str) -> str:
    """Return the first file, or the folder, that a submission's text names.

    >>> first_file("cas/mm.c+list.c:align=8")
    'cas/mm.c'
    """
    return re.split("[:+]", text, maxsplit=1)[0]


# ---- formulas ----


class Marks(Protocol):
    """What a formula reads of a submission on one trace; `heaplab.lab.grading.Marked` has it."""

    @property
    def weight(self) -> Weight: ...
    @property
    def valid(self) -> bool: ...
    @property
    def utilisation(self) -> float: ...
    @property
    def throughput(self) -> float: ...


Formula = Callable[[Sequence[Marks]], float]


def classic(traces: Sequence[Marks]) -> float:
    """Return 100 (0.60 mean utilisation + 0.40 mean of min(1, throughput)), by the weights of the traces.

    An invalid trace has 0 of both.  A part that no trace counts for is 0.
    """
    utilisation = _mean([trace.utilisation for trace in traces if trace.weight.of_utilisation])
    throughput = _mean([min(1.0, trace.throughput) for trace in traces if trace.weight.of_throughput])
    return 100 * (0.60 * utilisation + 0.40 * throughput)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def load_formula(text: str) -> Formula:
    """Return the formula that `text` names: "classic", or the path of a Python file with `index(traces)`.

    The file is the teacher's own: it runs as part of heaplab, and nothing holds it back.
    Raises: UsageError when there is no such file, or it cannot be run or has no `index`; and so does the
    formula, when it fails or returns no number.
    """
    if text == "classic":
        return classic
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"there is no formula {text}: write classic, or the path of a Python file")
    spec = importlib.util.spec_from_file_location("formula", path.absolute())
    if spec is None or spec.loader is None:
        raise UsageError(f"{text}: is no Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    with _blamed(text):
        spec.loader.exec_module(module)
    theirs = getattr(module, "index", None)
    if not callable(theirs):
        raise UsageError(f"{text}: has no function index(traces)")

    def formula(traces: Sequence[Marks]) -> float:
        with _blamed(text):
            value = theirs(traces)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{text}: index() returns {value!r}, and no number")
        return float(value)

    return formula


@contextmanager
def _blamed(path: str) -> Iterator[None]:
    """Tell an error of the teacher's file as one of the user's, with its line."""
    try:
        yield
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.endswith(path)
        ]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{path}:{line}" if line else path
        raise UsageError(f"{where}: {type(error).__name__}: {error}") from error
