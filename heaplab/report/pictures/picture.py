"""A picture: what it shows as plain data, and the way to draw that."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from matplotlib.figure import Figure
from matplotlib.style import context

from heaplab.errors import UsageError
from heaplab.files import replacing


class Description(Protocol):
    """Plain data that a picture shows; its text says all of it."""

    @property
    def title(self) -> str:
        """What is shown, in one line."""

    def __str__(self) -> str:
        """Return all that is shown as text."""


D = TypeVar("D", bound=Description)

#: SVG that is equal from run to run, with text as text: it can be searched, and a picture stays small
_REPEATABLE: Any = {"svg.hashsalt": "heaplab", "svg.fonttype": "none"}


@dataclass(frozen=True)
class Picture(Generic[D]):
    """Something to look at, as it was when the picture was made.

    data: what is shown.  print(picture) shows it as text; a notebook draws it by itself.
    """

    data: D
    _draw: Callable[[D], Figure] = field(repr=False)

    def __repr__(self) -> str:
        return f"<Picture: {self.data.title}>"

    def __str__(self) -> str:
        return str(self.data)

    def figure(self) -> Figure:
        """Return it drawn."""
        return self._draw(self.data)

    def save(self, path: str | Path) -> None:
        """Write it into a file, SVG or PNG as the name ends.

        The file tells its content as text too: <dc:description> in SVG, Description in PNG.
        Raises: UsageError for another ending, OSError.
        """
        kind = Path(path).suffix.lower().removeprefix(".")
        if kind not in ("svg", "png"):
            raise UsageError(f"{path} is no name for a picture: let it end with .svg or .png")
        image = self._rendered(kind)
        with replacing(Path(path)) as file:
            file.write(image)

    def _repr_svg_(self) -> str:
        return self._rendered("svg").decode()

    def _rendered(self, kind: str) -> bytes:
        metadata: dict[str, str | None] = {"Title": self.data.title, "Description": str(self.data)}
        if kind == "svg":
            metadata["Date"] = None
        image = io.BytesIO()
        # the default first: whatever style the user has, a picture looks the same
        with context(("default", _REPEATABLE)):
            self.figure().savefig(image, format=kind, metadata=metadata)
        # matplotlib turns each text of an SVG, by no degrees too
        return (
            re.sub(rb' transform="rotate\(-0 [^)"]*\)"', b"", image.getvalue())
            if kind == "svg"
            else image.getvalue()
        )
