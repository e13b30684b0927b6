"""What a trace's header says, in lines for people."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from heaplab.units import counted, format_size

if TYPE_CHECKING:
    from heaplab.traces.trace import Header


def described(header: "Header") -> Iterator[str]:
    """Yield where a trace comes from and what it holds, line by line.

    >>> from heaplab.traces import Event, Op, Trace
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0)], name="two")
    >>> print("\\n".join(described(trace.header)))
    two: program unknown
      events      2 in 0.000 s
      run by      1 process, 1 thread
      operations  malloc 1 (50.0%), free 1 (50.0%)
      requested   24 B in all
      peak live   24 B (24 B) after event 0; at most 1 block live at once in one process
    """
    yield title(header)
    for name, text in facts(header):
        yield f"  {name:<12}{text}"


def title(header: "Header") -> str:
    """Return the trace's name, its program, and when it was recorded, in one line."""
    recorded = f", recorded {header.date}" if header.date else ""
    return f"{header.name}: {header.program or 'program unknown'} {header.version}".rstrip() + recorded


def facts(header: "Header") -> Iterator[tuple[str, str]]:
    """Yield the rest of what a header says, as names and texts."""
    for name, text in (("command", header.command), ("note", header.note)):
        if text:
            yield name, text
    unit = f", in steps of {header.tick:,} ns" if header.tick > 1 else ""
    yield "events", f"{header.events:,} in {header.duration / 1e9:.3f} s{unit}"
    yield "run by", f"{counted(header.processes, 'process')}, {counted(header.threads, 'thread')}"
    if header.threads > header.processes:
        yield "remote", _remote(header)
    operations = (f"{name} {count:,} ({count / header.events:.1%})" for name, count in header.ops.items())
    yield "operations", ", ".join(operations)
    yield "requested", f"{format_size(header.requested)} in all"
    yield (
        "peak live",
        f"{format_size(header.peak_live)} ({header.peak_live:,} B) after event {header.peak_index:,}; "
        f"at most {counted(header.slots, 'block')} live at once in one process",
    )


def _remote(header: "Header") -> str:
    """How many blocks left the thread that allocated them, in words."""
    if header.remote_frees is None:
        return "frees from other threads were not counted: `heaplab trace convert` counts them"
    releases = header.ops.get("free", 0) + header.ops.get("realloc", 0)
    share = f" ({header.remote_frees / releases:.1%})" if releases else ""
    remote = f"{header.remote_frees:,} of {releases:,} frees and reallocs{share}"
    return f"{remote} by another thread than the one that allocated the block"
