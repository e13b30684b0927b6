"""Puts every question of this folder: `make experiments`.

    python experiments/all.py [--small] [--jobs N] [--out DIRECTORY] [NAME ...]

Each script that states an EXPERIMENT runs in a process of its own; what it prints goes to NAME.txt, its
figures to NAME.json and NAME.svg.  The table at the end says which published claims ours agree with.  A
script that fails costs its own row.  Exit status: 1 when a script failed, or a claim came out otherwise than
its script says.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Outcome:
    """How one script went.  claims: as its JSON has them.  fault: its last line, if it failed."""

    name: str
    question: str
    claims: list[dict[str, object]]
    seconds: float
    status: int
    fault: str


def scripts() -> list[str]:
    """Return the names of the scripts that state an experiment."""
    return sorted(
        path.stem
        for path in HERE.glob("*.py")
        if re.search(r"^EXPERIMENT = ", path.read_text(), re.MULTILINE)
    )


def put(name: str, out: Path, *, small: bool) -> Outcome:
    """Run one script, and keep what it prints and draws."""
    said, figures = out / f"{name}.txt", out / f"{name}.json"
    figures.unlink(missing_ok=True)
    command = [sys.executable, HERE / f"{name}.py", *(["--small"] if small else [])]
    files = ["--json", figures, "--figure", out / f"{name}.svg"]
    begun = time.perf_counter()
    with said.open("wb") as file:
        done = subprocess.run([*command, *files], stdout=file, stderr=subprocess.PIPE, text=True, check=False)
    took = time.perf_counter() - begun
    answer = json.loads(figures.read_text()) if figures.exists() else {"question": "", "claims": []}
    fault = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
    return Outcome(name, answer["question"], answer["claims"], took, done.returncode, fault)


def run_all(names: list[str], out: Path, jobs: int, *, small: bool) -> Iterator[Outcome]:
    """Run the scripts, `jobs` at once; yield how each went, in their order."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda name: put(name, out, small=small), names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a script, without .py; by default all")
    parser.add_argument("--small", action="store_true", help="the sizes that the tests run")
    parser.add_argument("--jobs", type=int, default=2, help="scripts at once")
    parser.add_argument("--out", type=Path, default=Path("build/experiments"), help="a directory")
    options = parser.parse_args()
    known = scripts()
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"no experiment {', '.join(unknown)}: there are {', '.join(known)}")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: give 1 or more")
    names = options.names or known
    options.out.mkdir(parents=True, exist_ok=True)
    progress = Console(stderr=True)
    running = run_all(names, options.out, options.jobs, small=options.small)
    bar = track(running, "experiments", len(names), console=progress, transient=True)
    outcomes = list(bar if progress.is_terminal else running)
    table = Table("script", "question", "claims", "ours agrees", "seconds", box=None)
    for each in outcomes:
        agrees = sum(bool(claim["holds"]) for claim in each.claims)
        table.add_row(
            each.name,
            Text(each.fault or each.question),
            str(len(each.claims)),
            str(agrees),
            f"{each.seconds:.0f}",
        )
    Console(width=max(100, Console().width)).print(table)
    print(f"\ntexts, figures: {options.out}")
    return int(any(each.status for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
