"""How fast is heaplab?  One run, both sides, ratios.

    python experiments/speed.py            everything, about three minutes
    python experiments/speed.py fork       one question of: traces, python, fault, fork, large, memory

Every question is asked in interleaved rounds and answered with medians, because machines are noisy; the aim
stands beside the figure, and a figure that falls short is printed as it is.
"""

import ctypes
import mmap
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from heaplab import allocators, lab
from heaplab.kernel import Kernel
from heaplab.lab.metrics import geometric_mean
from heaplab.lab.replay import Replay
from heaplab.native.replay import replay_native
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


def medians(rounds: int, sides: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Return the median of each side's seconds over interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(side())
    return {name: statistics.median(values) for name, values in taken.items()}


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


# ---- fault: demand-zero, the handler in Python included ----


def ask_fault() -> Iterator[Answer]:
    """Ask how long a first write to an anonymous page takes."""
    pages = 20_000
    process = Kernel(ram="1 GiB").init.fork()

    def touch() -> float:
        base = process.mmap(pages * PAGE)
        store = process.store64
        taken = seconds(lambda: [store(page, 1) for page in range(base, base + pages * PAGE, PAGE)])
        process.munmap(base, pages * PAGE)
        return taken / pages

    touch()  # commits the host's memory, so that only the model is timed
    fault = medians(7, {"fault": touch})["fault"]
    yield Answer("demand-zero fault", f"{fault * 1e6:.2f} us", "at most 10 us", fault <= 10e-6)


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


# ---- traces: the designs in C on the model, against glibc's malloc ----


def ask_traces() -> Iterator[Answer]:
    """Ask how long the bundled traces take, with the same payload writes on both sides."""
    specs = ("buddy", "rbtree")
    ratios: dict[str, list[float]] = {spec: [] for spec in specs}
    table = Table("trace", "operations", "glibc, ns/op", *(f"{spec}, times glibc" for spec in specs))
    for name in corpus.names():
        trace = open_trace(name)

        def native(trace: Trace = trace) -> float:
            LIBC.malloc_trim(0)  # so that it starts, like the model, with a heap it has yet to touch
            return replay_native(trace).seconds

        def model(spec: str, trace: Trace = trace) -> float:
            return lab.run(trace, spec, verify=False).seconds.replay

        sides = {"glibc": native} | {spec: lambda spec=spec: model(spec) for spec in specs}
        taken = medians(7, sides)
        operations = replay_native(trace).operations
        for spec in specs:
            ratios[spec].append(taken[spec] / taken["glibc"])
        times = [f"{ratios[spec][-1]:.2f}" for spec in specs]
        table.add_row(name, f"{operations:,}", f"{taken['glibc'] / operations * 1e9:.1f}", *times)
    Console().print(table)
    for spec in specs:
        mean = geometric_mean(ratios[spec])
        yield Answer(f"{spec} in C on the model", f"{mean:.2f} times glibc", "at most 3.0 times", mean <= 3)


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
    unknown = set(arguments) - QUESTIONS.keys()
    if unknown:
        sys.exit(f"speed.py: no question {', '.join(sorted(unknown))}: there are {', '.join(QUESTIONS)}")
    table = Table("question", "figure", "aim", "met")
    for name in arguments or QUESTIONS:
        for answer in QUESTIONS[name]():
            table.add_row(answer.what, answer.figure, answer.aim, "yes" if answer.met else "NO")
    Console(width=max(110, Console().width)).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
