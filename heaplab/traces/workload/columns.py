"""Files of numbers that people have of their own: columns of sizes, lifetimes, weights."""

import csv
from pathlib import Path

from heaplab.errors import UsageError

_MEANINGS = {
    "size": "sizes",
    "sizes": "sizes",
    "bytes": "sizes",
    "lifetime": "lifetimes",
    "lifetimes": "lifetimes",
    "gap": "arrival",
    "arrival": "arrival",
    "value": "value",
    "low": "low",
    "high": "high",
    "weight": "weight",
    "count": "weight",
    "probability": "weight",
    "share": "weight",
}
_UNNAMED: dict[int, tuple[str, ...]] = {1: ("value",), 2: ("value", "weight"), 3: ("low", "high", "weight")}


def table(path: str | Path) -> dict[str, list[float]]:
    """Return the columns of a file of numbers, by what they mean; see `Empirical.load`."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no text: write rows of numbers, as in 16,3") from None
    names: tuple[str, ...] | None = None
    columns: dict[str, list[float]] = {}
    for number, line in enumerate(lines, 1):
        cells = _cells(line.partition("#")[0])
        if not cells:
            continue
        if names is None:
            if all(_is_name(cell) for cell in cells):
                names = tuple(_MEANINGS.get(cell.lower(), "") for cell in cells)
                if not any(names):
                    raise UsageError(
                        f"{path}: line {number} names no column that heaplab knows: name them size, lifetime "
                        "and weight, or low, high and weight"
                    )
                continue
            if len(cells) not in _UNNAMED:
                raise UsageError(
                    f"{path}: line {number} has {len(cells)} columns and no names: name them in the first row"
                )
            names = _UNNAMED[len(cells)]
        try:
            row = [float(cell) if name else 0.0 for name, cell in zip(names, cells, strict=True)]
        except ValueError:
            raise UsageError(
                f"{path}: line {number} is no row of {len(names)} numbers: write for instance 16,3"
            ) from None
        for name, value in zip(names, row, strict=True):
            if name:
                columns.setdefault(name, []).append(value)
    if not columns:
        raise UsageError(f"{path}: has no rows of numbers: write for instance 16,3")
    return columns


def _cells(line: str) -> list[str]:
    if "," in line:
        return [cell.strip() for cell in next(csv.reader([line]))]
    return line.split()


def _is_name(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return True
    return False
