"""Does the model predict Linux?  The same trace and design on both, page for page.

    python experiments/model_vs_linux.py                        every bundled trace and design, two minutes
    python experiments/model_vs_linux.py lua bash --allocators rbtree,spans:checks=links

On the one side is the model.  On the other is a real program with the design's C file as its malloc, in as
many real processes as the trace has, which fork and exec where the trace does (csrc/native/prove.c).
Compared are each system call with its arguments and result; the minor faults of each process, at 200 moments
and more; and each page of the heaps, at the peak of the live payload, at the end, and before each fork, exec
and exit: whether it is in memory, whether it is shared, and which side of a fork has copied it.

The exit status is 1 when something differs.  "huge" is Linux alone, once more, with huge pages wherever the
heap has room for them: that is what the model leaves out.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from heaplab import allocators
from heaplab.allocators import Spec
from heaplab.errors import HeaplabError
from heaplab.lab.prediction import predict
from heaplab.native.differences import differences
from heaplab.native.proving import observe
from heaplab.traces import Trace, corpus, open_trace

#: calls that are kept of a real run, beside as many as the model predicts
_MORE_CALLS = 4096


@dataclass(frozen=True)
class Row:
    """One trace on one design: what both worlds say, or Linux where they differ.

    calls: system calls.  faults: minor faults.  heap, peak, end: pages of address space at the peak of the
    live payload, and in memory then and at the end.  copied_in_child, copied_in_parent: pages after forks;
    None where Linux hides it (from all but root).
    differs: in words, "0" for nothing.  first: a sentence for each kind of difference.
    huge_faults, huge_peak, huge_end: with huge pages; None where they were not asked for.
    """

    trace: str
    allocator: str
    processes: int
    calls: int
    faults: int
    heap: int
    peak: int
    end: int
    copied_in_child: int | None
    copied_in_parent: int | None
    differs: str
    first: tuple[str, ...]
    huge_faults: int | None = None
    huge_peak: int | None = None
    huge_end: int | None = None


def prove(trace: Trace, spec: Spec, *, huge: bool = True) -> Row:
    """Play the trace in both worlds and return what they say.

    Raises: HeaplabError with what went wrong in one of them, or what this system lacks.
    """
    predicted = predict(trace, spec)
    capacity = len(predicted.calls) + _MORE_CALLS
    observed = observe(trace, spec, capacity=capacity)
    found = differences(predicted, observed)
    row = {
        "trace": trace.header.name,
        "allocator": str(spec),
        "processes": trace.header.processes,
        "calls": len(observed.calls),
        **{name: getattr(observed, name) for name in ("faults", "heap", "peak", "end")},
        "copied_in_child": observed.copied_in_child,
        "copied_in_parent": observed.copied_in_parent,
        "differs": str(found),
        "first": found.first,
    }
    if huge:
        again = observe(trace, spec, capacity=capacity, huge=True)
        row |= {"huge_faults": again.faults, "huge_peak": again.peak, "huge_end": again.end}
    return Row(**row)


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table, and below it what differs."""
    table = Table(
        "trace",
        "allocator",
        *(
            Column(name, justify="right")
            for name in (
                *("processes", "calls", "faults", "heap\npages", "in memory\nat the peak", "at the\nend"),
                *("copied in\nchild", "in\nparent", "huge:\nfaults", "huge:\npeak", "huge:\nend"),
            )
        ),
        "differs",
    )
    for row in rows:
        numbers = (
            *(row.processes, row.calls, row.faults, row.heap, row.peak, row.end),
            *(row.copied_in_child, row.copied_in_parent, row.huge_faults, row.huge_peak, row.huge_end),
        )
        cells = ("-" if number is None else f"{number:,}" for number in numbers)
        table.add_row(row.trace, row.allocator, *cells, row.differs)
    console.print(table)
    for row in rows:
        for sentence in row.first:
            console.print(f"{row.trace} on {row.allocator}: {sentence}", soft_wrap=True, highlight=False)
    other = sum(row.differs != "0" for row in rows)
    console.print(f"{len(rows) - other} of {len(rows)} are equal: calls, faults and pages")


def rows_of(names: Sequence[str], specs: Sequence[Spec], *, huge: bool) -> Iterator[Row]:
    """Yield a row for each trace and design."""
    pairs = [(name, spec) for name in names for spec in specs]
    console = Console(stderr=True)
    for name, spec in track(pairs, console=console, transient=True, disable=not console.is_terminal):
        yield prove(open_trace(name), spec, huge=huge)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 when something differs, 2 for what cannot be done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "traces", nargs="*", metavar="TRACE", help="names or files; by default the bundled ones"
    )
    parser.add_argument("--allocators", default=",".join(allocators.names("c")), help="specs of designs in C")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument(
        "--huge", action=argparse.BooleanOptionalAction, default=True, help="the columns of it"
    )
    options = parser.parse_args(arguments)
    try:
        specs = allocators.parse_list(options.allocators, "c")
        rows = list(rows_of(options.traces or corpus.names(), specs, huge=options.huge))
    except HeaplabError as error:
        print(f"model_vs_linux: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        show(rows, Console(width=max(150, Console().width)))
    return 1 if any(row.first for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
