"""Traces: what programs asked of malloc, recorded, stored, opened and made up.

open_trace    a trace from a file of any known format, or from the bundled corpus by name
Trace         its header, and its events in blocks
Block, Event  many events as columns; one event
Op, NULL_ID   what an event does; the id of free(NULL)
TraceWriter   writes heaplab's own format, .hlt
cut, merged   a part of a trace; several as one
corpus        the bundled traces
Snapshot, snapshotting  a trace whose process forks to take a snapshot
synthetic     made-up traces, seeded
SizeProfile   the sizes a trace asks for
"""

from heaplab.traces import corpus
from heaplab.traces.cutting import cut
from heaplab.traces.event import BLOCK_EVENTS, NULL_ID, Block, Event, Op
from heaplab.traces.hlt import TraceWriter
from heaplab.traces.ledger import Counts, Ledger
from heaplab.traces.merging import merged
from heaplab.traces.opening import open_trace
from heaplab.traces.profile import SizeProfile
from heaplab.traces.snapshotting import Snapshot, snapshotting
from heaplab.traces.synthetic import synthetic
from heaplab.traces.trace import Header, Provenance, Trace

__all__ = [
    "BLOCK_EVENTS",
    "NULL_ID",
    "Block",
    "Counts",
    "Event",
    "Header",
    "Ledger",
    "Op",
    "Provenance",
    "SizeProfile",
    "Snapshot",
    "Trace",
    "TraceWriter",
    "corpus",
    "cut",
    "merged",
    "open_trace",
    "snapshotting",
    "synthetic",
]
