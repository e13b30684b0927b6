"""docs/own-design.md: the design that it shows stands in experiments, and the package that it shows works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import host_environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "own-design.md").read_text()
EXPERIMENTS = ROOT / "experiments"


def block(language: str, holding: str) -> str:
    """The one block of this language with these words in it."""
    [found] = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if holding in text]
    return str(found)


def test_the_design_shown_is_the_one_in_experiments() -> None:
    assert block("c", "HEAP_DESIGN") == (EXPERIMENTS / "lifo.c").read_text()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder into which pip has installed the package of the page."""
    package = tmp_path / "source" / "lifoheaps"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(block("toml", "entry-points"))
    (package / "__init__.py").touch()
    (package / "lifo.py").write_text(block("python", "Lifo ="))
    (package / "lifo.c").write_text((EXPERIMENTS / "lifo.c").read_text())
    (package / "implicit.py").write_text((EXPERIMENTS / "implicit.py").read_text())
    pytest.importorskip("setuptools")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(tmp_path / "target")]
    subprocess.run([*command, str(package.parent)], check=True, capture_output=True, env=host_environment())
    return tmp_path / "target"


def test_a_package_offers_designs_by_name(installed: Path, tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    (tmp_path / "small.rep").write_text("1000\n2\n4\n1\na 0 100\na 1 200\nf 0\nf 1\n")

    def heaplab(*arguments: str) -> str:
        command = [sys.executable, "-m", "heaplab", *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
        ).stdout

    rows = heaplab("compare", "--quiet", "small.rep", "--allocators", "lifo:top_pad=0,implicit,freelist")
    for name in ("lifo:top_pad=0", "implicit", "freelist"):
        assert re.search(rf"^{name} ", rows, re.MULTILINE)
    assert heaplab("native", "run", "lifo", "--", "ls").split() == ["small.rep", "source", "target"]
    assert "no failure" in heaplab("fuzz", "lifo", "--steps", "500", "--quiet")
