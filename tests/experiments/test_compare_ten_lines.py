"""experiments/compare_ten_lines.py: it is what it says, and it runs."""

import ast
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "compare_ten_lines.py"


def test_it_has_ten_lines_of_code_at_most():
    body = ast.parse(SCRIPT.read_text()).body[1:]
    assert sum(statement.end_lineno - statement.lineno + 1 for statement in body) <= 10


def test_it_prints_the_tables_and_makes_the_page(tmp_path):
    shown = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stderr == ""
    for text in ("sqlite: sqlite3 ", "perl: perl ", "lua: lua", "rbtree ", "Geometric means"):
        assert text in shown.stdout
    assert shown.stdout.endswith("figures: compare-report.html\n")
    page = (tmp_path / "compare-report.html").read_text()
    assert all(name in page for name in ("sqlite", "perl", "lua", "rbtree"))
