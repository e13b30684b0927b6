"""A trace: what is known about it, and its events, block by block."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

from heaplab.errors import DamagedTrace, UsageError
from heaplab.shown import html
from heaplab.traces.described import described
from heaplab.traces.event import Block, Event, in_blocks
from heaplab.traces.ledger import Counts, Ledger
from heaplab.units import counted, format_size


@dataclass(frozen=True)
class Provenance:
    """Where a trace comes from: free text, but for `tick`.

    tick: nanoseconds; times are multiples of it.  A coarse tick makes a smaller file.
    """

    name: str
    program: str = ""
    version: str = ""
    command: str = ""
    date: str = ""
    note: str = ""
    tick: int = 1


@dataclass(frozen=True)
class Header(Counts, Provenance):
    """What a trace says about itself before its first event: `Provenance` and `Counts` in one."""

    @classmethod
    def of(cls, provenance: Provenance, counts: Counts) -> "Header":
        """Return the two as one."""
        return cls(**vars(provenance), **vars(counts))

    def provenance(self) -> Provenance:
        """The provenance alone."""
        return Provenance(**{each.name: getattr(self, each.name) for each in fields(Provenance)})

    def counts(self) -> Counts:
        """The counts alone."""
        return Counts(**{each.name: getattr(self, each.name) for each in fields(Counts)})

    def __repr__(self) -> str:
        return f"<Header of {self.name}: {counted(self.events, 'event')}>"

    def __str__(self) -> str:
        return "\n".join(described(self))


@dataclass(frozen=True)
class Trace:
    """A trace: iterate over it for its blocks, as often as you like; they are read as they are needed.

    Every block is checked by a `Ledger` on its way, so its user need not.

    >>> from heaplab.traces import Op
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0)], name="two")
    >>> trace.header.events, trace.header.peak_live
    (2, 24)
    >>> for block in trace:
    ...     print(*block, sep=", ")
    malloc 0 24, free 0
    """

    header: Header
    source: str
    """What `open_trace` was given; it opens the same trace again, unless it was made in memory."""
    read: Callable[[], Iterator[Block]]
    """Returns the blocks, unchecked."""
    remarks: tuple[str, ...] = ()
    """What its reader had to skip, mend or wonder at: sentences for the user, one line each."""

    @classmethod
    def of(cls, events: Iterable[Event], name: str = "events") -> "Trace":
        """Return a trace of `events`, held in memory.

        Raises: UsageError when they are no valid trace.
        """
        return cls.of_blocks(in_blocks(events), name)

    @classmethod
    def of_blocks(cls, blocks: Iterable[Block], name: str = "blocks") -> "Trace":
        """Return a trace of `blocks`, held in memory.

        Raises: UsageError when they are no valid trace.
        """
        kept = list(blocks)
        return cls.lazy(lambda: iter(kept), Provenance(name))

    @classmethod
    def lazy(
        cls,
        read: Callable[[], Iterator[Block]],
        provenance: Provenance,
        progress: Callable[[int], None] = lambda events: None,
    ) -> "Trace":
        """Return a trace of the blocks that `read` gives, the same at every call; they are gone through once.

        progress: told how many events have been gone through, after each block.
        Raises: UsageError when they are no valid trace.
        """
        ledger, done = Ledger(provenance.name), 0
        for block in read():
            ledger.apply(block)
            done += len(block)
            progress(done)
        return cls(Header.of(provenance, ledger.counts()), provenance.name, read)

    def __iter__(self) -> Iterator[Block]:
        try:
            yield from self._checked()
        except UsageError as error:
            raise DamagedTrace(str(error)) from error
        except OSError as error:
            raise DamagedTrace(f"{self.source}: cannot be read: {error.strerror or error}") from error

    def _checked(self) -> Iterator[Block]:
        ledger = Ledger(self.source)
        for block in self.read():
            ledger.apply(block)
            yield block
        if not ledger.counts().agree_with(self.header.counts()):
            raise UsageError(f"{self.source}: its events are not what its header says: record it again")

    def events(self) -> Iterator[Event]:
        """The events one by one: slow, for small traces and for looking."""
        for block in self:
            yield from block

    def __repr__(self) -> str:
        events, peak = counted(self.header.events, "event"), format_size(self.header.peak_live)
        return f"<Trace {self.header.name}: {events}, peak live {peak}>"

    def __str__(self) -> str:
        return "\n".join([str(self.header), *self.remarks])

    def _repr_html_(self) -> str | None:
        return html(self, "heaplab.report.notebook:trace_html")
