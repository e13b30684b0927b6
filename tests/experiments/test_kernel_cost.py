"""experiments/kernel_cost.py runs, and says where its results are."""

import csv
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "kernel_cost.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], check=False, capture_output=True, text=True
    )


def test_the_smallest_size(tmp_path):
    done = run("resident", "--most", "1 MiB", "--out", str(tmp_path / "costs"))
    assert done.returncode == 0, done.stderr
    assert "first write after fork" in done.stdout
    with (tmp_path / "costs" / "resident.csv").open() as file:
        rows = list(csv.DictReader(file))
    sides = {row["side"] for row in rows}
    assert sides >= {"copy-on-write", "shared-tables", "eager"}
    assert {row["call"] for row in rows} == {
        "fork",
        "vfork",
        "exec",
        "forkexec",
        "copy",
        "reuse",
        "zero",
        "mmap",
    }
    assert all(0 < float(row["seconds"]) < 1 for row in rows)
    assert (tmp_path / "costs" / "resident.png").read_bytes()[1:4] == b"PNG"


def test_mistakes_are_one_sentence(tmp_path):
    for arguments in (["colour"], ["--most", "much"], ["--most", "1 KiB"]):
        done = run(*arguments, "--out", str(tmp_path / "none"))
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("kernel_cost.py: error: ")
    assert not (tmp_path / "none").exists()
