"""A whole run of a trace in a notebook: `view(trace, ["buddy", "rbtree"])` as the last line of a cell."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heaplab.allocators import Spec
from heaplab.errors import UsageError
from heaplab.lab.moments import Moments
from heaplab.pages.answers import Answers
from heaplab.traces import Trace, open_trace
from heaplab.views.contents import run_container
from heaplab.views.run import view_of

if TYPE_CHECKING:
    from heaplab.pages.widget import HeapWidget

#: designs side by side
MOST = 3


def view(
    trace: str | Trace,
    allocators: Sequence[str | Spec] = ("buddy", "rbtree"),
    language: str = "c",
    *,
    at: int | None = None,
) -> "HeapWidget":
    """Return the run of a trace on one to three designs as a widget: time by address, and one moment.

    at: the event around which a long trace is there to the byte at once, by default that of the peak.  The
    rest is computed when somebody looks at it, as long as Python runs.
    Cost: 4 us an event and design.
    Raises: UsageError without the package anywidget, for more designs, an unknown one, a damaged trace.
    """
    try:
        from heaplab.pages.widget import HeapWidget  # noqa: PLC0415 - it needs a package of its own
    except ModuleNotFoundError as error:
        raise UsageError(
            f'the view in a notebook needs the package {error.name}: pip install "heaplab[notebook]"; '
            "`heaplab view` needs none"
        ) from error
    if not 1 <= len(allocators) <= MOST or isinstance(allocators, str):
        raise UsageError(f"view shows one to {MOST} designs side by side: give a list of their specs")
    opened = open_trace(trace) if isinstance(trace, str) else trace
    runs = [Moments(opened, spec, language) for spec in allocators]
    seen = view_of(runs, at=at)
    return HeapWidget(run_container(seen, at=at), Answers(seen, runs))
