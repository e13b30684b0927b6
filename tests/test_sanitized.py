"""The C sources under AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`, on a selection.

The build stands in build/sanitized and is kept; the normal one is not touched.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import host_environment

ROOT = Path(__file__).resolve().parents[1]
#: the machine, the parts in C, and every design in C with a history and broken; `make sanitize` alone runs
#: more.  The indices in C have the sanitizers wherever their tests run (test_indices_on_array.py).
SELECTION = (
    "tests/machine tests/allocators/parts/test_bitmap.py tests/allocators/parts/test_pagemap.py "
    "tests/allocators/test_looking.py -k 'not python'"
)

# A space that believes to have more entries in the TLB than it has.
OUT_OF_BOUNDS = """
from heaplab._core import lib
from heaplab.machine import Machine, Space
machine = Machine("64 KiB", page_size=256, tlb=16)
space = Space(machine)
space.raw.cached = 1
lib.hl_flush_space(space.raw)
"""


def library(name: str) -> Path:
    """Where the compiler keeps one of its libraries; the bare name when it has none."""
    command = ["cc", f"-print-file-name={name}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=host_environment())
    return Path(done.stdout.strip())


def missing() -> str:
    """What this computer lacks for the build, or nothing."""
    if shutil.which("make") is None or shutil.which("cc") is None:
        return "needs make and cc"
    lacking = [name for name in ("libasan.so", "libubsan.so") if not library(name).is_absolute()]
    return f"the C compiler has no {' and no '.join(lacking)}" if lacking else ""


def sanitize(tests: str) -> tuple[int, str]:
    """The exit status and output of `make sanitize` on these tests, under this Python."""
    command = ["make", "sanitize", f"PY={sys.executable}", f"SANITIZED_TESTS={tests}"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=host_environment(),
    )
    return done.returncode, done.stdout[-8000:]


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_tests_pass_under_the_sanitizers_and_a_planted_fault_does_not(tmp_path: Path) -> None:
    status, output = sanitize(SELECTION)
    assert status == 0, output
    assert " passed" in output

    planted = tmp_path / "test_planted.py"
    planted.write_text(f"def test_planted():\n    exec({OUT_OF_BOUNDS!r})\n")
    status, output = sanitize(str(planted))
    assert status == 2, output
    assert "heap-buffer-overflow" in output
    assert "hl_flush_space" in output
