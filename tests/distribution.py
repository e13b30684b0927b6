"""What `make dist-check` does: is what was built whole, and does it work where it is installed?

    python tests/distribution.py DIRECTORY      with one wheel and one sdist of heaplab in it

Each is looked into, installed in a new environment outside the tree, and tried there.  Needs a network, or
whatever else pip takes its packages from.
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: a heap in each language, a bundled trace, and a design in a file
SCRIPT = """
from heaplab import allocators
from heaplab.csrc import c_sources
from heaplab.kernel import Kernel
from heaplab.traces import corpus

for language in allocators.LANGUAGES:
    for name in allocators.names(language):
        shell = Kernel(ram="16 MiB", seed=1).init.fork()
        heap = allocators.create(name, shell, language)
        p = heap.malloc(100)
        child = shell.fork()
        heap.attach(child).free(p)
        heap.check()
assert corpus.names()
outside = "./mine.c"
with open(outside, "w") as file:
    file.write((c_sources() / "designs" / "buddy.c").read_text())
assert allocators.create(outside, Kernel(ram="16 MiB", seed=1).init.fork()).malloc(100)
"""

#: below the wheel's or the sdist's root
IN_BOTH = ["heaplab/py.typed", "heaplab/_core/_heaplab.pyi", "heaplab/traces/corpus/sqlite.hlt"]
#: without the suffix that the Python at hand gives them
BUILT = ["heaplab/_core/_heaplab", "heaplab/native/_recorder", "heaplab/native/_monitor"]
BUILT += ["heaplab/_confine", "heaplab/native/_player", "heaplab/testing/conform/_agent"]
IN_SDIST = ["csrc/heap/heap.h", "csrc/record/recorder.c", "heaplab/_core/cdef/10_machine.h", "Makefile"]
IN_SDIST += ["tests/test_layering.py", "docs/design.md", "LICENSE", "CHANGELOG.md", "setup.py"]


def verify_contents(wheel: Path, sdist: Path) -> None:
    """Raise SystemExit for what is missing, or should not be there."""
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = [name.partition("/")[2] for name in archive.getnames()]
    wanted = {wheel: (in_wheel, IN_BOTH), sdist: (in_sdist, IN_BOTH + IN_SDIST)}
    for made, (names, needed) in wanted.items():
        if missing := set(needed) - set(names):
            raise SystemExit(f"{made.name} lacks {', '.join(sorted(missing))}")
    built = [name for name in in_wheel if name.endswith(".so")]
    for library in BUILT:
        if not any(name.startswith(library) for name in built):
            raise SystemExit(f"{wheel.name} lacks {library}, and holds {built}")
    if stray := [name for name in in_sdist if name.endswith((".so", ".o", ".pyc"))]:
        raise SystemExit(f"{sdist.name} holds what was built: {', '.join(stray)}")


def try_out(made: Path) -> None:
    """Install `made` in a new environment and use it from there, outside the tree."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(Path(directory) / "venv", with_pip=True)
        bin_ = Path(directory) / "venv" / "bin"

        def run(*command: str | Path) -> str:
            done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{made.name}: {' '.join(map(str, command))} ended with {done.returncode}")
            return done.stdout

        run(bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", made)
        where = run(bin_ / "python", "-c", "import heaplab; print(heaplab.__file__)")
        if not where.startswith(directory):
            raise SystemExit(f"{made.name} was tried as {where.strip()}, not where it was installed")
        run(bin_ / "python", "-c", SCRIPT)
        for command in ([bin_ / "heaplab"], [bin_ / "python", "-m", "heaplab"]):
            if "compare" not in run(*command, "--help"):
                raise SystemExit(f"{made.name}: heaplab --help does not name its commands")
        run(bin_ / "heaplab", "record", "-o", "ls.hlt", "--", "ls")
        run(bin_ / "heaplab", "native", "run", "rbtree", "--", "ls")
        pair = ["--allocators", "buddy,rbtree"]
        table = run(bin_ / "heaplab", "compare", "--quiet", *pair, "sqlite", "ls.hlt")
        if "buddy" not in table:
            raise SystemExit(f"{made.name}: heaplab compare shows no table:\n{table}")
    print(f"{made.name}: installed and tried")


def main() -> None:
    """Check the wheel and the sdist in the directory given."""
    directory = Path(sys.argv[1]).resolve()
    (wheel,), (sdist,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    verify_contents(wheel, sdist)
    for made in (wheel, sdist):
        try_out(made)


if __name__ == "__main__":
    main()
