"""docs/systems.md keeps its word: the sections and the tests that it names are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(
    r"^\| (\d+) \|.*\]\((\S+)#(\S+)\) \| `(\w+)` \|$", (ROOT / "docs/systems.md").read_text(), re.M
)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("*.py")
    for name in re.findall(r"def (test_\w+)\(", path.read_text())
}


def test_there_are_eighteen() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 19))


@pytest.mark.parametrize(("number", "page", "section", "test"), ROWS)
def test_a_system_is_shown_and_tested(number: str, page: str, section: str, test: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    headings = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"): heading for heading in headings}
    assert section in anchors
    shown = text.partition(f"## {anchors[section]}\n")[2].split("\n## ")[0]
    assert ">>>" in shown, f"{page} shows nothing under {anchors[section]}"
    assert test in TESTS
