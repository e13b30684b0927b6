"""What recording costs a program: `python experiments/recorder_cost.py [ROUNDS]`.

The jobs of the bundled corpus run plain, with the recorder loaded but told of no directory to write to, and
recording; interleaved, the fastest of each kept.  Only the program's own run is timed, not the assembling.
"""

import os
import subprocess
import sys
import tempfile
import time
from math import log
from pathlib import Path
from statistics import fmean

from record_corpus import JOBS, Job, at_work

from heaplab.native import library
from heaplab.traces import open_trace


def seconds(words: list[str], env: dict[str, str]) -> float:
    """How long the command takes."""
    start = time.perf_counter()
    subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def cost(job: Job, rounds: int) -> tuple[float, float, float]:
    """Seconds that `job` takes plain, with the recorder idle, and recording."""
    best = [float("inf")] * 3
    with at_work(job) as (words, env):
        loaded = {**env, "LD_PRELOAD": str(library())}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as log_directory:
                recording = {**loaded, "HEAPLAB_RECORD_DIR": log_directory}
                for number, settings in enumerate((env, loaded, recording)):
                    best[number] = min(best[number], seconds(words, settings))
    return best[0], best[1], best[2]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{'job':<16}{'plain':>9}{'idle':>8}{'recording':>11}{'events':>11}{'each':>9}")
    ratios = []
    for job in JOBS:
        plain, idle, recording = cost(job, rounds)
        events = open_trace(job.name).header.events
        ratios.append((idle / plain, recording / plain))
        print(
            f"{job.name:<16}{plain:>7.3f} s{idle / plain:>7.2f}x{recording / plain:>10.2f}x"
            f"{events:>11,}{(recording - plain) / events * 1e9:>6.0f} ns"
        )
    idle, recording = (2 ** fmean(log(each, 2) for each in column) for column in zip(*ratios, strict=True))
    print(
        f"geometric means: idle {idle:.2f}x, recording {recording:.2f}x, the fastest of {rounds} rounds each"
    )


if __name__ == "__main__":
    os.environ.pop("LD_PRELOAD", None)
    main()
