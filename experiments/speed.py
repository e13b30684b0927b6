"""How fast is heaplab?  One run, both sides, ratios.

    python experiments/speed.py               everything, about six minutes
    python experiments/speed.py fork          one question of: traces, python, fault, fork, large, memory
    python experiments/speed.py --json FILE   the same, and every figure in a file

Every question is asked in interleaved rounds and answered with medians, because machines are noisy; the aim
stands beside the figure, and a figure that falls short is printed as it is.
"""

import argparse
import ctypes
import json
import mmap
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from heaplab import allocators, lab
from heaplab._core import lib
from heaplab.allocators.stated import designs
from heaplab.kernel import Kernel
from heaplab.lab.metrics import geometric_mean
from heaplab.lab.replay import Replay
from heaplab.native.peers import find_peer
from heaplab.native.stage import Stage
from heaplab.traces import Provenance, Trace, TraceWriter, corpus, open_trace, synthetic
from heaplab.units import format_size

GIB = 1 << 30
PAGE = 4096
PR_SET_THP_DISABLE = 41
LIBC = ctypes.CDLL(None)


class Answer(NamedTuple):
    """One figure beside its aim."""

    what: str
    figure: str
    aim: str
    met: bool


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


#: what --json writes besides the answers: the seconds of each round, by question
ROUNDS: dict[str, Any] = {}


def in_turn(rounds: int, sides: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return the seconds of each side in interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(side())
    return taken


def medians(rounds: int, sides: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Return the median of each side's seconds over interleaved rounds."""
    return {name: statistics.median(values) for name, values in in_turn(rounds, sides).items()}


def spread(values: list[float]) -> float:
    """Return the distance of the quartiles, as a share of the median."""
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


# ---- fork: 1 GiB resident, on the model and on the real kernel ----


def model_fork() -> Callable[[], float]:
    """Return a fork of a model process with 1 GiB resident, timed."""
    kernel = Kernel(ram=2 * GIB)
    parent = kernel.init.fork()
    base = parent.mmap(GIB)
    for page in range(base, base + GIB, PAGE):
        parent.store64(page, 1)

    def fork() -> float:
        start = time.perf_counter()
        child = parent.fork()
        taken = time.perf_counter() - start
        child.exit(0)
        parent.wait()
        return taken

    return fork


def serve_real_forks() -> None:
    """Hold 1 GiB in ordinary pages, and for each line read print how long a fork of this process took."""
    LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    region = mmap.mmap(-1, GIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, GIB, PAGE):
        region[page] = 1
    for _ in sys.stdin:
        start = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        taken = time.perf_counter() - start
        os.waitpid(pid, 0)
        print(taken, flush=True)


@contextmanager
def real_fork() -> Iterator[Callable[[], float]]:
    """Give a fork of a real process with 1 GiB resident, timed.

    A process of its own, because the model's memory would count in this one.
    """
    command = [sys.executable, __file__, "real-fork"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        ask, answer = server.stdin, server.stdout

        def fork() -> float:
            ask.write("\n")
            return float(answer.readline())

        yield fork
        ask.close()


def ask_fork() -> Iterator[Answer]:
    """Ask how long a fork of 1 GiB takes on both kernels."""
    with real_fork() as real:
        taken = medians(9, {"real": real, "model": model_fork()})
    yield Answer(
        "fork, 1 GiB resident",
        f"{taken['model'] * 1e3:.1f} ms, the real kernel {taken['real'] * 1e3:.1f} ms: "
        f"{taken['model'] / taken['real']:.2f} times",
        "at most 1 times",
        taken["model"] <= taken["real"],
    )


# ---- fault: demand-zero ----


def ask_fault() -> Iterator[Answer]:
    """Ask what the first write to an anonymous page takes more than the second.

    Whole pages are filled in C.  The host has committed the frames before, so zeroing them is in the figure,
    and the host's own faults are not.  Processor time.
    """
    pages, times = 500, 40
    process = Kernel(ram="64 MiB").init.fork()

    def own_seconds(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    def fault() -> float:
        taken = 0.0
        for _ in range(times):
            base = process.mmap(pages * PAGE)
            process.store64(base, 1)  # the first fault of a VMA is the kernel's
            twice = [
                own_seconds(lambda base=base: process.fill(base + PAGE, 1, (pages - 1) * PAGE))
                for _ in range(2)
            ]
            taken += twice[0] - twice[1]
            process.munmap(base, pages * PAGE)
        return taken / times / (pages - 1)

    fault()
    taken = in_turn(9, {"fault": fault})["fault"]
    ROUNDS["fault"] = taken
    median = statistics.median(taken)
    yield Answer(
        "demand-zero fault on the model, the zeroing of the page included",
        f"{median * 1e6:.3f} us",
        "at most 0.1 us",
        median <= 0.1e-6,
    )


# ---- large: blocks with a mapping each ----


def large_pairs(live: int, pairs: int = 2000) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return, with `live` blocks of 200 kB: seconds of a free and a malloc; references of a free."""
    process = Kernel(ram="1 GiB").init.fork()
    heap = allocators.create("rbtree:mmap_threshold=128KiB", process, "c")
    chance = random.Random(1)
    blocks = [heap.malloc(200_000) for _ in range(live)]

    def pair() -> float:
        places = [chance.randrange(live) for _ in range(pairs)]
        start = time.perf_counter()
        for place in places:
            heap.free(blocks[place])
            blocks[place] = heap.malloc(200_000)
        return (time.perf_counter() - start) / pairs

    def references() -> float:
        before = process.context.mems
        heap.free(blocks[live // 2])
        taken = process.context.mems - before
        blocks[live // 2] = heap.malloc(200_000)
        return taken

    return pair, references


def ask_large() -> Iterator[Answer]:
    """Ask what a free of a large block costs among 10 and among 10,000 of them."""
    few, many = large_pairs(10), large_pairs(10_000)
    taken = medians(5, {"10": few[0], "10,000": many[0]})
    ratio = taken["10,000"] / taken["10"]
    yield Answer(
        "free and malloc of 200 kB among 10,000 such blocks",
        f"{taken['10,000'] * 1e6:.1f} us with munmap and mmap, {ratio:.2f} times that among 10; "
        f"a free: {many[1]():.0f} references, {few[1]():.0f} among 10",
        "at most 2 times",
        ratio <= 2,
    )


# ---- python: the readable allocators ----


def churn(spec: str, operations: int, live: int = 10_000) -> float:
    """Return seconds an operation: free a random block of `live`, allocate one of random size."""
    heap = allocators.create(spec, Kernel(ram="256 MiB").init.fork())
    chance = random.Random(1)
    blocks = [heap.malloc(chance.randrange(16, 512)) for _ in range(live)]
    script = [(chance.randrange(live), chance.randrange(16, 512)) for _ in range(operations // 2)]

    def work() -> None:
        for place, size in script:
            heap.free(blocks[place])
            blocks[place] = heap.malloc(size)

    return seconds(work) / operations


def ask_python() -> Iterator[Answer]:
    """Ask how many operations a second the designs in Python do."""
    aims = {"buddy": 80_000, "rbtree": 30_000}
    taken = medians(5, {spec: lambda spec=spec: churn(spec, 20_000) for spec in aims})
    for spec, aim in aims.items():
        rate = 1 / taken[spec]
        yield Answer(
            f"{spec} in Python, 10,000 live blocks",
            f"{rate:,.0f} operations/s",
            f"at least {aim:,}",
            rate >= aim,
        )


# ---- traces: the designs in C on the model, and on Linux; glibc ----

#: all processes of these share one heap on Linux, so a design there is not asked the same as on the model
SHARED = ("bash", "cpython-prefork")
#: model / itself on Linux, at most
AIMS = {"rbtree": 1.45, "buddy": 1.25}


def on_linux(stage: Stage, name: str) -> Callable[[], float]:
    """Return a replay on a real allocator: its seconds of the processor, payload included."""
    peer = find_peer(name)

    def play() -> float:
        played = stage.play(lib.HL_PLAY_TIME, peer.library, aligned=peer.aligned)
        if played.why != lib.HL_PLAY_DONE:
            sys.exit(f"speed.py: {name} did not finish {stage.trace.header.name}: {played.said}")
        return int(played.raw.ns) / 1e9

    return play


def on_model(trace: Trace, spec: str, *, verify: bool = False) -> Callable[[], float]:
    """Return the same on the model."""
    return lambda: lab.run(trace, spec, verify=verify).seconds.replay


def ask_traces(rounds: int = 7) -> Iterator[Answer]:
    """Ask how long the bundled traces take, with the same payload writes on both sides.

    Processor time of whole replays, no clock within; all sides take turns; medians.
    """
    specs = list(designs())
    table = Table("trace", "operations", "glibc, ns/op", *(f"{spec}\nmodel" for spec in specs))
    for spec in AIMS:
        table.add_column(f"{spec}\nLinux")
    table.add_column("most\nspread")
    to_glibc: dict[str, list[float]] = {spec: [] for spec in specs}
    to_itself: dict[str, list[float]] = {spec: [] for spec in AIMS}
    linux_to_glibc: dict[str, list[float]] = {spec: [] for spec in AIMS}
    verified: list[float] = []
    for name in corpus.names():
        trace = open_trace(name)
        operations = trace.header.events
        with closing(Stage(trace)) as stage:
            sides = {"glibc": on_linux(stage, "glibc")}
            sides |= {f"{spec}, model": on_model(trace, spec) for spec in specs}
            sides |= {f"{spec}, Linux": on_linux(stage, f"heaplab:{spec}") for spec in AIMS}
            sides["rbtree, model, verified"] = on_model(trace, "rbtree", verify=True)
            taken = in_turn(rounds, sides)
        ROUNDS.setdefault("traces", {})[name] = taken
        median = {side: statistics.median(values) for side, values in taken.items()}
        glibc = median["glibc"]
        for spec in specs:
            to_glibc[spec].append(median[f"{spec}, model"] / glibc)
        for spec in AIMS:
            linux_to_glibc[spec].append(median[f"{spec}, Linux"] / glibc)
            if name not in SHARED:
                to_itself[spec].append(median[f"{spec}, model"] / median[f"{spec}, Linux"])
        verified.append(median["rbtree, model, verified"] / median["rbtree, model"])
        table.add_row(
            name,
            f"{operations:,}",
            f"{glibc / operations * 1e9:.1f}",
            *(f"{to_glibc[spec][-1]:.2f}" for spec in specs),
            *(f"{linux_to_glibc[spec][-1]:.2f}" for spec in AIMS),
            f"{max(map(spread, taken.values())):.0%}",
        )
    table.caption = "the columns of designs: times glibc.  spread: of the quartiles, the widest of the row"
    Console(width=max(110, Console().width)).print(table)
    for spec, aim in AIMS.items():
        mean = geometric_mean(to_itself[spec])
        yield Answer(
            f"{spec} on the model / on Linux, {len(to_itself[spec])} traces",
            f"{mean:.2f} times",
            f"at most {aim} times",
            mean <= aim,
        )
    means = {spec: geometric_mean(ratios) for spec, ratios in to_glibc.items()}
    best = min(means, key=means.__getitem__)
    yield Answer(
        f"the best design on the model ({best}) / glibc, all traces",
        f"{means[best]:.2f} times; " + ", ".join(f"{spec} {mean:.2f}" for spec, mean in means.items()),
        "at most 1.4 times",
        means[best] <= 1.4,
    )
    yield Answer(
        "rbtree on the model with payloads verified / without",
        f"{geometric_mean(verified):.2f} times",
        "told beside it",
        True,
    )


# ---- memory: ten million operations ----


def replay_and_measure(path: str) -> None:
    """Print this process's peak resident bytes and those of them that are simulated memory."""
    kernel = Kernel(ram="1 GiB")
    trace = open_trace(path)
    replay = Replay(trace, allocators.parse("rbtree", "c"), kernel)
    replay.advance(trace.header.events)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(replay.done, peak, kernel.machine.touched_frames * PAGE)


def ask_memory() -> Iterator[Answer]:
    """Ask how much memory a replay of ten million operations needs beside the simulated."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory, "long.hlt"))
        trace = synthetic(10_000_000, seed=1, slots=100_000)
        with TraceWriter.create(path, Provenance(name="long", program="synthetic")) as writer:
            for block in trace:
                writer.write(block)
        command = [sys.executable, __file__, "replay", path]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    done, peak, simulated = map(int, printed.split())
    beside = peak - simulated
    yield Answer(
        f"memory for {done:,} operations",
        f"{format_size(beside)} beside {format_size(simulated)} simulated",
        "less than 300 MB",
        beside < 300e6,
    )


QUESTIONS = {
    "traces": ask_traces,
    "python": ask_python,
    "fault": ask_fault,
    "fork": ask_fork,
    "large": ask_large,
    "memory": ask_memory,
}


def main(arguments: list[str]) -> None:
    """Ask the questions named, or all."""
    if arguments[:1] == ["replay"]:
        replay_and_measure(arguments[1])
        return
    if arguments == ["real-fork"]:
        serve_real_forks()
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    options = parser.parse_args(arguments)
    unknown = set(options.questions) - QUESTIONS.keys()
    if unknown:
        parser.error(f"no question {', '.join(sorted(unknown))}: there are {', '.join(QUESTIONS)}")
    table = Table("question", "figure", "aim", "met")
    answers = []
    for name in options.questions or QUESTIONS:
        for answer in QUESTIONS[name]():
            table.add_row(answer.what, answer.figure, answer.aim, "yes" if answer.met else "NO")
            answers.append({"question": name, **answer._asdict()})
    Console(width=max(110, Console().width)).print(table)
    if options.json:
        options.json.write_text(json.dumps({"answers": answers, "seconds": ROUNDS}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
