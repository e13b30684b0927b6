"""The judge judged: mistakes planted in the model one at a time, each of which the sequences must find.

plant                           how a mistake gets into the model, and out again
pages, memory, remap, files, pipes, processes, signals, counts   the mistakes
verdict, table                  sequences on each, until it is found; what became of them
"""

from typing import Final

from heaplab.testing.conform.mutants.counts import COUNTS
from heaplab.testing.conform.mutants.files import FILES
from heaplab.testing.conform.mutants.memory import MEMORY
from heaplab.testing.conform.mutants.pages import PAGES
from heaplab.testing.conform.mutants.pipes import PIPES
from heaplab.testing.conform.mutants.plant import Edit, Mutant, planted
from heaplab.testing.conform.mutants.processes import PROCESSES
from heaplab.testing.conform.mutants.remap import REMAP
from heaplab.testing.conform.mutants.signals import HANDLERS, SIGNALS
from heaplab.testing.conform.mutants.table import show
from heaplab.testing.conform.mutants.verdict import CAUGHT, Verdict, judge

#: all there are, by name
MUTANTS: Final = {
    mutant.name: mutant
    for mutant in (*PAGES, *MEMORY, *REMAP, *FILES, *PIPES, *PROCESSES, *SIGNALS, *HANDLERS, *COUNTS)
}

__all__ = ["CAUGHT", "MUTANTS", "Edit", "Mutant", "Verdict", "judge", "planted", "show"]
