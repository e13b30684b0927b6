"""The page's view in a notebook: an anywidget around the same JavaScript module.

It needs the package anywidget: `pip install heaplab[notebook]`.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from heaplab.errors import HeaplabError, UsageError

try:
    import traitlets
    from anywidget import AnyWidget
except ImportError as missing:
    raise UsageError(
        f"a widget needs the package {missing.name}, which is not installed: pip install 'heaplab[notebook]'"
    ) from None

from heaplab.allocators import Spec
from heaplab.lab import RAM
from heaplab.lab.moments import Moments
from heaplab.pages.answers import Answers
from heaplab.pages.page import module, style
from heaplab.traces import Trace, open_trace
from heaplab.traces.sites import Sites
from heaplab.views.contents import run_container
from heaplab.views.run import view_of


class Transport(Protocol):
    """Answers what a container lacks, each question with a container; see heaplab/pages/heaplab.js."""

    def window(self, **question: Any) -> bytes:
        """Return the part of one run between two events and two addresses."""
        ...

    def moment(self, **question: Any) -> bytes:
        """Return one moment of one run, whole."""
        ...

    def block(self, **question: Any) -> bytes:
        """Return one block's bytes and words at a moment."""
        ...


class HeapWidget(AnyWidget):
    """A container in a notebook.

    container: bytes as heaplab.views.packing makes them.  transport: who answers questions; None: nobody.
    options: of `mount` in heaplab.js; `timeline=False` shows the heap at one moment alone.
    """

    _esm = module()
    _css = style()
    container = traitlets.Bytes().tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    asks = traitlets.Bool().tag(sync=True)

    def __init__(self, container: bytes, transport: Transport | None = None, **options: Any) -> None:
        super().__init__(container=container, options=options, asks=transport is not None)
        self._transport = transport
        self._resources = ExitStack()
        self.on_msg(self._answer)

    def __repr__(self) -> str:
        return f"<HeapWidget of {len(self.container):,} bytes>"

    def close(self) -> None:
        """Take the widget away, and let go of the heaps behind it."""
        super().close()
        self._resources.close()

    def _answer(self, _widget: object, asked: Mapping[str, Any], _buffers: object) -> None:
        """Send the answer to a question {id, kind, question}."""
        answers = {name: getattr(self._transport, name) for name in ("window", "moment", "block")}
        try:
            answer = answers[asked["kind"]](**asked["question"])
        except HeaplabError as error:
            self.send({"id": asked["id"], "error": str(error)})
        else:
            self.send({"id": asked["id"]}, [answer])


def view(
    trace: Trace | str,
    allocators: Sequence[str | Spec] | str,
    *,
    at: int | None = None,
    language: str = "c",
    seed: int = 1,
    ram: int | str = RAM,
    payload: bool = True,
    sites: Sites | str | os.PathLike[str] | None = None,
) -> HeapWidget:
    """Return a widget that shows a run of a trace on some designs, as `heaplab view --serve` does.

    trace: a trace, or what `open_trace` opens.  allocators: designs.  at: the event around which a long trace
    is to the byte at once; all other parts are computed when they are looked at.
    sites: the file that `heaplab record --sites` wrote beside the trace.
    Cost: two replays a design.  The heaps stay until the widget is closed.
    Raises: UsageError when anywidget is not installed, or an argument makes no sense.

    >>> from heaplab.traces import Event, Op, Trace
    >>> shown = view(Trace.of([Event(Op.MALLOC, 0, 100), Event(Op.FREE, 0)], "two"), ["buddy", "rbtree"])
    >>> shown.container[:4]
    b'HLV1'
    >>> shown.close()
    """
    opened = open_trace(trace) if isinstance(trace, str) else trace
    specs = [allocators] if isinstance(allocators, str) else allocators
    with ExitStack() as stack:
        runs = [
            stack.enter_context(Moments(opened, spec, language, seed=seed, ram=ram, payload=payload))
            for spec in specs
        ]
        seen = view_of(runs, at=at, seed=seed, ram=ram, payload=payload, sites=sites)
        widget = HeapWidget(run_container(seen, at=at), Answers(seen, runs))
        widget._resources = stack.pop_all()
    return widget
