"""How things of lower rooms are shown: the one place where a lower room reaches up.

What draws stands in views/ and report/, above what is drawn.  So that `print(heap)` shows a heap, and a
notebook draws a trace by itself, the methods that Python and notebooks call (__str__, _repr_html_,
_repr_svg_) name the function that draws, as "module:function".  It is imported when something is shown, and
not before.

Showing never raises: people look where something went wrong, and what they look at may be dead or broken.
"""

from html import escape
from importlib import import_module
from typing import Any

from heaplab.errors import HeaplabError


def text(thing: object, by: str) -> str:
    """Return `thing` as text, drawn by the function `by`; where that fails, its repr and why.

    >>> print(text(4096, "heaplab.units:format_size"))
    4.00 KiB
    >>> print(text("a page", "heaplab.units:parse_size"))
    'a page'
    cannot be shown: 'a page' is not a size: write a number of bytes, or one with KiB, MiB or GiB
    """
    try:
        return str(_drawn(thing, by))
    except Exception as error:
        return _apology(thing, error)


def html(thing: object, by: str) -> str | None:
    """Return `thing` as the HTML or SVG that the function `by` makes of it; where that fails, HTML says why.

    None, as a notebook understands it: it has no picture, show its repr.
    """
    try:
        drawn: str | None = _drawn(thing, by)
        return drawn
    except Exception as error:
        return f"<pre>{escape(_apology(thing, error))}</pre>"


def _apology(thing: object, error: Exception) -> str:
    if isinstance(error, ProcessLookupError):
        why = "the process is dead"
    else:
        why = str(error) if isinstance(error, HeaplabError) else f"{type(error).__name__}: {error}"
    return f"{thing!r}\ncannot be shown: {why}"


def _drawn(thing: object, by: str) -> Any:
    module, _, function = by.partition(":")
    return getattr(import_module(module), function)(thing)
