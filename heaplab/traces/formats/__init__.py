"""The formats of other programs that heaplab reads: one small grammar each, see docs/traces.md."""

from heaplab.traces.formats.base import Format
from heaplab.traces.formats.heaptrack import Heaptrack
from heaplab.traces.formats.lists import Ostep, WeeAlloc
from heaplab.traces.formats.logalloc import LogAlloc
from heaplab.traces.formats.ltrace import LTrace
from heaplab.traces.formats.malloc_bench import MallocBench
from heaplab.traces.formats.memory_replay import MemoryReplay
from heaplab.traces.formats.mtrace import MTrace
from heaplab.traces.formats.rep import Rep
from heaplab.traces.formats.utrace import UTrace
from heaplab.traces.formats.valgrind import Valgrind

FORMATS: tuple[type[Format], ...] = (
    *(Rep, MemoryReplay, Heaptrack, Ostep, WeeAlloc, MallocBench),  # by how they begin
    *(UTrace, Valgrind, LogAlloc, MTrace, LTrace),  # by a line among others
)
"""In the order in which they are tried."""
