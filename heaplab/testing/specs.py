"""Specs that suites run over: every design, with each value of its options that have choices.

No suite names a design: a new one, or a new option, is met by what stands.
"""

from collections import Counter
from itertools import product
from typing import Final

from heaplab import allocators
from heaplab.allocators import parse

#: options in bytes, so small that a heap of some dozen blocks grows, trims, and maps blocks
TUNED: Final = {"top_pad": "0", "trim_threshold": "4KiB", "mmap_threshold": "20000"}


def defaults(language: str = "python") -> list[str]:
    """Return the spec of every design without options."""
    return allocators.names(language)


def tuned(spec: str, language: str = "python") -> str:
    """Return the spec with those of TUNED that the design has and the spec does not give.

    >>> tuned("rbtree:top_pad=4KiB")
    'rbtree:top_pad=4KiB:trim_threshold=4KiB:mmap_threshold=20000'
    """
    parsed = parse(spec, language)
    lacking = parsed.options.keys() - dict(parsed.given)
    more = [f"{name}={value}" for name, value in TUNED.items() if name in lacking]
    return ":".join([spec, *more])


def varied(language: str = "python") -> list[str]:
    """Return specs with every value of every option that has choices; a design's own in every combination.

    >>> "freelist:fit=best:order=address" in varied(), "buddy:checks=none" in varied()
    (True, True)
    """
    return [spec for name in defaults(language) for spec in _variants(name, language)]


def _variants(name: str, language: str) -> list[str]:
    options = [option for option in parse(name, language).design.OPTIONS if option.choices]
    common = _common(language)
    own = [option for option in options if option.name not in common]
    specs = [
        ":".join([name, *(f"{option.name}={choice}" for option, choice in zip(own, choices, strict=True))])
        for choices in product(*(option.choices for option in own))
    ]
    specs += [
        f"{name}:{option.name}={choice}"
        for option in options
        if option.name in common
        for choice in option.choices
        if choice != option.default
    ]
    return specs


def _common(language: str) -> set[str]:
    """The names of options that several designs have."""
    designs = [parse(name, language).design for name in defaults(language)]
    has = Counter(option.name for design in designs for option in design.OPTIONS)
    return {name for name, count in has.items() if count > 1}
