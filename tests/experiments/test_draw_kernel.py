"""experiments/draw_kernel.py: it draws every picture of the pages, and nothing else."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_draws_all_pictures_of_the_pages(tmp_path):
    script = ROOT / "experiments" / "draw_kernel.py"
    subprocess.run([sys.executable, script, tmp_path / "new"], check=True)
    drawn = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert drawn == sorted(path.name for path in (ROOT / "docs" / "img").glob("*.svg"))
