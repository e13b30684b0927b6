"""A plug-in of pytest: the contract of malloc on a design of one's own, in one's own repository.

    pytest --heaplab-allocator mine.py

Each clause that applies to the design becomes a test, and so does the state machine under Hypothesis, if
that is installed.  Tests that take the fixture `heap_factory` run once for each design.  pytest loads the
plug-in by itself where heaplab is installed (entry point `pytest11`); it does nothing without the option.

Nothing of heaplab is imported before it is needed: the plug-in is loaded in every run of pytest.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from heaplab.testing.contract import HeapFactory


_FACTORIES = pytest.StashKey[dict[str, "HeapFactory"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("heaplab", "heaplab: allocators held against the contract of malloc")
    group.addoption(
        "--heaplab-allocator",
        action="append",
        default=[],
        metavar="SPEC",
        help="Run the contract on this design: a name with parameters, or the path of a Python or C file.  "
        "May be given several times.",
    )
    group.addoption(
        "--heaplab-language",
        choices=("python", "c"),
        default="python",
        help="Of designs that are given by name.",
    )


def _factories(config: pytest.Config) -> dict[str, HeapFactory]:
    """The designs that are asked for.  Raises: UsageError of pytest, with heaplab's sentence."""
    specs: list[str] = config.getoption("heaplab_allocator")
    if not specs:
        return {}
    if _FACTORIES in config.stash:
        return config.stash[_FACTORIES]
    from heaplab.errors import UsageError  # noqa: PLC0415
    from heaplab.testing.contract import HeapFactory  # noqa: PLC0415

    language = config.getoption("heaplab_language")
    try:
        config.stash[_FACTORIES] = {spec: HeapFactory(spec, language) for spec in dict.fromkeys(specs)}
    except UsageError as error:
        raise pytest.UsageError(f"--heaplab-allocator: {error}") from error
    return config.stash[_FACTORIES]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """How many clauses each design is held against."""
    lines = []
    for spec, factory in _factories(config).items():
        from heaplab.testing import contract  # noqa: PLC0415

        left_out = contract.left_out(factory.spec)
        lines.append(
            f"heaplab: {spec} ({factory.spec.language}): {len(contract.applying(factory.spec))} clauses, "
            f"{len(left_out)} left out for what it does not promise"
        )
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the fixture `heap_factory` once for each design."""
    if "heap_factory" in metafunc.fixturenames:
        metafunc.parametrize("heap_factory", list(_factories(metafunc.config)), indirect=True)


@pytest.fixture
def heap_factory(request: pytest.FixtureRequest) -> HeapFactory:
    """Where a test gets new heaps of the design that --heaplab-allocator names: `heap_factory.heap()`."""
    return _factories(request.config)[request.param]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the clauses to the tests."""
    for spec, factory in _factories(config).items():
        design = Design.from_parent(session, name=spec, nodeid=f"heaplab::{spec}")
        clauses = list(design.clauses(factory))
        items.extend(clauses)
        # so that they are counted among what was collected
        report = pytest.CollectReport(design.nodeid, "passed", None, result=[*clauses])
        config.hook.pytest_collectreport(report=report)


class Design(pytest.Collector):
    """What stands for a design among pytest's nodes."""

    def collect(self) -> Iterator[pytest.Item]:
        """Nothing: its items are made in pytest_collection_modifyitems."""
        return iter(())

    def clauses(self, factory: HeapFactory) -> Iterator[pytest.Item]:
        """A test for each clause that applies, and one for the state machine."""
        from heaplab.testing import contract  # noqa: PLC0415

        for clause in contract.applying(factory.spec):
            yield Clause.from_parent(self, name=contract.name(clause), call=clause, factory=factory)
        try:
            from heaplab.testing.heap_machine import check_steps  # noqa: PLC0415
        except ModuleNotFoundError:  # without Hypothesis
            return
        yield Clause.from_parent(self, name="no_steps_break_it", call=check_steps, factory=factory)


class Clause(pytest.Item):
    """A clause on a design."""

    def __init__(
        self,
        *,
        call: Callable[[HeapFactory], None],
        factory: HeapFactory,
        name: str,
        parent: pytest.Collector,
    ) -> None:
        super().__init__(name, parent)
        self._call = call
        self._factory = factory

    def runtest(self) -> None:
        """Hold the design against the clause."""
        self._call(self._factory)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: None = None) -> str:  # type: ignore[override]
        """What the clause says, what broke it, and where in a design in Python it was raised."""
        error = excinfo.value
        says = (self._call.__doc__ or "").strip().splitlines()[0]
        told = str(error).removeprefix(f"{says}  Broken: ") or type(error).__name__
        if not isinstance(error, AssertionError):
            told = f"{type(error).__name__}: {told}"
        lines = [f"The contract says: {says}", f"What broke: {told}", *getattr(error, "__notes__", [])]
        place = traceback.extract_tb((error.__cause__ or error).__traceback__)[-1]
        lines.append(f"Raised at {place.filename}:{place.lineno}, by {self._factory.spec}")
        return "\n".join(lines)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Where the design is, and which clause this is."""
        return str(self._factory.spec.name), None, f"{self._factory.spec}: {self.name}"
