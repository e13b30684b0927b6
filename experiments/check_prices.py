"""What do a heap's checks cost?  Memory references an operation, by the options checks and seal.

    python experiments/check_prices.py [TRACE ...]

One row a design and trace: references with checks=none, and how many times as many with links and all; then
with all checks and each seal, which is arithmetic and costs no reference.  The figures are exact: two runs
are equal.
"""

import sys

from rich.console import Console
from rich.table import Table

from heaplab import allocators, lab

CHECKS = ("none", "links", "all")
SEALS = ("off", "public", "keyed")


def priced() -> list[str]:
    """Return the designs in C that have both options."""
    return [
        name
        for name in allocators.names("c")
        if {"checks", "seal"} <= {option.name for option in allocators.parse(name, "c").design.OPTIONS}
    ]


def main(traces: list[str]) -> None:
    """Print the table."""
    table = Table(
        "trace", "design", "checks=none", *(f"{name} / none" for name in (*CHECKS[1:], "seal off", "keyed"))
    )
    for trace in traces or ["gcc", "lua"]:
        for design in priced():
            specs = [f"{design}:checks={checks}" for checks in CHECKS] + [
                f"{design}:seal={seal}" for seal in SEALS
            ]
            runs = lab.compare([trace], specs).runs
            mems = [run.mems.total / run.operations for run in runs]
            none, links, all_, off, public, keyed = mems
            assert public == all_, "the defaults are checks=all and seal=public"
            ratios = (f"{value / none:.3f}" for value in (links, all_, off, keyed))
            table.add_row(trace, design, f"{none:.2f}", *ratios)
    Console(width=max(100, Console().width)).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
