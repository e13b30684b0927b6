"""The page's view in a notebook: an anywidget around the same JavaScript module.

It needs the package anywidget: `pip install heaplab[notebook]`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import traitlets
from anywidget import AnyWidget

from heaplab.errors import HeaplabError
from heaplab.pages.page import module, style


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
    Attributes to set: `options`, before the widget is shown.
    """

    _esm = module()
    _css = style()
    container = traitlets.Bytes().tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    asks = traitlets.Bool().tag(sync=True)

    def __init__(self, container: bytes, transport: Transport | None = None, **options: Any) -> None:
        super().__init__(container=container, options=options, asks=transport is not None)
        self._transport = transport
        self.on_msg(self._answer)

    def _answer(self, _widget: object, asked: Mapping[str, Any], _buffers: object) -> None:
        """Send the answer to a question {id, kind, question}."""
        answers = {name: getattr(self._transport, name) for name in ("window", "moment", "block")}
        try:
            answer = answers[asked["kind"]](**asked["question"])
        except HeaplabError as error:
            self.send({"id": asked["id"], "error": str(error)})
        else:
            self.send({"id": asked["id"]}, [answer])
