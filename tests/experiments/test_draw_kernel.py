"""experiments/draw_kernel.py: it draws the pictures of the pages it is given, and nothing else."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_draws_all_pictures_of_a_page(tmp_path):
    """tests/test_readme.py draws those of all pages, as the script does."""
    script = ROOT / "experiments" / "draw_kernel.py"
    shown = subprocess.run(
        [sys.executable, script, tmp_path / "new", "files.md"], check=True, capture_output=True, text=True
    )
    assert shown.stdout == "files.md\n"
    drawn = sorted(path.name for path in (tmp_path / "new").iterdir())
    saved = re.findall(r'\.save\("([\w-]+\.svg)"\)', (ROOT / "docs" / "files.md").read_text())
    assert drawn == sorted(saved) != []
