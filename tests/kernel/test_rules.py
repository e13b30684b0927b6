"""Every rule of docs/linux-rules.md has a test that bears its number, and no number is cited that is none."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "linux-rules.md").read_text()
RULES = [int(number) for number in re.findall(r"^(\d+)\. ", TEXT, re.MULTILINE)]
TESTED = {
    int(number)
    for path in Path(__file__).parent.rglob("test_*.py")
    for number in re.findall(r"^def test_rule_(\d+)_", path.read_text(), re.MULTILINE)
}


def test_there_are_fifty() -> None:
    assert list(range(1, 51)) == RULES


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_tested(rule: int) -> None:
    assert rule in TESTED


def test_what_is_cited_is_a_rule() -> None:
    assert set(RULES) >= TESTED
    for path in (ROOT / "heaplab" / "kernel").rglob("*.py"):
        for cited in re.findall(r"\brules? (\d+(?:(?:, | and | to )\d+)*)", path.read_text()):
            assert {int(number) for number in re.findall(r"\d+", cited)} <= set(RULES), (
                f"{path.name}: {cited}"
            )
