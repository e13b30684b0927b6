"""How fast are heaplab's designs as the malloc of programs, beside the allocators that people use?

    python experiments/native_speed.py                  everything, some minutes
    python experiments/native_speed.py exchange --quick
    python experiments/native_speed.py --json FILE      every figure, of every round

traces     bundled traces, played under LD_PRELOAD by heaplab's player, no clock inside
exchange   blocks of a table are replaced; two threads swap tables, so each frees what the other allocated
small      small blocks, freed in the opposite order, or in another one
resident   resident bytes over live ones, at the peaks of the bundled traces

Rounds are interleaved: each round asks every allocator once, in another order.  Figures are nanoseconds of
processor time for an operation, medians over the rounds, with the distance of the quartiles in percent.
Those of the traces contain the harness and the writing of payloads, alike for all; the floor is what these
take alone.  A figure that falls short of its aim is printed as it is.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from heaplab._core import lib
from heaplab.compiling import compile_c
from heaplab.lab.metrics import geometric_mean
from heaplab.native.peers import Peer, find_peers
from heaplab.native.stage import Stage
from heaplab.traces import corpus, open_trace

SPANS, RBTREE, BUDDY = "heaplab:spans", "heaplab:rbtree", "heaplab:buddy"
CHECKS = (f"{SPANS}:checks=links", f"{SPANS}:checks=none")
ALLOCATORS = ("glibc", "mimalloc", "jemalloc", SPANS, *CHECKS, RBTREE, BUDDY)
QUICK_TRACES = ("lua", "gcc", "perl", "sqlite", "node")
FLOOR = "floor"


class Aim(NamedTuple):
    """The figures of one allocator are to be at most `most` times another's; row: in this one alone."""

    what: str
    whose: str
    beside: str
    most: float
    row: str | None = None


class Rounds:
    """What the rounds of one question took: values by row and by allocator, as they were asked."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, name: str, value: float) -> None:
        self.values.setdefault(row, {}).setdefault(name, []).append(value)

    def median(self, row: str, name: str) -> float:
        return statistics.median(self.values[row][name])

    def spread(self, row: str, name: str) -> float:
        """Return the distance of the quartiles as a share of the median."""
        low, high = np.quantile(self.values[row][name], (0.25, 0.75))
        return float(high - low) / self.median(row, name)

    def ratio(self, rows: Iterable[str], whose: str, beside: str) -> float:
        """Return the geometric mean over the rows of one allocator's medians by another's."""
        return geometric_mean([self.median(row, whose) / self.median(row, beside) for row in rows])


def interleaved(peers: Sequence[Peer], rounds: int) -> Iterator[Peer]:
    """Yield every allocator in each round, beginning with another one each time."""
    for number in range(rounds):
        first = number % len(peers)
        yield from (*peers[first:], *peers[:first])


# ---- the questions ----


def ask_traces(peers: Sequence[Peer], quick: bool) -> tuple[Rounds, list[Aim]]:
    """Play the traces; those of several processes play them in one player each."""
    taken = Rounds()
    for name in QUICK_TRACES if quick else corpus.names():
        with closing(Stage(open_trace(name))) as stage:
            rounds = 3 if quick else 5
            for _ in range(rounds):
                floor = stage.play(lib.HL_PLAY_FLOOR, None).raw
                taken.add(name, FLOOR, int(floor.ns) / int(floor.operations))
            for peer in interleaved(peers, rounds):
                played = stage.play(lib.HL_PLAY_TIME, peer.library, aligned=peer.aligned)
                if played.why != lib.HL_PLAY_DONE:
                    raise click.ClickException(f"{peer} did not finish {name}: {played.said}")
                taken.add(name, str(peer), int(played.raw.ns) / int(floor.operations))
    return taken, [
        Aim("spans, one thread, traces", SPANS, "mimalloc", 1.0),
        Aim("rbtree, traces", RBTREE, "glibc", 1.35),
        Aim("buddy, traces", BUDDY, "glibc", 1.0),
    ]


def works(modes: Sequence[str], peers: Sequence[Peer], quick: bool) -> Rounds:
    """Run native_speed.c's work under each allocator."""
    source = Path(__file__).resolve().with_suffix(".c")
    program = compile_c("native_speed", [source], ["-O2", "-fno-builtin", "-pthread"])
    taken, operations = Rounds(), 1_000_000 if quick else 4_000_000
    for mode in modes:
        for peer in interleaved(peers, 3 if quick else 9):
            environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
            if peer.library is not None:
                environment["LD_PRELOAD"] = str(peer.library)
            command = [str(program), mode, str(operations)]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            taken.add(mode, str(peer), float(done.stdout))
    return taken


def ask_exchange(peers: Sequence[Peer], quick: bool) -> tuple[Rounds, list[Aim]]:
    """Replace blocks of a table: in one thread, and in two that swap their tables."""
    one, two = "one thread", "two threads, frees of the other's blocks"
    taken = works(["one", "two"], peers, quick)
    taken.values = {one: taken.values["one"], two: taken.values["two"]}
    return taken, [Aim(f"spans, {row}", SPANS, "mimalloc", 1.0, row) for row in (one, two)]


def ask_small(peers: Sequence[Peer], quick: bool) -> tuple[Rounds, list[Aim]]:
    """Allocate small blocks, and free the newest first, or in an order without sense."""
    return works(["lifo", "random"], peers, quick), []


def ask_resident(peers: Sequence[Peer], quick: bool) -> tuple[Rounds, list[Aim]]:
    """Look at resident pages after the events of each trace; nothing of it differs from round to round."""
    taken = Rounds()
    for name in QUICK_TRACES if quick else corpus.names():
        with closing(Stage(open_trace(name))) as stage:
            for peer in peers:
                raw = stage.play(lib.HL_PLAY_SPACE, peer.library, aligned=peer.aligned).raw
                taken.add(name, str(peer), int(raw.peak_resident) * 4096 / int(raw.peak_live))
    return taken, [Aim("spans, resident over live", SPANS, "glibc", 1.0)]


QUESTIONS: dict[str, Callable[[Sequence[Peer], bool], tuple[Rounds, list[Aim]]]] = {
    "traces": ask_traces,
    "exchange": ask_exchange,
    "small": ask_small,
    "resident": ask_resident,
}


# ---- what is shown ----


def show(console: Console, question: str, taken: Rounds) -> None:
    """Print a row for each trace or kind of work, and the geometric means."""
    unit = "resident / live" if question == "resident" else "ns/op, ± %"
    names = list(next(iter(taken.values.values())))
    table = Table(f"{question}: {unit}", *(name.removeprefix("heaplab:") for name in names))
    for row in taken.values:
        cells = []
        for name in names:
            spread = "" if question == "resident" else f" ±{100 * taken.spread(row, name):.0f}"
            cells.append(f"{taken.median(row, name):.{2 if question == 'resident' else 1}f}{spread}")
        table.add_row(row, *cells)
    if "glibc" in names:
        ratios = (taken.ratio(taken.values, name, "glibc") for name in names)
        table.add_row("geometric mean / glibc", *(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)


@click.command()
@click.argument("questions", nargs=-1, type=click.Choice(list(QUESTIONS)))
@click.option("--quick", is_flag=True, help="Few traces and rounds.")
@click.option("--json", "output", type=click.Path(dir_okay=False), help="Write every figure as JSON.")
def main(questions: Sequence[str], quick: bool, output: str | None) -> None:
    """Ask the questions named, or all, and compare with the aims."""
    console = Console(width=max(150, Console().width))
    peers, missing = find_peers(ALLOCATORS)
    for sentence in missing:
        console.print(sentence)
    there = {str(peer) for peer in peers}
    table = Table("aim", "figure", "at most", "met")
    figures: dict[str, object] = {}
    for question in questions or QUESTIONS:
        taken, aims = QUESTIONS[question](peers, quick)
        show(console, question, taken)
        found = {}
        for aim in aims:
            if aim.beside not in there:
                continue
            rows = taken.values if aim.row is None else [aim.row]
            found[aim.what] = ratio = taken.ratio(rows, aim.whose, aim.beside)
            times = f"{ratio:.2f} times {aim.beside}"
            table.add_row(aim.what, times, f"{aim.most:.2f}", "yes" if ratio <= aim.most else "NO")
        figures[question] = {"values": taken.values, "aims": found}
    console.print(table)
    if output is not None:
        Path(output).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
