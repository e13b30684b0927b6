"""What do the kernel's calls cost?  The model's beside the real kernel's, in one run.

    python experiments/kernel_cost.py                        everything, about ten minutes
    python experiments/kernel_cost.py resident --most 1GiB   one question of: resident, many

resident   fork by each policy, vfork, exec, page faults, mmap and munmap, against the memory a process has
many       calls with up to 1,000 processes alive, and with up to 10,000 VMAs in one address space

fork is the call alone, as the parent sees it; vfork ends when the child that exits at once has woken the
parent.  exec is all of: vfork or fork, execve in the child, the start of the program, which does nothing but
exit, and waitpid.  (Where a call by itself begins and ends could not be seen alike on both sides: Linux wakes
a parent in vfork before the new program is mapped.)  Both kernels run the same static ELF file of one page.

Tables go to the screen, figures and the numbers (CSV) to the directory that --out names.  The real side is
kernel_cost.c, compiled on the spot.  Each figure is the least of several rounds, the sides taking turns: what
else the machine does only adds.  An aim that is missed is printed as such.
"""

import argparse
import csv
import gc
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from rich.console import Console
from rich.table import Table

from heaplab.abi import PROT_READ, PROT_WRITE
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import make_elf
from heaplab.process import Process
from heaplab.units import format_size, parse_size

PAGE = 4096
MIB, GIB = 1 << 20, 1 << 30
SIZES = [MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB]
TURNS = 3  # of each side
ROUNDS = 5  # in each turn
FORKS = 3  # in a round, as in kernel_cost.c: the first finds the caches cold
POLICIES = ("copy-on-write", "shared-tables", "eager")
REAL = "real kernel"
CALLS = {
    "fork": "fork",
    "vfork": "vfork, child exits",
    "exec": "vfork + exec + exit + wait",
    "forkexec": "fork + exec + exit + wait",
    "copy": "first write after fork: copy",
    "reuse": "write when the child is gone: reuse",
    "zero": "demand-zero fault",
    "mmap": "mmap + munmap of 64 KiB",
}
COLOURS = {REAL: "black", "copy-on-write": "tab:blue", "shared-tables": "tab:green", "eager": "tab:red"}
RW = PROT_READ | PROT_WRITE
#: a program that does nothing: xor edi, edi; mov eax, 60 (exit); syscall
NOTHING = make_elf(text=bytes.fromhex("31ff b83c000000 0f05"))
PROGRAM = "/bin/nothing"


class Cost(NamedTuple):
    """Seconds of one call on one side."""

    call: str
    side: str
    size: int
    seconds: float


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---- against resident memory


def available_memory() -> int:
    """Return the bytes that this computer can give now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def compile_real(directory: str) -> list[str] | None:
    """Return the command that asks the real kernel; None without Linux or a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    program = str(Path(directory, "kernel_cost"))
    source = str(Path(__file__).with_suffix(".c"))
    subprocess.run([compiler, "-O2", "-o", program, source], check=True)
    nothing = Path(directory, "nothing")
    nothing.write_bytes(NOTHING)
    nothing.chmod(0o755)
    return [program, str(nothing)]


def real_costs(command: list[str], size: int) -> list[Cost]:
    """Ask the real kernel."""
    asked = [*command, str(size // MIB), str(ROUNDS)]
    lines = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    return [Cost(name, REAL, size, float(figure)) for name, figure in map(str.split, lines)]


def touch(process: Process, first: int, count: int) -> float:
    """Write a byte of each of `count` pages; return seconds a page."""
    store, end = process.store64, first + count * PAGE
    start = time.perf_counter()
    for va in range(first, end, PAGE):
        store(va, 1)
    return (time.perf_counter() - start) / count


def model_costs(policy: str, size: int) -> list[Cost]:
    """Ask the model."""
    share = 2 if policy == "eager" else 1
    kernel = Kernel(ram=share * size + size // 64 + 64 * MIB, fork=policy, overcommit_memory=1)
    kernel.write_file(PROGRAM, NOTHING)
    parent = kernel.init.fork()
    base = parent.mmap(size)
    touch(parent, base, size // PAGE)
    some = min(512, size // PAGE // 2)
    taken: dict[str, list[float]] = {name: [] for name in CALLS}

    def collect(child: Process) -> None:
        child.exit(0)
        parent.wait()

    def pair() -> None:
        parent.munmap(parent.mmap(16 * PAGE), 16 * PAGE)

    def vfork() -> None:
        parent.vfork().exit(0)

    def run(make: Callable[[], Process]) -> None:
        child = make()
        child.execve(PROGRAM, [PROGRAM])
        child.load(child.entry, 1)  # fetches its first instruction
        collect(child)

    collect(parent.fork())  # commits the host's memory, so that only the model is timed
    touch(parent, base, size // PAGE)
    rounds = ROUNDS if policy != "eager" else max(1, min(ROUNDS, GIB // size))
    for _ in range(rounds):
        for _ in range(FORKS):
            start = time.perf_counter()
            child = parent.fork()
            taken["fork"].append(time.perf_counter() - start)
            collect(child)
        taken["vfork"].append(seconds(vfork))
        parent.wait()
        taken["exec"].append(seconds(lambda: run(parent.vfork)))
        taken["forkexec"].append(seconds(lambda: run(parent.fork)))
        child = parent.fork()
        taken["copy"].append(touch(parent, base, some))
        collect(child)
        taken["reuse"].append(touch(parent, base + some * PAGE, some))
        fresh = parent.mmap(512 * PAGE)
        taken["zero"].append(touch(parent, fresh, 512))
        parent.munmap(fresh, 512 * PAGE)
        taken["mmap"].append(seconds(lambda: [pair() for _ in range(50)]) / 50)
    return [Cost(name, policy, size, min(values)) for name, values in taken.items()]


def ask_resident(console: Console, out: Path, most: int) -> None:
    """Costs against resident memory: table, figure, aims."""
    least: dict[tuple[str, str, int], Cost] = {}
    with tempfile.TemporaryDirectory() as directory:
        command = compile_real(directory)
        if command is None:
            console.print("no compiler, or no Linux: the real kernel is left out")
        for size in [size for size in SIZES if size <= most]:
            sides: dict[str, Callable[[], list[Cost]]] = {}
            if command is not None:
                sides[REAL] = lambda size=size, command=command: real_costs(command, size)
            sides |= {
                policy: lambda size=size, policy=policy: model_costs(policy, size) for policy in POLICIES
            }
            for side, ask in list(sides.items()) * TURNS:
                needed = size * (2 if side == "eager" else 1) * 11 // 10 + 256 * MIB
                if needed > available_memory() * 8 // 10:
                    console.print(f"{side}, {format_size(size)}: skipped, too little free memory for it")
                    continue
                for cost in ask():
                    least[cost[:3]] = min(cost, least.get(cost[:3], cost))
                gc.collect()
    costs = list(least.values())
    print_costs(console, costs)
    draw_costs(costs, out / "resident.png")
    write_csv(out / "resident.csv", ("call", "side", "resident bytes", "seconds"), costs)
    judge_resident(console, costs)


def print_costs(console: Console, costs: list[Cost]) -> None:
    """A row for each call and side, a column for each size."""
    sizes = sorted({cost.size for cost in costs})
    table = Table("call, microseconds", "side", *map(format_size, sizes))
    figure = {(cost.call, cost.side, cost.size): cost.seconds * 1e6 for cost in costs}
    for call, title in CALLS.items():
        for side in COLOURS:
            row = [figure.get((call, side, size)) for size in sizes]
            if any(row):
                table.add_row(title, side, *("-" if value is None else f"{value:,.2f}" for value in row))
    console.print(table)


def draw_costs(costs: list[Cost], path: Path) -> None:
    """One panel a call, microseconds over resident MiB, both logarithmic."""
    figure, panels = plt.subplots(2, 4, figsize=(16, 7.5), layout="constrained")
    for panel, (call, title) in zip(panels.flat, CALLS.items(), strict=True):
        for side, colour in COLOURS.items():
            points = sorted(
                (cost.size / MIB, cost.seconds * 1e6) for cost in costs if cost[:2] == (call, side)
            )
            if points:
                panel.plot(*zip(*points, strict=True), "o-", color=colour, label=side, markersize=4)
        panel.set(xscale="log", yscale="log", title=title)
        panel.set_xlabel("resident memory, MiB")
        panel.set_ylabel("time of one, µs")
        low, high = panel.get_ylim()
        panel.set_ylim(
            low / 1.5, max(high * 1.5, low * 15)
        )  # at least a decade: noise is not to look like a trend
        panel.grid(alpha=0.3)
    panels.flat[0].legend()
    figure.suptitle(
        f"Calls of the model by fork policy, and of the real kernel (least of {TURNS * ROUNDS} rounds)"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def judge_resident(console: Console, costs: list[Cost]) -> None:
    """Print the aims, and whether they are met."""
    figure = {(cost.call, cost.side, cost.size): cost.seconds for cost in costs}
    table = Table("aim", "figure", "met")

    def row(aim: str, value: float, unit: str, met: bool) -> None:
        table.add_row(aim, f"{value:.2f} {unit}", "yes" if met else "NO")

    real, cow = figure.get(("fork", REAL, GIB)), figure.get(("fork", "copy-on-write", GIB))
    shared = figure.get(("fork", "shared-tables", GIB))
    if real and cow:
        row("fork of 1 GiB: at most the real kernel's time", cow / real, "times", cow <= real)
    if cow and shared:
        ratio = cow / shared
        row("fork of 1 GiB with shared tables: 20 times faster", ratio, "times faster", ratio >= 20)
    zero = statistics.median(cost.seconds for cost in costs if cost[:2] == ("zero", "copy-on-write")) * 1e6
    row("demand-zero fault: at most 5 us", zero, "us", zero <= 5)
    console.print(table)


# ---- against how many there are


def cost_of(work: Callable[[], Any], undo: Callable[[Any], object], rounds: int = 300) -> float:
    """Return the least seconds of `work`; `undo` is given its result, and not timed."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - start)
        undo(result)
    return min(taken)


def nothing(_: object) -> None:
    """Undo what needs no undoing."""


def with_processes(count: int) -> dict[str, float]:
    """Seconds of calls when `count` processes are alive, all children of one shell.

    Left out is what takes as long as there are processes in it, on Linux too: kill of all, or of a group of
    many; the end of a process with many children, which all get another parent; of one with many threads.
    """
    kernel = Kernel(ram=max(64 * MIB, count * 64 * 1024))
    shell = kernel.init.fork()
    page = shell.mmap(PAGE)
    shell.store64(page, 1)
    children = [shell.fork() for _ in range(count)]
    middle = children[count // 2]
    middle.setpgid(0, 0)

    def exited() -> Process:
        child = shell.fork()
        child.exit(0)
        return child

    def timed_wait(pid: Callable[[Process], int]) -> float:
        taken = []
        for _ in range(300):
            number = pid(exited())
            taken.append(seconds(lambda number=number: shell.waitpid(number)))
        return min(taken)

    def timed_exit() -> float:
        taken = []
        for _ in range(300):
            child = shell.fork()
            taken.append(seconds(lambda child=child: child.exit(0)))
            shell.waitpid(child.pid)
        return min(taken)

    def collect(child: Process) -> None:
        child.exit(0)
        shell.waitpid(child.pid)

    return {
        "fork": cost_of(shell.fork, collect),
        "exit": timed_exit(),
        "waitpid(pid)": timed_wait(lambda child: child.pid),
        "waitpid(any)": timed_wait(lambda _: -1),
        "waitpid(any), none": cost_of(lambda: shell.waitpid(-1, os.WNOHANG), nothing),
        "waitpid(-group), none": cost_of(lambda: shell.waitpid(-middle.pid, os.WNOHANG), nothing),
        "getppid": cost_of(middle.getppid, nothing),
        "setpgid": cost_of(lambda: middle.setpgid(0, shell.getpgid()), lambda _: middle.setpgid(0, 0)),
        "kill(-group of 1, 0)": cost_of(lambda: shell.kill(-middle.pid, 0), nothing),
        "kill(pid, 0)": cost_of(lambda: shell.kill(middle.pid, 0), nothing),
        "mmap + munmap": cost_of(lambda: middle.munmap(middle.mmap(PAGE), PAGE), nothing),
        "fault": cost_of(lambda: middle.store64(page, 1), lambda _: renew(middle, page, 1)),
    }


def renew(process: Process, first: int, pages: int) -> None:
    """Put unwritten pages where some were."""
    process.munmap(first, pages * PAGE)
    process.mmap(pages * PAGE, first)


def with_vmas(count: int) -> dict[str, float]:
    """Seconds of calls when an address space has `count` VMAs."""
    process = Kernel(ram="256 MiB").init.fork()
    process.sbrk(PAGE)
    # from below, each with other rights than its neighbours, so that none merge
    base = process.mmap(2 * count * PAGE)
    for index in range(count // 2):
        process.mprotect(base + 4 * index * PAGE, 2 * PAGE, PROT_READ)
    middle = base + 4 * (count // 4) * PAGE  # the first page of a VMA of two, read-only
    writable = middle + 2 * PAGE

    def split() -> None:
        process.mprotect(middle, PAGE, RW)

    return {
        "mmap + munmap": cost_of(lambda: process.munmap(process.mmap(PAGE), PAGE), nothing),
        "munmap, a hole": cost_of(
            lambda: process.munmap(writable, 2 * PAGE), lambda _: process.mmap(2 * PAGE, writable)
        ),
        "mprotect, split": cost_of(split, lambda _: process.mprotect(middle, PAGE, PROT_READ)),
        "brk": cost_of(lambda: process.sbrk(PAGE), lambda _: process.sbrk(-PAGE)),
        "fault": cost_of(lambda: process.store64(writable, 1), lambda _: renew(process, writable, 2)),
    }


def ask_many(console: Console, out: Path, _most: int) -> None:
    """Costs against the number of processes, and of VMAs."""
    questions = {
        "processes alive": (with_processes, (10, 30, 100, 300, 1000)),
        "VMAs in one address space": (with_vmas, (10, 100, 1000, 10_000)),
    }
    figure, panels = plt.subplots(1, 2, figsize=(13, 6.5), layout="constrained")
    rows = []
    for panel, (what, (ask, counts)) in zip(panels, questions.items(), strict=True):
        panel.set_prop_cycle(color=plt.get_cmap("tab20").colors)
        costs = {}
        for count in counts:
            costs[count] = ask(count)
            gc.collect()
        table = Table(
            f"{what}, microseconds", *(f"{count:,}" for count in counts), "growth", "of log n", "met"
        )
        allowed = math.log(counts[-1]) / math.log(counts[0])
        for call in costs[counts[0]]:
            series = [costs[count][call] * 1e6 for count in counts]
            growth = series[-1] / series[0]
            met = "yes" if growth <= allowed else "NO"
            table.add_row(call, *(f"{value:.2f}" for value in series), f"{growth:.2f}", f"{allowed:.2f}", met)
            panel.plot(counts, series, "o-", label=call, markersize=4)
            rows += [(what, call, count, value) for count, value in zip(counts, series, strict=True)]
        console.print(table)
        low = min(min(line.get_ydata()) for line in panel.lines)
        guide = [low * 0.7 * math.log(count) / math.log(counts[0]) for count in counts]
        panel.plot(counts, guide, "--", color="grey", label="as log n")
        panel.set(xscale="log", yscale="log", title=f"Calls of the model, by {what}")
        panel.set_xlabel(what)
        panel.set_ylabel("time of one, µs")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    figure.savefig(out / "many.png", dpi=110)
    plt.close(figure)
    write_csv(out / "many.csv", ("of what", "call", "how many", "microseconds"), rows)


def write_csv(path: Path, header: tuple[str, ...], rows: list[Any]) -> None:
    """Write the numbers behind a figure."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


QUESTIONS = {"resident": ask_resident, "many": ask_many}


def main() -> None:
    """Ask the questions named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="resident, many; both without any")
    parser.add_argument("--out", type=Path, default=Path("kernel-cost"), help="directory for the results")
    parser.add_argument("--most", default="4 GiB", help="largest resident size")
    arguments = parser.parse_args()
    unknown = set(arguments.questions) - QUESTIONS.keys()
    if unknown:
        parser.error(f"no question {', '.join(sorted(unknown))}: there are {', '.join(QUESTIONS)}")
    try:
        most = parse_size(arguments.most)
    except UsageError as error:
        parser.error(f"--most: {error}")
    if most < SIZES[0]:
        parser.error(f"--most {arguments.most}: the smallest size is {format_size(SIZES[0])}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=max(130, Console().width))
    for name in arguments.questions or QUESTIONS:
        QUESTIONS[name](console, arguments.out, most)
    console.print(f"figures and numbers: {arguments.out}")


if __name__ == "__main__":
    main()
