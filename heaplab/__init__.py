"""heaplab: a laboratory for memory allocators on an exact model of the machine and of Linux's kernel.

Kernel, Process            a machine with a kernel that has booted; what a program sees of it
create, parse, Allocator   an empty heap in a process; a design and its parameters
open_trace, synthetic      a trace: from a file, from the bundled corpus, made up
Trace, Event, Op           what a trace is made of
compare, run               many traces through many allocators; one through one
Comparison, Run            what came of it
view                       a run of a trace as a widget in a notebook
workload                   made-up programs, and those learned from traces
errors                     what can go wrong
allocators, kernel, lab, machine, native, report, testing, traces, views
                           the rooms, with all the rest

Whatever is asked for is imported then, and not before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heaplab import (
        allocators,
        errors,
        kernel,
        lab,
        machine,
        native,
        report,
        testing,
        traces,
        views,
        workload,
    )
    from heaplab.allocators import Allocator, create, parse
    from heaplab.kernel import Kernel
    from heaplab.lab import Comparison, Run
    from heaplab.lab.compare import compare
    from heaplab.lab.run import run
    from heaplab.pages.widget import view
    from heaplab.process import Process
    from heaplab.traces import Event, Op, Trace, open_trace, synthetic

__version__ = "0.1.0"

#: in which room a name is found
_FOUND = {
    **dict.fromkeys(("Allocator", "create", "parse"), "allocators"),
    "Kernel": "kernel",
    **dict.fromkeys(("Comparison", "Run", "compare", "run"), "lab"),
    "Process": "process",
    "view": "pages.widget",
    **dict.fromkeys(("Event", "Op", "Trace", "open_trace", "synthetic"), "traces"),
}
_ROOMS = (
    "allocators",
    "errors",
    "kernel",
    "lab",
    "machine",
    "native",
    "report",
    "testing",
    "traces",
    "views",
    "workload",
)

__all__ = [
    "Allocator",
    "Comparison",
    "Event",
    "Kernel",
    "Op",
    "Process",
    "Run",
    "Trace",
    "__version__",
    "allocators",
    "compare",
    "create",
    "errors",
    "kernel",
    "lab",
    "machine",
    "native",
    "open_trace",
    "parse",
    "report",
    "run",
    "synthetic",
    "testing",
    "traces",
    "view",
    "views",
    "workload",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for; it is found at once from then on."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _FOUND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_FOUND[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
