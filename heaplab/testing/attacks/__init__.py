"""Random program errors against an allocator: what its checks notice, and what they let through.

    attack.py   what an attack is, and how it prints
    draw.py     attacks at random, of every kind
    judge.py    one attack on one heap, and what came of it
    guard.py    calls that may never end
    cell.py     many of them on one design; the smallest example of each bad outcome

Each module imports those above it only.
"""

from heaplab.testing.attacks.attack import Attack
from heaplab.testing.attacks.cell import Cell, cell, table
from heaplab.testing.attacks.draw import KINDS
from heaplab.testing.attacks.judge import SOUND, Outcome

__all__ = ["KINDS", "SOUND", "Attack", "Cell", "Outcome", "cell", "table"]
