"""Where finished cells are kept: a directory with one Parquet file, and a journal while a sweep writes.

    STORE/cells.parquet     every cell, a row each; now and then written anew, and replaced
    STORE/journal.jsonl     the cells since then, a line each, on disk before the next cell is begun

A cell is safe as soon as its line is on the disk.  A process that dies leaves the journal behind; whoever
opens the store next moves its whole lines into the Parquet file.  So a reader reads first the journal, then
the Parquet file, and misses nothing.
"""

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.lab.sweeping.grid import Template
from heaplab.lab.sweeping.identity import SCHEMA
from heaplab.units import counted

if TYPE_CHECKING:
    import pyarrow as pa

CELLS, JOURNAL = "cells.parquet", "journal.jsonl"
#: rows that are in the journal alone, at most; or a part of all rows, so that writing them anew stays cheap
_MOST_IN_JOURNAL, _PART = 1000, 4
_SAID = b"heaplab"
#: columns that a row begins with, before its parameters
FIRST = ("trace", "allocator", "language", "seed")


@dataclass(frozen=True)
class Row:
    """A finished cell.

    key: of what its result depends on.  parameters: of the grid, by name.
    figures: by the names of `heaplab.lab.columns.row_of`.  code: of heaplab and of the allocator, a hash.
    templates: of "trace" and "allocator", the texts that parameters filled, while the grid is at hand.
    """

    key: str
    parameters: Mapping[str, Any]
    figures: Mapping[str, Any]
    code: str = ""
    templates: Mapping[str, Template] = field(default_factory=dict, compare=False, repr=False)

    def flat(self, parameters: Iterable[str]) -> dict[str, Any]:
        """Return the row as one dictionary, with these parameters; None for those that it has not."""
        first = {name: self.figures[name] for name in FIRST}
        return first | {name: self.parameters.get(name) for name in parameters} | dict(self.figures)


def table_of(rows: Iterable[Row], first: Iterable[str] = (), *, keys: bool = False) -> "pa.Table":
    """Return rows as an Arrow table: tidy, a column a parameter or figure.

    first: parameters that come first, in this order.  keys: also code and key.

    Raises: UsageError without pyarrow.
    """
    pa = _pyarrow()
    rows = list(rows)
    parameters = list(dict.fromkeys([*first, *(name for row in rows for name in row.parameters)]))
    names = list(dict.fromkeys([*FIRST, *parameters, *(name for row in rows for name in row.figures)]))
    flat = [row.flat(parameters) for row in rows]
    columns = {name: _column(pa, name, [row.get(name) for row in flat]) for name in names}
    if keys:
        columns["code"] = pa.array([row.code for row in rows], pa.string())
        columns["key"] = pa.array([row.key for row in rows], pa.string())
    said = json.dumps({"store": SCHEMA, "parameters": parameters})
    return pa.table(columns).replace_schema_metadata({_SAID: said.encode()})


def _column(pa: Any, name: str, values: list[Any]) -> Any:
    """An Arrow array of one type: texts if there is any, whole numbers if all are, else numbers."""
    kinds = {type(value) for value in values if value is not None}
    if str in kinds or (bool in kinds and len(kinds) > 1):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int}:
        return pa.array(values, pa.int64())
    if not kinds and name in ("reason", "outcome", *FIRST):
        return pa.array(values, pa.string())
    return pa.array([None if value is None else float(value) for value in values], pa.float64())


def rows_of(table: "pa.Table") -> list[Row]:
    """Return the rows of a table that `table_of` made with keys."""
    parameters = json.loads(table.schema.metadata[_SAID])["parameters"]
    rows = []
    for flat in table.to_pylist():
        code, key = flat.pop("code"), flat.pop("key")
        given = {name: value for name in parameters if (value := flat.pop(name)) is not None}
        rows.append(Row(key, given, flat, code))
    return rows


def is_store(path: str | os.PathLike[str]) -> bool:
    """Return whether this is a directory that a sweep has written into."""
    return any(Path(path, name).is_file() for name in (CELLS, JOURNAL))


def read_store(path: str | os.PathLike[str]) -> list[Row]:
    """Return the cells that a store has, in the order in which they were kept; of equal keys the last.

    Raises: UsageError when there is no store, or it is of another version.
    """
    folder = Path(path)
    if not is_store(folder):
        raise UsageError(f"{path}: is no store of cells: `heaplab sweep --store {path}` makes one")
    late, _ = _read_journal(folder / JOURNAL)
    rows = {row.key: row for row in _read_cells(folder / CELLS)}
    for row in late:
        rows[row.key] = row
    return list(rows.values())


@dataclass
class Store:
    """A store that a sweep writes into; use it in a `with`.

    rows: by key.  Only one process has it at a time.
    """

    folder: Path
    rows: dict[str, Row] = field(default_factory=dict)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = Path(path)
        self.rows = {}
        self._directory = self._journal = -1
        self._late = 0
        _pyarrow()

    def __enter__(self) -> "Store":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            others = [name for name in sorted(os.listdir(self.folder)) if not name.startswith(".")]
        except OSError as error:
            why = "there is a file of that name" if error.errno == errno.EEXIST else error.strerror
            raise UsageError(f"{self.folder}: cannot be a store: {why}: name a new directory") from None
        if others and not is_store(self.folder):
            raise UsageError(
                f"{self.folder}: has other files ({others[0]}): name a new directory, or an empty one"
            )
        self._directory = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._lock()
            with self._kept():
                self._begin()
        except BaseException:
            self._leave()
            raise
        return self

    def _lock(self) -> None:
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{self.folder}: another sweep is writing there: wait for it, or name another store"
            ) from None
        except OSError:  # a file system without locks
            return

    def _begin(self) -> None:
        late, end = _read_journal(self.folder / JOURNAL)
        self.rows = {row.key: row for row in _read_cells(self.folder / CELLS)}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._journal = os.open(self.folder / JOURNAL, flags, 0o666)
        os.ftruncate(self._journal, end)
        for row in late:
            self.rows[row.key] = row
        self._late = len(late)
        if not end:
            self._write(json.dumps({"store": SCHEMA}))
        if late:
            self._compact()

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        try:
            # of two mistakes the first is the one to tell
            with suppress(UsageError) if kind else nullcontext(), self._kept():
                self._compact()
                (self.folder / JOURNAL).unlink()
        finally:
            self._leave()

    def _leave(self) -> None:
        for descriptor in (self._journal, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._journal = self._directory = -1

    def add(self, *rows: Row) -> None:
        """Keep cells; when this returns, they are on the disk.

        Raises: UsageError when the disk has no room; what was kept before stays.
        """
        with self._kept():
            self._write(
                "\n".join(json.dumps([row.key, row.code, row.parameters, row.figures]) for row in rows)
            )
            self.rows.update((row.key, row) for row in rows)
            self._late += len(rows)
            if self._late >= max(_MOST_IN_JOURNAL, len(self.rows) // _PART):
                self._compact()

    def _write(self, text: str) -> None:
        """Append lines to the journal, whole or not at all."""
        data = text.encode() + b"\n"
        end = os.fstat(self._journal).st_size
        try:
            while data:
                data = data[os.write(self._journal, data) :]
            os.fsync(self._journal)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._journal, end)
            raise

    def _compact(self) -> None:
        """Write all rows into the Parquet file, and empty the journal."""
        if not self._late and (self.folder / CELLS).exists():
            return
        import pyarrow.parquet as pq  # noqa: PLC0415 - slow, and an extra

        with replacing(self.folder / CELLS) as file:
            pq.write_table(table_of(self.rows.values(), keys=True), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        os.fsync(self._directory)
        os.ftruncate(self._journal, 0)
        self._late = 0
        self._write(json.dumps({"store": SCHEMA}))

    def _kept(self) -> "_Kept":
        return _Kept(self)


class _Kept:
    """Tells what went wrong with the disk in a sentence that says that nothing is lost."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            kept = counted(len(self._store.rows), "finished cell")
            raise UsageError(
                f"{self._store.folder}: {error.strerror or error}: {kept} stay there; make room, and "
                "the same command goes on from them"
            ) from None


def _read_journal(path: Path) -> tuple[list[Row], int]:
    """Return the rows of a journal, and where its last whole line ends.  Nothing of it is changed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    end = data.rfind(b"\n") + 1
    lines = data[:end].splitlines()
    if not lines:
        return [], 0
    try:
        _demand_version(path, json.loads(lines[0]))
        return [
            Row(key, given, figures, code) for key, code, given, figures in map(json.loads, lines[1:])
        ], end
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{path}: is no journal of a sweep: move it away") from None


def _read_cells(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    _pyarrow()
    import pyarrow.parquet as pq  # noqa: PLC0415 - slow, and an extra
    from pyarrow.lib import ArrowException  # noqa: PLC0415

    try:
        table = pq.read_table(path)
        _demand_version(path, json.loads(table.schema.metadata[_SAID]))
        return rows_of(table)
    except (ArrowException, KeyError, TypeError, ValueError):
        raise UsageError(f"{path}: is no table of a sweep's cells: move it away") from None


def _demand_version(path: Path, said: Mapping[str, Any]) -> None:
    if said["store"] != SCHEMA:
        raise UsageError(
            f"{path.parent}: is a store of version {said['store']}, and this heaplab writes {SCHEMA}: "
            "name another directory, or use the heaplab that wrote it"
        )


def _pyarrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 - slow, and an extra
    except ImportError:
        raise UsageError("cells are kept in Parquet, which needs pyarrow: install heaplab[lab]") from None
    return pyarrow
