"""How a mistake is planted: a piece of a function's text is replaced, for as long as a `with` lasts.

The function object stays the same, so whoever imported it, or keeps it in a table, gets the mistake too.
A function that was renamed, or whose text is another one by now, is an error, not a mutant that is never
made.
"""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final

#: the name under which the edited function finds what counts that it got there
_MARK: Final = "_mutant_is_reached"


@dataclass(frozen=True)
class Edit:
    """A change in the text of one function.

    where  the function, from heaplab.kernel on: "fault.mend", "vmas.VmaMap.add"
    old    a piece of its text, with indentation as if the function stood at the margin; it occurs once
    new    what stands there instead
    when   an expression of the function's names, true where old and new can differ
    """

    where: str
    old: str
    new: str
    when: str = "True"


@dataclass(frozen=True)
class Mutant:
    """A mistake as a programmer makes it.

    name     as the command line knows it
    profile  a key of PROFILES: whose sequences must find it
    mistake  one sentence: what the model does then
    linux    what Linux does, with the rule's number where it has one
    edits    the mistake itself
    """

    name: str
    profile: str
    mistake: str
    linux: str
    edits: tuple[Edit, ...]


class Reached:
    """Counts how often the planted text was come to, where it can make a difference."""

    def __init__(self) -> None:
        self.times = 0

    def note(self) -> None:
        """Count once more."""
        self.times += 1


@contextmanager
def planted(mutant: Mutant) -> Iterator[Reached]:
    """Make the mistake as long as the context lasts; its edits are of different functions.

    Raises: LookupError when the kernel's text is not the one that the mutant was made for.

    >>> from heaplab.kernel.pid import PidAllocator
    >>> edit = Edit("pid.PidAllocator.alloc", "first = max(self._next, lowest)", "first = lowest")
    >>> with planted(Mutant("reused", "process", "The lowest pid is given out.", "", (edit,))) as reached:
    ...     pids = PidAllocator(10)
    ...     pids.free(pids.alloc())
    ...     pids.alloc(), reached.times
    (1, 2)
    >>> pids.alloc()
    2
    """
    functions = [_function(edit.where) for edit in mutant.edits]
    codes = [
        _edited(function, edit, mutant.name) for function, edit in zip(functions, mutant.edits, strict=True)
    ]
    originals = [function.__code__ for function in functions]
    reached = Reached()
    try:
        for function, code in zip(functions, codes, strict=True):
            function.__globals__[_MARK] = reached.note
            function.__code__ = code
        yield reached
    finally:
        for function, code in zip(functions, originals, strict=True):
            function.__code__ = code
            function.__globals__.pop(_MARK, None)


def _function(where: str) -> FunctionType:
    module, *names = where.split(".")
    found: Any = importlib.import_module(f"heaplab.kernel.{module}")
    for name in names:
        if not hasattr(found, name):
            raise LookupError(f"heaplab.kernel has no {where} any more")
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    if not isinstance(found, FunctionType):
        raise LookupError(f"{where} is no function in Python")
    return found


def _edited(function: FunctionType, edit: Edit, name: str) -> CodeType:
    """Compile a function with the edit in its text, and with a mark before the statement that it is in."""
    text = textwrap.dedent(inspect.getsource(function))
    if text.count(edit.old) != 1:
        raise LookupError(f"the text of {edit.where} has {text.count(edit.old)} times {edit.old!r}, not once")
    before, _, after = text.partition(edit.old)
    tree = ast.parse(before + edit.new + after)
    upto = before + edit.new[: len(edit.new) - len(edit.new.lstrip())]
    row = upto.count("\n") + 1
    column = len(upto.rpartition("\n")[2].encode())
    block, index = _statement_at(tree, (row, column))
    block.insert(index, *ast.parse(f"if {edit.when}: {_MARK}()").body)
    ast.fix_missing_locations(tree)
    module = compile(tree, f"<mutant {name}>", "exec", dont_inherit=True)
    (code,) = (
        each
        for each in module.co_consts
        if isinstance(each, CodeType) and each.co_name == function.__code__.co_name
    )
    if code.co_freevars != function.__code__.co_freevars:
        raise LookupError(f"{edit.where} uses names of functions around it: it cannot be compiled alone")
    return code.replace(co_qualname=function.__code__.co_qualname)


def _statement_at(tree: ast.AST, place: tuple[int, int]) -> tuple[list[ast.stmt], int]:
    """Return the innermost statement at a place, as the block it is in and its index there."""
    found: tuple[list[ast.stmt], int] | None = None
    for node in ast.walk(tree):  # outer ones first
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if not isinstance(block, list):
                continue  # a lambda's, or a conditional expression's
            for index, statement in enumerate(block):
                start = statement.lineno, statement.col_offset
                if start <= place < (statement.end_lineno or 0, statement.end_col_offset or 0):
                    found = block, index
    assert found is not None, "the edit is in no statement"
    return found
