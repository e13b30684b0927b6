"""The worst trace of an allocator, as far as a search finds it.

worst(allocator, ...)   searches, and makes the worst trace that it found smaller -> Worst
"""

from heaplab.testing.worst.programs import Phase, Program
from heaplab.testing.worst.search import BUDGET, GOALS, LEAST, Progress, Worst, worst

__all__ = ["BUDGET", "GOALS", "LEAST", "Phase", "Program", "Progress", "Worst", "worst"]
