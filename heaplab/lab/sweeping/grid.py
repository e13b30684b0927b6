"""The grid of a sweep: its cells, from texts with braces that parameters fill."""

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heaplab.errors import UsageError
from heaplab.lab.columns import COLUMNS, NAMES

Value = str | int | float | bool
#: a parameter in a text
_FIELD = re.compile(r"\{(\w*)\}")
SEED = "seed"
#: names that a row has already
_TAKEN = {*NAMES, *(column.key for column in COLUMNS), "heaplab", "code", "key", "trace_seed"}


@dataclass(frozen=True)
class Template:
    """A text in which `{name}` stands for a parameter's value."""

    text: str

    @property
    def names(self) -> list[str]:
        """The parameters, each once, in their order."""
        return list(dict.fromkeys(_FIELD.findall(self.text)))

    def filled(self, values: Mapping[str, Value]) -> str:
        """Return the text with the values in place of the parameters.

        >>> Template("freelist:fit={fit}").filled({"fit": "best", "mean": 32})
        'freelist:fit=best'
        """
        return _FIELD.sub(lambda match: str(values[match[1]]), self.text)


@dataclass(frozen=True)
class Point:
    """One trace and one allocator of a grid, with a seed.

    trace, allocator: the texts as filled.  place: of the trace's text among those given.
    parameters: by which either was filled.  templates: of "trace" and "allocator".
    """

    trace: str
    place: int
    allocator: str
    native: bool
    seed: int
    parameters: Mapping[str, Value]
    templates: Mapping[str, Template]


@dataclass(frozen=True)
class Grid:
    """Traces, allocators and real allocators, as texts; seeds; and what parameters may be.

    >>> grid = Grid.of(["gcc"], ["freelist:fit={fit}", "rbtree"], [], (1,), {"fit": ["first", "best"]})
    >>> [(point.allocator, dict(point.parameters)) for point in grid.points()]
    [('freelist:fit=first', {'fit': 'first'}), ('freelist:fit=best', {'fit': 'best'}), ('rbtree', {})]
    """

    traces: Sequence[Template]
    allocators: Sequence[Template]
    native: Sequence[Template]
    seeds: Sequence[int]
    values: Mapping[str, Sequence[Value]]

    @classmethod
    def of(
        cls,
        traces: Iterable[str],
        allocators: Iterable[str],
        native: Iterable[str],
        seeds: Iterable[int],
        values: Mapping[str, Any],
    ) -> "Grid":
        """Return the grid.

        Raises: UsageError for an empty one, for a parameter without values, with one value twice, or that no
        text has, and for one in a text that has no values.
        """
        grid = cls(
            [Template(text) for text in traces],
            [Template(text) for text in allocators],
            [Template(text) for text in native],
            list(seeds),
            {name: _values(name, given) for name, given in values.items()},
        )
        if not grid.traces or not (grid.allocators or grid.native):
            raise UsageError("the grid is empty: name at least one trace and one allocator")
        if not grid.seeds:
            raise UsageError("the grid is empty: give at least one seed")
        if len(set(grid.seeds)) < len(grid.seeds):
            raise UsageError(f"seeds={grid.seeds}: a seed is given twice")
        used: set[str] = set()
        for template in (*grid.traces, *grid.allocators, *grid.native):
            for name in template.names:
                if name not in grid.values and name != SEED:
                    raise UsageError(
                        f"{template.text}: {{{name}}} has no values{_near(name, grid.values)}; "
                        f"on the command line --param {name}=1,2 gives some"
                    )
            used.update(template.names)
        for name in grid.values:
            if name in _TAKEN:
                raise UsageError(f"the parameter {name!r} is called like a figure: choose another name")
            if name not in used:
                raise UsageError(f"no trace and no allocator has {{{name}}} in its text")
        return grid

    def points(self) -> Iterator[Point]:
        """Yield the points: trace by trace, seed by seed, then the allocators, real ones last.

        Each is there once for every combination of the parameters that its two texts have.
        """
        entrants = [(each, False) for each in self.allocators] + [(each, True) for each in self.native]
        for place, trace in enumerate(self.traces):
            for of_trace in self._combinations(trace.names):
                for seed in self.seeds:
                    for template, native in entrants:
                        rest = [name for name in template.names if name not in of_trace]
                        for of_allocator in self._combinations(rest):
                            values = {**of_trace, **of_allocator}
                            filling = {**values, SEED: seed}
                            parameters = {name: values[name] for name in self.values if name in values}
                            yield Point(
                                trace.filled({**filling, SEED: "{seed}"}),
                                place,
                                template.filled(filling),
                                native,
                                seed,
                                parameters,
                                {"trace": trace, "allocator": template},
                            )

    def _combinations(self, names: Sequence[str]) -> Iterator[dict[str, Value]]:
        chosen = [name for name in names if name != SEED]
        for values in itertools.product(*(self.values[name] for name in chosen)):
            yield dict(zip(chosen, values, strict=True))


def _values(name: str, given: Any) -> list[Value]:
    """The values of a parameter; a single one stands for itself."""
    values = [given] if isinstance(given, str | int | float) else list(given)
    if not values:
        raise UsageError(f"the grid is empty: {name} has no values")
    for value in values:
        if not isinstance(value, str | int | float):
            raise UsageError(f"{name}={value!r}: a parameter is a text or a number")
    if len({str(value) for value in values}) < len(values):
        raise UsageError(f"{name}={', '.join(map(str, values))}: a value is given twice")
    return values


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {{{found[0]}}}?" if found else f": give some, as in {name or 'name'}=[1, 2]"
