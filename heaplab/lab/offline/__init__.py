"""How good could it be: bounds, and the best placement that is known of a trace's blocks.

offline(trace)   -> Offline: the lower bound, and what each heuristic needs
HEURISTICS       by name: what they do, and where they were published
"""

from heaplab.lab.offline.heuristics import HEURISTICS, Heuristic
from heaplab.lab.offline.known import Offline, offline
from heaplab.lab.offline.rectangles import GRANULE, Rectangles

__all__ = ["GRANULE", "HEURISTICS", "Heuristic", "Offline", "Rectangles", "offline"]
