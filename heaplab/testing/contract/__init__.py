"""The contract of malloc as clauses, which every allocator keeps, in whatever language.

    from heaplab.testing import contract

    @pytest.mark.parametrize("clause", contract.CLAUSES, ids=contract.name)
    def test_mine(clause):
        clause(contract.Desk("mine.py"))

A clause is a function that takes a `Desk`, where new heaps on new machines are to be had, and raises
AssertionError (or HeapCorruption) when the allocator breaks it.  CLAUSES are POSIX and the contract of
heaplab/allocators/base.py; DETECTION is what heaplab's own designs notice besides.

>>> for clause in CLAUSES:
...     clause(Desk("freelist", "c"))
"""

from heaplab.testing.contract import blocks, detection, memory
from heaplab.testing.contract.desk import Clause, Desk

CLAUSES = (*blocks.CLAUSES, *memory.CLAUSES)
DETECTION = detection.CLAUSES


def name(clause: Clause) -> str:
    """Return the clause's name, for the ids of tests."""
    return clause.__name__


__all__ = ["CLAUSES", "DETECTION", "Clause", "Desk", "name"]
