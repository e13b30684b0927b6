"""The contract of malloc as clauses, which every allocator keeps, in whatever language.

    from heaplab.testing import contract

    @pytest.mark.parametrize("clause", contract.applying("mine.py"), ids=contract.name)
    def test_mine(clause):
        clause(contract.HeapFactory("mine.py"))

A clause is a function that takes a `HeapFactory`, where new heaps on new machines are to be had, and raises
AssertionError (or a HeaplabError) when the allocator breaks it.  CLAUSES are POSIX, the contract of
heaplab/allocators/base.py, and what the traits of a design promise besides: `applying` gives the clauses of a
design, and `left_out` says of each other one which traits the design lacks.

>>> for clause in applying("freelist", "c"):
...     clause(HeapFactory("freelist", "c"))
>>> left_out("freelist:checks=links")["a_double_free_is_noticed"]
'it is for designs with DETECTS'
"""

from heaplab.allocators import Allocator, Spec
from heaplab.testing.contract import blocks, detection, memory, refusals, threads
from heaplab.testing.contract.factory import Clause, HeapFactory, clause, needed, needs

CLAUSES = (*blocks.CLAUSES, *memory.CLAUSES, *refusals.CLAUSES, *detection.CLAUSES, *threads.CLAUSES)


def name(clause: Clause) -> str:
    """Return the clause's name, for the ids of tests."""
    return clause.__name__


def applying(design: str | Spec | type[Allocator], language: str = "python") -> tuple[Clause, ...]:
    """Return the clauses that a design has to keep."""
    traits = HeapFactory(design, language).traits
    return tuple(clause for clause in CLAUSES if needed(clause) in traits)


def left_out(design: str | Spec | type[Allocator], language: str = "python") -> dict[str, str]:
    """Return the names of the other clauses, and why each does not apply."""
    traits = HeapFactory(design, language).traits
    return {
        name(clause): f"it is for designs with {' and '.join(trait.name or '' for trait in missing)}"
        for clause in CLAUSES
        if (missing := needed(clause) & ~traits)
    }


__all__ = ["CLAUSES", "Clause", "HeapFactory", "applying", "clause", "left_out", "name", "needed", "needs"]
