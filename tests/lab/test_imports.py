"""What a command imports does not depend on the directory that it was started in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import heaplab
from heaplab import lab
from heaplab.errors import HeaplabError
from heaplab.lab import pool
from heaplab.traces import synthetic

ROOT = Path(heaplab.__file__).parents[1]
SCRIPT = Path(sys.executable).with_name("heaplab")

#: what stands in the directory: modules that say that they were imported, and end whoever imports them
NAMES = ("numpy", "click", "json", "signal", "multiprocessing", "rich", "matplotlib", "cffi", "zstandard")


@pytest.fixture
def trap(tmp_path):
    """A directory with modules of famous names; one that is imported leaves its name in `imported`."""
    for name in (*NAMES, "heaplab"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} '); raise SystemExit(9)\n"
        )
    (tmp_path / "x.rep").write_text("100\n1\n2\n1\na 0 100\nf 0\n")
    return tmp_path


def imported(trap):
    found = trap / "imported"
    return found.read_text().split() if found.exists() else []


def start(trap, *command, **environment):
    """Run a command in the directory, with empty entries in PYTHONPATH."""
    settings = {**os.environ, "PYTHONPATH": os.pathsep, **environment}
    return subprocess.run(
        [*map(str, command)], cwd=trap, env=settings, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not SCRIPT.exists(), reason="heaplab is not installed as a command beside this Python")
@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["compare", "x.rep", "--allocators=buddy", "--report=out"], 0),
        (["trace", "info", "x.rep"], 0),
        (["record", "-o", "y.hlt", "/bin/ls"], 0),
        (["conform", "--steps=1", "--seeds=1"], None),  # needs root
    ],
)
def test_a_command_imports_nothing_from_where_it_is_started(trap, args, status):
    shown = start(trap, SCRIPT, *args, PYTHONPATH="")
    assert imported(trap) == []
    assert shown.returncode == status or status is None, shown.stderr


def test_workers_import_nothing_from_where_they_are_started(trap):
    program = "import sys; sys.path[:] = [p for p in sys.path if p]; from heaplab import lab; import os\n"
    program += "os.chdir(sys.argv[1]); print(lab.compare(['x.rep'], ['buddy'], jobs=1).runs[0].outcome)"
    script = trap.parent / "script.py"
    script.write_text(program)
    shown = subprocess.run(
        [sys.executable, script, trap],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}"},
        cwd=trap.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (imported(trap), shown.stdout, shown.stderr) == ([], "finished\n", "")


def test_python_m_heaplab_imports_its_libraries_from_where_they_are_installed(trap):
    """`-m` itself looks for heaplab in the working directory: the one module that is taken from there."""
    (trap / "heaplab.py").unlink()
    args = ("-m", "heaplab", "compare", "x.rep", "--allocators=buddy", "--report=out")
    shown = start(trap, sys.executable, *args, PYTHONPATH=str(ROOT))
    assert (imported(trap), shown.returncode, shown.stderr) == ([], 0, "")


def test_an_experiment_imports_nothing_from_where_it_is_started(trap):
    shown = start(trap, sys.executable, ROOT / "experiments/kernel_cost.py", "--help", PYTHONPATH=str(ROOT))
    assert (imported(trap), shown.returncode, shown.stderr) == ([], 0, "")


def test_a_checkout_without_a_build_is_nobodys_heaplab(tmp_path):
    """The package that the parent runs is the one that its workers run."""
    shutil.copytree(ROOT / "heaplab", tmp_path / "heaplab", ignore=shutil.ignore_patterns("*.so", "*.hlt"))
    (tmp_path / "x.rep").write_text("100\n1\n2\n1\na 0 100\nf 0\n")
    script = tmp_path.parent / "elsewhere.py"
    script.write_text("from heaplab.cli import main; main()")
    args = ("compare", "x.rep", "--allocators=buddy")
    shown = start(tmp_path, sys.executable, "-P", script, *args, PYTHONPATH=str(ROOT))
    assert (shown.returncode, shown.stderr) == (0, "")
    shown = start(tmp_path, sys.executable, "-m", "heaplab", *args)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == "heaplab: the C core was not built: run `make build`, or `pip install .`\n"


def test_of_a_designs_folder_only_its_file_is_imported(trap):
    design = trap / "numpy.py"
    design.write_text(
        "import json\nfrom heaplab.allocators.designs.buddy import Buddy\nclass Mine(Buddy):\n    pass\n"
    )
    [run] = lab.compare([synthetic(100)], [str(design)], jobs=1).runs
    assert (run.outcome, run.reason, imported(trap)) == ("finished", "", [])


def test_a_design_may_import_what_lies_on_pythonpath(trap, monkeypatch):
    (trap / "helper.py").write_text("from heaplab.allocators.designs.buddy import Buddy\n")
    design = trap / "design.py"
    design.write_text("from helper import Buddy\nclass Mine(Buddy):\n    pass\n")
    for name in (*NAMES, "heaplab"):
        (trap / f"{name}.py").unlink()
    monkeypatch.syspath_prepend(trap)
    monkeypatch.setenv("PYTHONPATH", str(trap))
    [run] = lab.compare([synthetic(100)], [str(design)], jobs=1).runs
    assert run.outcome == "finished"


def test_workers_that_cannot_start_say_why(monkeypatch, tmp_path):
    (tmp_path / "start_worker.py").write_text("import sys\nprint('no', file=sys.stderr)\nimport nowhere\n")
    monkeypatch.setattr(pool, "__file__", str(tmp_path / "pool.py"))
    why = (
        "a worker cannot start: its process ended with status 1: "
        "ModuleNotFoundError: No module named 'nowhere'"
    )
    with pytest.raises(HeaplabError) as caught:
        lab.compare([synthetic(100)], ["buddy", "rbtree"], jobs=2)
    assert str(caught.value) == why


def test_a_worker_that_cannot_start_later_on_costs_one_run(monkeypatch, tmp_path):
    """The first worker starts and crashes; none after it can start."""
    design = tmp_path / "crashing.py"
    design.write_text(
        "import os, sys\nfrom heaplab.allocators.designs.buddy import Buddy\nclass Crashing(Buddy):\n"
        "    def malloc(self, size):\n        os.write(2, b'out of\\x07 ideas\\n')\n        os._exit(3)\n"
    )
    start = pool._interpreter
    calls = []

    def interpreter():
        calls.append(1)
        return start() if len(calls) == 1 else ["/bin/false"]

    monkeypatch.setattr(pool, "_interpreter", interpreter)
    runs = lab.compare([synthetic(100)], [str(design), "buddy"], jobs=1).runs
    assert [run.reason for run in runs] == [
        "its process ended with status 3: out of  ideas",
        "its worker cannot start: its process ended with status 1",
    ]


def test_a_worker_starts_without_what_no_run_needs():
    code = (
        "import sys, heaplab.lab.worker; "
        "print(*(name for name in sys.modules if name.startswith(('heaplab.lab.adversaries', "
        "'heaplab.lab.sweeping', 'heaplab.lab.forking', 'heaplab.traces.workload'))))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"
