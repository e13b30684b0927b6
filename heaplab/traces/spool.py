"""Traces that are made from others: written to a temporary file once, and read from there."""

import tempfile
from collections.abc import Iterable
from typing import BinaryIO, cast

from heaplab.files import naming
from heaplab.traces.event import Block
from heaplab.traces.hlt import TraceWriter, open_hlt
from heaplab.traces.trace import Provenance, Trace


def spooled(shown: str, blocks: Iterable[Block], provenance: Provenance) -> Trace:
    """Write `blocks` to a temporary .hlt file that lives as long as the trace does, and open that."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the trace is gone
    with naming(tempfile.gettempdir()):
        writer = TraceWriter(cast(BinaryIO, spool), provenance, level=1)
        for block in blocks:
            writer.write(block)
        writer.finish()
        spool.flush()
    return open_hlt(shown, lambda: open(f"/proc/self/fd/{spool.fileno()}", "rb"))
