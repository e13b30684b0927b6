"""What recording costs a program: `python experiments/recorder_cost.py [ROUNDS] [JOB...]`.

The jobs of the bundled corpus run plain, with the recorder loaded but nobody to record for, and recorded;
interleaved, the median of each kept.  Of the recorded run, the time of the program and of its monitor counts,
not the assembling.  Jobs of programs that are not installed are left out.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from math import log
from pathlib import Path
from statistics import fmean, median

from record_corpus import JOBS, Job, at_work

from heaplab.native import library
from heaplab.native.monitoring import run_monitored
from heaplab.traces import open_trace


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain(words: list[str], env: dict[str, str]) -> None:
    """Run the command."""
    subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)


def recorded(words: list[str], env: dict[str, str]) -> None:
    """Run the command and log what it does."""
    executable = shutil.which(words[0]) or words[0]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        run_monitored(words, executable, env, Path(folder), stdout=subprocess.DEVNULL)


def cost(job: Job, rounds: int) -> tuple[float, float, float]:
    """Seconds that `job` takes plain, with the recorder idle, and recorded."""
    taken: list[list[float]] = [[], [], []]
    with at_work(job) as (words, env):
        idle = {**env, "LD_PRELOAD": str(library())}
        for _ in range(rounds):
            taken[0].append(seconds(lambda: plain(words, env)))
            taken[1].append(seconds(lambda: plain(words, idle)))
            taken[2].append(seconds(lambda: recorded(words, env)))
    return median(taken[0]), median(taken[1]), median(taken[2])


def lacking(job: Job) -> list[str]:
    """The programs that `job` needs and this computer has not."""
    command = next(word for word in shlex.split(job.command) if "=" not in word)
    return [name for name in {command, shlex.split(job.version)[0]} if shutil.which(name) is None]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{'job':<16}{'plain':>9}{'idle':>8}{'recorded':>11}{'events':>11}{'each':>9}")
    ratios = []
    for job in JOBS:
        if sys.argv[2:] and job.name not in sys.argv[2:]:
            continue
        if missing := lacking(job):
            print(f"{job.name:<16}left out: {', '.join(missing)} not installed")
            continue
        unloaded, idle, loaded = cost(job, rounds)
        events = open_trace(job.name).header.events
        ratios.append((idle / unloaded, loaded / unloaded))
        print(
            f"{job.name:<16}{unloaded:>7.3f} s{idle / unloaded:>7.2f}x{loaded / unloaded:>10.2f}x"
            f"{events:>11,}{(loaded - unloaded) / events * 1e9:>6.0f} ns",
            flush=True,
        )
    idle, loaded = (2 ** fmean(log(each, 2) for each in column) for column in zip(*ratios, strict=True))
    print(f"geometric means: idle {idle:.2f}x, recorded {loaded:.2f}x, medians of {rounds} rounds")


if __name__ == "__main__":
    os.environ.pop("LD_PRELOAD", None)
    main()
