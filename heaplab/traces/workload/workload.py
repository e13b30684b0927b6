"""A workload: what a made-up program asks of malloc, named by all its parameters."""

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from heaplab.errors import UsageError
from heaplab.traces.event import Block
from heaplab.traces.opening import WORKLOAD, open_trace
from heaplab.traces.trace import Provenance, Trace
from heaplab.traces.workload.distributions import (
    NEVER,
    Constant,
    Distribution,
    Exponential,
    Lognormal,
    distribution,
)
from heaplab.traces.workload.generating import Maker
from heaplab.traces.workload.joint import BySize, Joint, lifetimes
from heaplab.traces.workload.shapes import ORDERS, Kind, Phase, Realloc, Snapshots, Threads, split

_MOST_EVENTS = 1 << 40
_MOST_CHILDREN = 0xFFFF
_SIZES = Lognormal(48, 1.0)
_LIFETIMES = Exponential(1000)
_ARRIVAL = Constant(1)
_ONE_THREAD = Threads()


@dataclass(frozen=True)
class Workload:
    """What a made-up program asks of malloc.  `str(workload)` is its text, `trace()` its trace.

    events: the most events of the trace; a drain that finds no block left ends early.  free(NULL), forks,
    what children do, and the ends of threads come on top.
    sizes: of the blocks, bytes; rounded, at least 1.
    lifetimes: from a block's allocation to its free, in ticks; a `BySize` gives each class of sizes its own.
    arrival: ticks from one allocation to the next; "bytes": as many ticks as the block has bytes.
        By default a tick is an allocation, and lifetimes are in allocations, as Knuth and Shore count them.
        With arrival "bytes" they are in bytes allocated, as Johnstone, Wilson and Zorn count them.
    deaths: which block dies when a lifetime is over: see `ORDERS`.
    phases: one after the other, by share of the events; none is one plateau.
    kinds: each block is of one of these kinds, by weight; what a kind does not say is as in the workload.
    joint: sizes and lifetimes together, in place of both.
    realloc, threads, fork: see `Realloc`, `Threads`, `Snapshots`.
    calloc, aligned: the parts of allocations that are calloc, and that ask for an alignment of 32 to 4096.
    nulls: how many free(NULL) there are for each other event.
    seed: of all chance.  name: of the trace.  origin: what a text says in place of tables: `like=gcc`.

    By Little's law a plateau has mean lifetime / mean arrival live blocks: `mean_live`.

    >>> workload = Workload(events=1000, sizes=Constant(64), lifetimes=Exponential(100), seed=3)
    >>> str(workload)
    'workload:events=1000:sizes=constant,64:lifetimes=exponential,100:arrival=constant,1:seed=3'
    >>> Workload.parse(str(workload)) == workload, workload.mean_live
    (True, 100.0)
    >>> workload.trace().header.events
    1000
    """

    events: int = 100_000
    sizes: Distribution = _SIZES
    lifetimes: Distribution | BySize = _LIFETIMES
    arrival: Distribution | str = _ARRIVAL
    deaths: str = "drawn"
    phases: tuple[Phase, ...] = ()
    kinds: tuple[Kind, ...] = ()
    joint: Joint | None = None
    realloc: Realloc | None = None
    threads: Threads = _ONE_THREAD
    fork: Snapshots | None = None
    calloc: float = 0.0
    aligned: float = 0.0
    nulls: float = 0.0
    seed: int = 0
    name: str = ""
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.events <= _MOST_EVENTS:
            raise UsageError(f"events={self.events}: must not be negative: write events=100000")
        if self.deaths not in ORDERS:
            raise UsageError(f"deaths={self.deaths}: write one of {', '.join(ORDERS)}")
        for key in ("calloc", "aligned"):
            if not 0 <= getattr(self, key) <= 1:
                raise UsageError(
                    f"{key}={getattr(self, key)}: is a part of all, from 0 to 1: write {key}=0.1"
                )
        if self.calloc + self.aligned > 1:
            raise UsageError(f"calloc={self.calloc}: is more than aligned={self.aligned} leaves: lower one")
        if self.fork is not None and self.events // self.fork.every > _MOST_CHILDREN:
            raise UsageError(
                f"fork={self.fork}: forks more than {_MOST_CHILDREN:,} children: fork less often"
            )
        if not 0 <= self.nulls <= 100:
            raise UsageError(
                f"nulls={self.nulls}: free(NULL) for each other event, at most 100: write nulls=0.1"
            )
        if self.seed < 0:
            raise UsageError(f"seed={self.seed}: must not be negative: write seed=1")
        for arrival in (self.arrival, *(phase.arrival for phase in self.phases)):
            _demand_arrival(arrival)

    # ---- what it makes ----

    def trace(self, seed: int | None = None, progress: Callable[[int], None] = lambda events: None) -> Trace:
        """Return the workload's trace, generated block by block each time it is iterated over.

        seed: in place of the workload's own.  progress: told how many events have been counted.
        Cost: about 0.5 us an event, twice (once to count); memory for the live blocks and a block of events.
        Raises: UsageError when the live blocks exceed what can be allocated.
        """
        seeded = self if seed is None else replace(self, seed=seed)
        text = str(seeded)
        provenance = Provenance(
            self.name or "workload", program="heaplab.traces.workload", command=text[:_LONGEST_COMMAND]
        )
        try:
            made = Trace.lazy(seeded.blocks, provenance, progress)
        except UsageError as error:  # the one rule that parameters can break
            raise UsageError(f"{error}: lower sizes, lifetimes or events") from None
        return replace(made, source=text)

    def blocks(self) -> Iterator[Block]:
        """The events of the trace, block by block, unchecked."""
        return Maker(self).blocks()

    @property
    def mean_live(self) -> float:
        """How many blocks are live on a plateau, by Little's law; infinite if blocks are never freed."""
        gap = self.mean_size if isinstance(self.arrival, str) else self.arrival.mean
        return self.mean_lifetime / gap if gap else math.inf

    @property
    def mean_size(self) -> float:
        """Bytes of a block, before sizes are rounded."""
        return _weighted((kind.weight, _mean_size(kind, self)) for kind in self.population)

    @property
    def mean_lifetime(self) -> float:
        """Ticks."""
        return _weighted((kind.weight, _mean_lifetime(kind, self)) for kind in self.population)

    @property
    def population(self) -> tuple[Kind, ...]:
        """The kinds of blocks: one that is as the workload says, if it has none."""
        return self.kinds or (Kind(1.0),)

    def sources(self, phase: Phase, kind: Kind) -> tuple[Distribution, Distribution | BySize, Joint | None]:
        """Return what sizes and lifetimes of blocks are drawn from; a joint table, if there is one, has both.

        What the phase says goes before what the kind says, and that before what the workload says.
        """
        for part in (phase, kind, self):
            if part.joint is not None:
                return self.sizes, self.lifetimes, part.joint
            if part.sizes is not None or part.lifetimes is not None:
                break
        sizes = phase.sizes or kind.sizes or self.sizes
        return sizes, phase.lifetimes or kind.lifetimes or self.lifetimes, None

    @property
    def unused(self) -> frozenset[str]:
        """Which of sizes, lifetimes and arrival make no difference: phases, kinds or tables say others."""
        come = [phase for phase in self.phases or (Phase(),) if phase.shape != "drain"]
        peopled = [phase for phase in come if (phase.arrival or self.arrival) != NEVER]
        drawn = [(phase, kind) for phase in peopled for kind in self.population]
        apart = [pair for pair in drawn if self.sources(*pair)[2] is None]
        used = {
            "sizes": any(phase.sizes is None and kind.sizes is None for phase, kind in apart)
            or (self.fork is not None and self.fork.requests > 0),
            "lifetimes": any(phase.lifetimes is None and kind.lifetimes is None for phase, kind in apart),
            "arrival": any(phase.arrival is None for phase in come),
        }
        return frozenset(name for name, needed in used.items() if not needed)

    # ---- its texts ----

    def __str__(self) -> str:
        """The text that names the workload, and that `open_trace` takes.

        A joint table that is neither in a file nor from an origin has no text: `save` writes it.
        """
        if self.origin and self._has_tables():
            return f"{WORKLOAD}{self.origin}:events={self.events}:seed={self.seed}"
        return WORKLOAD + ":".join(f"{name}={_text(value)}" for name, value in self.said())

    def said(self) -> Iterator[tuple[str, Any]]:
        """Yield the parameters that a text or a file must name, in order: `unused` ones are left out."""
        usual = Workload()
        for each in fields(usual):
            value = getattr(self, each.name)
            told = each.name in _ALWAYS or value != getattr(usual, each.name)
            if told and each.name not in (*self.unused, "origin"):
                yield each.name, value

    def _has_tables(self) -> bool:
        joints = [self.joint, *(phase.joint for phase in self.phases), *(kind.joint for kind in self.kinds)]
        return any(joint is not None for joint in joints)

    @classmethod
    def parse(cls, text: str) -> "Workload":
        """Return the workload that a text names.

        Raises: UsageError naming the key that is wrong and how to write it.

        >>> Workload.parse("workload:sizes=uniform,16,64:phases=ramp,1/plateau,3/drain,1").phases[1]
        Phase(shape='plateau', share=3.0, ...)
        """
        pairs: dict[str, Any] = {}
        for pair in split(text.strip().removeprefix(WORKLOAD), ":"):
            if not pair:
                continue
            key, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(
                    f"{pair!r} in {text!r} is no parameter: write key=value, as in events=100000"
                )
            if key in pairs:
                raise UsageError(f"{key}={value}: {key} is given twice: leave one out")
            pairs[key] = value
        return cls.of(pairs)

    @classmethod
    def of(cls, pairs: Mapping[str, Any], base: "Workload | None" = None) -> "Workload":
        """Return the workload with these parameters, each a text or a number, or what TOML makes of tables.

        base: what is not given is as there.  Raises: UsageError naming the key.
        """
        given = dict(pairs)
        if base is None and (origin := {"like", "from"} & given.keys()):
            base = _origin(given, origin.pop())
        made = replace(base or cls(), **{key: _read(key, value) for key, value in given.items()})
        told = sorted({"sizes", "lifetimes"} & given.keys() & made.unused)
        if told and made._has_tables():
            raise UsageError(
                f"{told[0]}={given[told[0]]}: a table has sizes and lifetimes together already: leave out "
                "one of them"
            )
        return made

    @classmethod
    def load(cls, path: str | Path) -> "Workload":
        """Return the workload in a .toml file: the keys of the text, with tables where a line is too short.

        Raises: UsageError for a file that cannot be read, or is wrong.
        """
        try:
            with Path(path).open("rb") as file:
                pairs = tomllib.load(file)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: is no TOML: {error}") from None
        try:
            made = cls.of(pairs)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        return replace(made, name=made.name or Path(path).stem, origin=f"from={path}")

    def save(self, path: str | Path) -> None:
        """Write the workload as a .toml file, tables included."""
        from heaplab.traces.workload.toml import written  # noqa: PLC0415 - it imports this module

        Path(path).write_text(written(self))


_ALWAYS = ("events", "sizes", "lifetimes", "arrival", "seed")
_LONGEST_COMMAND = 4000


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return str(value)


def _weighted(parts: Iterator[tuple[float, float]]) -> float:
    rows = list(parts)
    return sum(weight * value for weight, value in rows) / sum(weight for weight, _ in rows)


def _mean_size(kind: Kind, whole: Workload) -> float:
    sizes, _, joint = whole.sources(Phase(), kind)
    return sizes.mean if joint is None else joint.mean_size


def _mean_lifetime(kind: Kind, whole: Workload) -> float:
    sizes, lives, joint = whole.sources(Phase(), kind)
    if joint is not None:
        return joint.mean_lifetime
    return lives.mean_with(sizes) if isinstance(lives, BySize) else lives.mean


def _demand_arrival(arrival: Distribution | str | None) -> None:
    if isinstance(arrival, str) and arrival != "bytes":
        raise UsageError(f"arrival={arrival}: write a distribution of ticks, as in exponential,1, or bytes")
    if isinstance(arrival, Distribution) and not arrival.mean > 0:
        raise UsageError(f"arrival={arrival}: time would stand still: write constant,1")


# ---- reading ----


def _whole(key: str, value: Any) -> int:
    try:
        number = float(str(value).replace("_", ""))
        if number.is_integer():
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{key}={value}: is no whole number: write {key}=100")


def _part(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{key}={value}: is no number: write {key}=0.1") from None


def _distribution(key: str, value: Any) -> Distribution:
    return distribution(_string(key, value), key)


def _string(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{key}={value!r}: is no text in quotes: see `heaplab workload --help`")
    return value


def _arrival(key: str, value: Any) -> Distribution | str:
    return value if value == "bytes" else _distribution(key, value)


def _joint(key: str, value: Any) -> Joint:
    if isinstance(value, str):
        return Joint.load(value)
    from heaplab.traces.workload.toml import joint_of  # noqa: PLC0415 - it imports this module

    return joint_of(value)


def _phases(key: str, value: Any) -> tuple[Phase, ...]:
    if isinstance(value, str):
        return tuple(
            _phase_of(_inner(part, ("shape", "share", "teeth"), "phases")) for part in split(value, "/")
        )
    return tuple(_phase_of(each) for each in _tables(key, value))


def _phase_of(given: dict[str, Any]) -> Phase:
    known = {
        "shape": _string,
        "share": _part,
        "teeth": _whole,
        "ticks": _whole,
        **{key: _READERS[key] for key in ("sizes", "lifetimes", "arrival", "joint")},
    }
    return Phase(**_known(given, known, "phases"))


def _kinds(key: str, value: Any) -> tuple[Kind, ...]:
    if isinstance(value, str):
        return tuple(_kind_of(_inner(part, ("weight",), "kinds")) for part in split(value, "/"))
    return tuple(_kind_of(each) for each in _tables(key, value))


def _kind_of(given: dict[str, Any]) -> Kind:
    known = {"weight": _part, **{key: _READERS[key] for key in ("sizes", "lifetimes", "realloc", "joint")}}
    if "weight" not in given:
        raise UsageError("kinds: each needs a weight: write 0.9(sizes=constant,16)/0.1(sizes=constant,4096)")
    return Kind(**_known(given, known, "kinds"))


def _tables(key: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise UsageError(f"{key}: is no list of tables: write [[{key}]] in front of each")
    return value


def _inner(text: str, names: tuple[str, ...], key: str) -> dict[str, Any]:
    """A part of a text, `number,number(key=value;key=value)`, by name."""
    head, opened, rest = text.partition("(")
    numbers = head.split(",")
    if len(numbers) > len(names) or (opened and not rest.endswith(")")):
        raise UsageError(f"{key}={text}: write {','.join(names)}(key=value;key=value)")
    given: dict[str, Any] = dict(zip(names, numbers, strict=False))
    for pair in split(rest[:-1], ";") if opened else ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{key}={text}: {pair!r} is no parameter: write key=value")
        given[name] = value
    return given


def _known(
    given: dict[str, Any], readers: "dict[str, Callable[[str, Any], Any]]", where: str
) -> dict[str, Any]:
    for key in given:
        if key not in readers:
            raise UsageError(f"{where}: there is no {key!r} in it{_near(key, readers)}")
    return {key: readers[key](key, value) for key, value in given.items()}


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "events": _whole,
    "sizes": _distribution,
    "lifetimes": lambda key, value: lifetimes(_string(key, value)),
    "arrival": _arrival,
    "deaths": _string,
    "phases": _phases,
    "kinds": _kinds,
    "joint": _joint,
    "realloc": lambda key, value: Realloc.read(_string(key, value)),
    "threads": lambda key, value: Threads.read(_string(key, value)),
    "fork": lambda key, value: Snapshots.read(_string(key, value)),
    "calloc": _part,
    "aligned": _part,
    "nulls": _part,
    "seed": _whole,
    "name": _string,
}


def _read(key: str, value: Any) -> Any:
    if key not in _READERS:
        raise UsageError(f"a workload has no parameter {key!r}{_near(key, _READERS)}")
    return _READERS[key](key, value)


def _near(key: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(key, known, 1)
    return f": did you mean {near[0]}?" if near else f": write one of {', '.join(known)}"


def _origin(given: dict[str, Any], key: str) -> Workload:
    """What `like=TRACE` or `from=FILE` names; both are taken out of `given`."""
    source = _string(key, given.pop(key))
    if key == "from":
        return Workload.load(source)
    from heaplab.traces.workload.learning import learn  # noqa: PLC0415

    windows = _whole("windows", given.pop("windows")) if "windows" in given else None
    return learn(open_trace(source), **({} if windows is None else {"windows": windows}))
