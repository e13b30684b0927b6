"""Errors carry their cause, and the two languages number the rules of a heap alike."""

from heaplab._core import lib
from heaplab.errors import HeapCorruption, Rule, SegmentationFault


def test_c_numbers_the_rules_as_python_does() -> None:
    for rule in Rule:
        assert getattr(lib, f"HEAP_{rule.name}") == rule


def test_every_rule_has_a_sentence_of_its_own() -> None:
    assert len({rule.text for rule in Rule}) == len(Rule)


def test_corruption_names_block_and_rule() -> None:
    error = HeapCorruption(0x1234, Rule.DOUBLE_FREE)
    assert "0x1234" in str(error)
    assert "double free" in str(error)


def test_a_segmentation_fault_names_process_address_and_reason() -> None:
    text = str(SegmentationFault(7, 0xDEAD, 1, "write"))
    assert all(part in text for part in ("process 7", "0xdead", "SEGV_MAPERR", "write"))
