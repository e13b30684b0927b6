"""What the designs in C state of themselves: the one statement of what both languages must agree on.

A design's C file gives its name, magic number, traits, smallest block and options (`hl_design` in
csrc/heap/heap.h); its twin in Python, and the registry, read them here.
"""

from functools import cache
from typing import Any, NamedTuple

from heaplab._core import ffi, lib
from heaplab.allocators.base import Option, Trait


class Statement(NamedTuple):
    """A design's constants, in the order in which a twin takes them over."""

    magic: int
    traits: Trait
    smallest: int
    options: tuple[Option, ...]


@cache
def designs() -> dict[str, Any]:
    """Return the designs in C, `hl_design` by name, in the order of their names."""
    found: dict[str, Any] = {}
    while (design := lib.hl_design_at(len(found))) != ffi.NULL:
        found[name_of(design)] = design
    return dict(sorted(found.items()))


def places(design: Any) -> dict[str, int]:
    """Return where in hl_heap the values of a design's options stand, by name."""
    return {_text(option.name): int(option.place) for option in _rows(design.options)}


def stated(name: str) -> Statement:
    """Return the constants of heaplab's design in C of this name.

    >>> stated("buddy").smallest, stated("freelist").options[0].choices
    (32, ('first', 'next', 'best', 'worst'))
    """
    return statement(designs()[name])


def statement(design: Any) -> Statement:
    """Return the constants that a `hl_design` gives."""
    return Statement(
        int(design.magic),
        Trait(design.traits),
        int(design.smallest),
        tuple(map(_option, _rows(design.options))),
    )


def name_of(design: Any) -> str:
    """Return the name that a `hl_design` gives itself."""
    return _text(design.name)


def shared(*names: str) -> tuple[Option, ...]:
    """Return options that designs share, of sources and checks, by name.

    >>> shared("top_pad")[0].default
    '128KiB'
    """
    known = {option.name: option for option in map(_option, _rows(lib.hl_shared_options))}
    return tuple(known[name] for name in names)


@cache
def shared_defaults() -> dict[str, int]:
    """Return the values that shared options have in a design that does not list them.

    A heap that cannot be told how to grow takes no more than it needs: top_pad and trim_threshold are 0.
    """
    options = map(_option, _rows(lib.hl_shared_options))
    defaults = {option.name: option.encode(option.default) for option in options}
    return {**defaults, "top_pad": 0, "trim_threshold": 0}


@cache
def shared_places() -> dict[str, int]:
    """Return where in hl_heap the values of shared options stand, by name."""
    return {_text(option.name): int(option.place) for option in _rows(lib.hl_shared_options)}


def _rows(options: Any) -> list[Any]:
    rows: list[Any] = []
    while options[len(rows)].name != ffi.NULL:
        rows.append(options[len(rows)])
    return rows


def _option(raw: Any) -> Option:
    choices = tuple(_text(raw.choices).split("|")) if raw.choices != ffi.NULL else ()
    word = _text(raw.word) if raw.word != ffi.NULL else ""
    return Option(_text(raw.name), _text(raw.fallback), _text(raw.doc), choices, int(raw.most), word)


def _text(raw: Any) -> str:
    return bytes(ffi.string(raw)).decode()
