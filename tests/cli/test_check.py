"""`heaplab check` from the command line."""

import json
import re

import pytest
from click.testing import CliRunner

from heaplab.cli import main


def heaplab(*args):
    return CliRunner().invoke(main, list(map(str, args)))


def test_a_sound_design_is_one_screen_and_status_0(tmp_path):
    result = heaplab("check", "slab", "--steps=300", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "slab (c) keeps the contract of malloc."
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:2] == ["contract", "passed"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["passed"] is True
    assert [part["name"] for part in found["parts"]] == ["contract", "refusals", "fuzz", "traces"]


def test_what_is_broken_is_named_with_steps_and_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Mine(Buddy):\n"
        "    def _free(self, p):\n"
        "        if self._usable(p) > 500:\n"
        "            raise KeyError(p)\n"
        "        super()._free(p)\n"
    )
    result = heaplab("check", path, "--steps=300", "--shrink-seconds=10")
    assert result.exit_code == 1, result.output
    text = result.stdout
    assert text.startswith(f"{path} (python) BREAKS the contract of malloc.")
    assert re.search(r"    malloc 0 \d+\n    free 0\n  What broke: free 0: KeyError", text), text
    assert "At mine.py:5" in text
    assert "Also broken: " in text


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["check", "budy"], "there is no allocator 'budy' in c: did you mean 'buddy'?"),
        (["check", "nowhere.py"], "nowhere.py"),
        (["check", "buddy", "--seconds=0"], "Invalid value for '--seconds'"),
        (["check", "buddy", "--json", "/nowhere/x.json"], "there is no directory /nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, sentence):
    result = heaplab(*args)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
