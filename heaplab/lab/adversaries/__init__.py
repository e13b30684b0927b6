"""Adversaries: programs that ask an allocator for what hurts it, by the addresses that it gives.

adversary(function, allocator)     lets a function drive an allocator -> Duel
Robson, BuddyKiller, Fragmenter    such functions, ready
bounds                             what theorems say that heaps may need, and must
"""

from heaplab.lab.adversaries import bounds
from heaplab.lab.adversaries.buddies import BuddyKiller
from heaplab.lab.adversaries.classes import Fragmenter
from heaplab.lab.adversaries.duel import Duel, adversary
from heaplab.lab.adversaries.opponent import Block, Blocks, Opponent
from heaplab.lab.adversaries.robson import Robson

__all__ = [
    "Block",
    "Blocks",
    "BuddyKiller",
    "Duel",
    "Fragmenter",
    "Opponent",
    "Robson",
    "adversary",
    "bounds",
]
