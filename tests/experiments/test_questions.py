"""Every question of experiments/: its small size runs, and each claim comes out as the script says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from heaplab.native.proving import NotPossible
from heaplab.report.experiment import Experiment
from heaplab.report.pictures.picture import Picture

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
SCRIPTS = sorted(
    path for path in FOLDER.glob("*.py") if re.search(r"^EXPERIMENT = ", path.read_text(), re.MULTILINE)
)


def load(path: Path) -> Experiment:
    """The experiment that a script states."""
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.EXPERIMENT


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_its_small_size(path):
    experiment = load(path)
    try:
        answer = experiment.answer(small=True)
    except NotPossible as missing:
        pytest.skip(str(missing))
    assert answer.findings.tables, "an answer without figures is none"
    assert answer.findings.claims, "an experiment compares with what was published"
    assert [str(claim) for claim in answer.findings.claims if not claim.expected] == []
    assert str(answer).startswith(experiment.question.split()[0])
    svg = Picture(answer, lambda told: experiment.draw(told.findings))._repr_svg_()
    assert len(svg) > 5_000, "a figure with axes is longer"
    assert answer.to_json()


def test_all_puts_the_questions_it_is_asked_to(tmp_path):
    name = SCRIPTS[0].stem
    script = FOLDER / "all.py"
    shown = subprocess.run(
        [sys.executable, script, name, "--small", "--out", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert name in shown
    assert {path.suffix for path in tmp_path.iterdir()} == {".txt", ".json", ".svg"}


def test_all_refuses_a_name_that_is_no_experiment(tmp_path):
    command = [sys.executable, FOLDER / "all.py", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "no experiment nonsense" in done.stderr
