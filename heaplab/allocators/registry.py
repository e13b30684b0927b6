"""Allocators by name: specs, and where designs come from.

A spec is `name[:key=value]...`, as in `freelist:fit=best:order=address`; commas list specs.  The name is a
design of heaplab's; a design that another package offers under the entry point group
"heaplab.allocators"; or the path of a Python file that defines one Allocator class, or of a C file that
registers one design.

A file, or another package's design, is taken whatever the language that is asked for.

heaplab's own designs are found where they stand: in Python, the modules of heaplab.allocators.designs; in C,
what the linker gathered from csrc/designs.  Nothing is registered by hand.
"""

import difflib
import importlib.util
import inspect
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from heaplab.allocators import stated
from heaplab.allocators.base import Allocator, Option
from heaplab.allocators.core import c_design
from heaplab.allocators.discover import defined_in, python_designs
from heaplab.allocators.written import design_of_file
from heaplab.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from heaplab.process import Process

LANGUAGES = ("python", "c")


@dataclass(frozen=True)
class Spec:
    """A design with its parameters: `str(spec)` is the shortest text that says the same."""

    name: str
    language: str
    design: type[Allocator]
    #: every option's value as a number, defaults included
    options: dict[str, int]
    #: the options given, as text
    given: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<Spec {self} in {self.language}>"

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{key}={value}" for key, value in self.given)])

    @classmethod
    def of(cls, design: type[Allocator]) -> "Spec":
        """Return the spec of a class that is under no name, with its default parameters."""
        options = {option.name: option.encode(option.default) for option in design.OPTIONS}
        return cls(design.__name__, design.LANGUAGE, design, options)

    def create(self, process: "Process") -> Allocator:
        """Build an empty heap of this design at the break of `process`."""
        return self.design.create(process, self.options)


@cache
def _own(language: str) -> dict[str, type[Allocator]]:
    if language == "c":
        return {name: c_design(name) for name in stated.designs()}
    return dict(python_designs())


@cache
def _offered() -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points  # noqa: PLC0415 - takes 50 ms, and few need it

    return {entry.name: entry for entry in entry_points(group="heaplab.allocators")}


def names(language: str = "python") -> list[str]:
    """Return the names of all designs in this language, heaplab's and other packages'.

    A design of another package that cannot be loaded is left out, with a warning.
    """
    found = set(_own(language))
    for name, entry in _offered().items():
        try:
            if _load(entry).LANGUAGE == language:
                found.add(name)
        except UsageError as error:
            warnings.warn(str(error), stacklevel=2)
    return sorted(found)


def parse(text: str, language: str = "python") -> Spec:
    """Return the design and parameters that `text` names.

    Raises: UsageError for an unknown design, option or value, with the nearest match.

    >>> spec = parse("freelist:fit=best")
    >>> str(spec), spec.options["top_pad"]
    ('freelist:fit=best', 131072)
    """
    if language not in LANGUAGES:
        raise UsageError(f"there are no allocators in {language!r}: write python or c")
    name, *pairs = text.strip().split(":")
    if name.endswith(".py"):
        design = _from_python_file(name)
    elif name.endswith(".c"):
        design = design_of_file(name)
    else:
        design = _from_name(name, language)
    known = {option.name: option for option in design.OPTIONS}
    values = {option.name: option.default for option in known.values()}
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} in {text!r} is no parameter: write key=value")
        if key not in known:
            raise UsageError(f"{name} has no parameter {key!r}{_near(key, known)}")
        _verify_value(name, known[key], value)
        given[key] = values[key] = value
    options = {key: known[key].encode(value) for key, value in values.items()}
    return Spec(name, design.LANGUAGE, design, options, tuple(given.items()))


def parse_list(text: str, language: str = "python") -> list[Spec]:
    """Return the specs in a list separated by commas.  Raises: UsageError as `parse`, or when empty."""
    specs = [parse(part, language) for part in text.split(",") if part.strip()]
    if not specs:
        raise UsageError(f"{text!r} names no allocator: write one of {', '.join(names(language))}")
    return specs


def create(text: str, process: "Process", language: str = "python") -> Allocator:
    """Build an empty heap at the break of `process`, as the spec `text` says."""
    return parse(text, language).create(process)


def _from_name(name: str, language: str) -> type[Allocator]:
    """The design of this name: heaplab's in this language, or another package's, whatever its language."""
    if name in _own(language):
        return _own(language)[name]
    if name in _offered():
        return _load(_offered()[name])
    known = sorted([*_own(language), *_offered()])
    raise UsageError(f"there is no allocator {name!r} in {language}{_near(name, known)}")


def _load(entry: "EntryPoint") -> type[Allocator]:
    what = f"the allocator {entry.name}, which an installed package offers as {entry.value},"
    try:
        design = entry.load()
    except Exception as error:
        raise UsageError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(design, type) and issubclass(design, Allocator)):
        raise UsageError(f"{what} is no class derived from heaplab.allocators.Allocator")
    _demand_whole(design, what)
    return design


def _from_python_file(path: str) -> type[Allocator]:
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if module_spec is None or module_spec.loader is None or not Path(path).is_file():
        raise UsageError(f"there is no file {path} to take an allocator from")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    found = list(defined_in(module))
    if len(found) != 1:
        raise UsageError(f"{path} defines {len(found)} Allocator classes: it has to define one")
    _demand_whole(found[0], f"{path}: {found[0].__name__}")
    return found[0]


def _demand_whole(design: type[Allocator], what: str) -> None:
    if inspect.isabstract(design):
        missing = ", ".join(sorted(design.__abstractmethods__))
        raise UsageError(f"{what} still has to define {missing}")


def _verify_value(name: str, option: Option, value: str) -> None:
    if option.choices and value not in option.choices:
        near = _near(value, option.choices)
        raise UsageError(f"{name} has no {option.name} {value!r}{near}")
    if option.word and value == option.word:
        return
    if not option.choices and option.encode(value) > option.most:
        raise UsageError(f"{option.name}={value} is too much for {name}: write {option.most} bytes or less")


def _near(word: str, known: Iterable[str]) -> str:
    known = list(known)
    match = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {match[0]!r}?" if match else f": there are {', '.join(known)}"
