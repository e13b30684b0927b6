"""Every registered allocator keeps the contract, in both languages."""

import pytest

from heaplab import allocators
from heaplab.testing import contract
from heaplab.testing.contract import Desk

#: the defaults of every design, and those of its parameters that take other ways through it
SPECS = [
    *allocators.names("python"),
    "freelist:fit=next:order=address",
    "freelist:fit=best:order=fifo",
    "freelist:fit=worst:order=address",
]


@pytest.fixture(
    params=[(spec, language) for spec in SPECS for language in allocators.LANGUAGES], ids=" ".join
)
def desk(request):
    return Desk(*request.param)


@pytest.mark.parametrize("clause", contract.CLAUSES, ids=contract.name)
def test_contract(clause, desk):
    clause(desk)


@pytest.mark.parametrize("clause", contract.DETECTION, ids=contract.name)
def test_detection(clause, desk):
    clause(desk)
