"""A replay streams: what it needs grows with the live blocks, not with the events."""

import subprocess
import sys

# VmHWM belongs to the memory of this program; ru_maxrss would still know what its parent had before exec.
SCRIPT = """
import re
from pathlib import Path
from heaplab.lab import run
from heaplab.traces import synthetic
record = run(synthetic({events}, slots=20_000), "buddy")
assert record.outcome == "finished"
peak_kib = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print((peak_kib >> 10) - (record.peak_resident >> 20))
"""


def megabytes(events):
    """What a run needs beside the simulated memory, the interpreter included."""
    command = [sys.executable, "-c", SCRIPT.format(events=events)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_ten_times_the_events_need_no_more_memory():
    short, long = megabytes(150_000), megabytes(1_500_000)
    assert long < short + 20
    assert long < 150
