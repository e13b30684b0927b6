"""A comparison as JSON and as CSV."""

import csv
import io
import json
from typing import Any

from heaplab import __version__
from heaplab.lab import Comparison
from heaplab.lab.columns import COLUMNS, NAMES, row_of


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return everything as plain data.  What differs from run to run is in each run's "seconds" alone."""
    return {
        "heaplab": __version__,
        "settings": comparison.settings,
        "interrupted": comparison.interrupted,
        "unread": comparison.unread,
        "remarks": [*comparison.remarks, *comparison.left_out],
        "traces": {name: vars(header) for name, header in comparison.headers.items()},
        "clocks": {name: vars(clock) for name, clock in comparison.clocks.items()},
        "runs": [run.as_dict() for run in comparison.runs],
    }


def to_json(comparison: Comparison) -> str:
    """Return `as_dict` as JSON: one line a run, all figures exact."""
    whole = as_dict(comparison)
    runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in whole.pop("runs"))
    return json.dumps(whole, indent=1)[:-2] + f',\n "runs": [\n{runs}\n]}}\n'


def to_csv(comparison: Comparison) -> str:
    """Return a row of figures for every run; units are in the columns' names, shares from 0 to 1.

    Where there is no figure, the cell is empty.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*NAMES, *(column.key for column in COLUMNS)])
    for run in comparison.runs:
        writer.writerow(["" if value is None else value for value in row_of(run).values()])
    return out.getvalue()
