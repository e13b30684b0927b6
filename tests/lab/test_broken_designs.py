"""Designs broken on purpose: each costs its own row, is named in seconds, and hurts no other."""

import csv
import json
import subprocess
import sys
import time

import pytest

from heaplab import lab
from heaplab.allocators.designs.buddy import Buddy
from heaplab.errors import UsageError
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.steps import Malloc
from heaplab.traces import Event, Op, Provenance, Trace, TraceWriter

BROKEN = """
import os
from itertools import cycle
from heaplab.allocators.base import Allocator, Span, State
from heaplab.allocators.designs.buddy import Buddy

class Broken(Buddy):
"""

#: by name: the design's methods, the outcome, and what its reason says
DESIGNS = {
    "usable_size_8_too_large": (
        """
        def usable_size(self, p):
            return super().usable_size(p) + 8
        """,
        "failed",
        "the walk over the heap after 100 events: BrokenWalk: usable_size of the block at 0x",
    ),
    "loop_with_references": (
        """
        def malloc(self, size):
            while size == 100:
                self.process.load64(self.root)
            return super().malloc(size)
        """,
        "hung",
        "event 51 (malloc 51 100): no end after 0.7 s and ",
    ),
    "loop_without_references": (
        """
        def malloc(self, size):
            while size == 100:
                pass
            return super().malloc(size)
        """,
        "hung",
        "event 51 (malloc 51 100): no end after 0.7 s without a memory reference",
    ),
    "loop_at_birth": (
        """
        @classmethod
        def create(cls, process, options):
            while True:
                pass
        """,
        "hung",
        "before the first event: no end after 0.7 s without a memory reference",
    ),
    "operation_of_the_interpreter": (
        """
        def free(self, p):
            return 10 ** 10 ** 10
        """,
        "hung",
        "no end of one long operation of the interpreter",
    ),
    "overlap": (
        """
        def malloc(self, size):
            return super().malloc(size) - (1024 if size == 100 else 0)
        """,
        "failed",
        "event 51 (malloc 51 100): block 51 (100 bytes at 0x",
    ),
    "walk_in_circles": (
        """
        def walk(self):
            return cycle(list(super().walk()))
        """,
        "failed",
        "the walk over the heap after 100 events: BrokenWalk: the walk has more bytes than the process",
    ),
    "walk_that_stands_still": (
        """
        def walk(self):
            while True:
                pass
        """,
        "hung",
        "the walk over the heap after 100 events: no end after 0.7 s without a memory reference",
    ),
    "walk_that_raises": (
        """
        def walk(self):
            yield from list(super().walk())[:3]
            raise IndexError("no block 3")
        """,
        "failed",
        "the walk over the heap after 100 events: IndexError: no block 3 (walk_that_raises.py, line ",
    ),
    "walk_out_of_the_heap": (
        """
        def walk(self):
            yield from super().walk()
            yield Span(0x10, 16, 0x10, 16, State.FREE)
        """,
        "failed",
        "the walk over the heap after 100 events: BrokenWalk: the walk's span at 0x10 to 0x20 is not within",
    ),
    "walk_that_forgets": (
        """
        def walk(self):
            return (span for span in super().walk() if span.state != State.ALLOCATED)
        """,
        "failed",
        "the walk over the heap after 100 events: BrokenWalk: the live block at 0x",
    ),
    "walk_of_giants": (
        """
        def walk(self):
            return (span._replace(size=span.size * 10**7) for span in super().walk())
        """,
        "failed",
        "the walk over the heap after 100 events: BrokenWalk: the walk has more bytes than the process",
    ),
    "crash": (
        """
        def free(self, p):
            os.write(2, b"free(): invalid pointer\\n")
            os.abort()
        """,
        "crashed",
        "its process was ended by SIGABRT: free(): invalid pointer",
    ),
}

NO_MEMS = '''
from heaplab.allocators.base import Allocator, Span, State

class NoMems(Allocator):
    """Keeps everything in Python: no memory reference, no system call after the first."""

    def __init__(self, process, options, root):
        super().__init__(process, options, root)
        self.blocks, self.top = {}, root

    @classmethod
    def create(cls, process, options):
        return cls(process, options, (process.sbrk(1 << 20) + 15) // 16 * 16)

    def _verify_root(self):
        pass

    def malloc(self, size):
        return self.aligned_alloc(16, size)

    def aligned_alloc(self, alignment, size):
        p = -(-self.top // alignment) * alignment
        self.top = p + max(-(-size // 16) * 16, 16)
        self.blocks[p] = self.top - p
        return p

    def free(self, p):
        self.blocks.pop(p, None)

    def calloc(self, n, size):
        return self.malloc(n * size)

    def realloc(self, p, size):
        to = self.malloc(size)
        self.process.copy(to, p, min(size, self.blocks[p]))
        self.free(p)
        return to

    def usable_size(self, p):
        return self.blocks[p]

    def walk(self):
        return iter([Span(p, n, p, n, State.ALLOCATED) for p, n in sorted(self.blocks.items())])

    def index(self):
        return iter(())

    def check(self):
        pass
'''

#: 100 blocks, the one of 100 bytes amid them; then half are freed
EVENTS = [
    *(Event(Op.MALLOC, slot, 49 + slot) for slot in range(100)),
    *(Event(Op.FREE, slot) for slot in range(0, 100, 2)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all of the designs, and two traces."""
    folder = tmp_path_factory.mktemp("designs")
    for name, (methods, _, _) in DESIGNS.items():
        (folder / f"{name}.py").write_text(BROKEN + methods.replace("\n    ", "\n"))
    (folder / "no_mems.py").write_text(NO_MEMS)
    for name in ("one", "two"):
        with TraceWriter.create(folder / f"{name}.hlt", Provenance(name)) as writer:
            for block in Trace.of(EVENTS):
                writer.write(block)
    return folder


@pytest.mark.parametrize("name", DESIGNS)
def test_a_broken_design_is_named_in_seconds(folder, name):
    _, outcome, reason = DESIGNS[name]
    specs = ["buddy", str(folder / f"{name}.py"), "rbtree"]
    comparison = lab.compare([Trace.of(EVENTS)], specs, jobs=1, max_seconds=0.7)
    before, broken, after = comparison.runs
    assert (before.outcome, broken.outcome, after.outcome) == ("finished", outcome, "finished")
    assert broken.reason.startswith(reason), broken.reason
    assert broken.fragmentation is None or name == "overlap"


def test_all_of_them_beside_healthy_designs_on_the_command_line(folder, tmp_path):
    designs = ["buddy", *(f"{name}.py" for name in DESIGNS), "no_mems.py", "rbtree"]
    command = [sys.executable, "-m", "heaplab", "compare", "one.hlt", "two.hlt", "--max-seconds=0.7"]
    command += [f"--allocators={','.join(designs)}", f"--json={tmp_path / 'j'}", f"--csv={tmp_path / 'c'}"]
    shown = subprocess.run(
        [*command, f"--report={tmp_path / 'out'}"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (1, "")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<img") == 9
    runs = json.loads((tmp_path / "j").read_text())["runs"]
    with open(tmp_path / "c") as file:
        rows = list(csv.DictReader(file))
    assert len(runs) == len(rows) == 2 * len(designs)
    for run, row in zip(runs, rows, strict=True):
        _, outcome, reason = DESIGNS.get(run["allocator"].removesuffix(".py"), ("", "finished", ""))
        assert (run["outcome"], row["outcome"]) == (outcome, outcome)
        assert run["reason"].startswith(reason)
        assert f"! {run['allocator']} {outcome}: {reason}" in shown.stdout or outcome == "finished"
        if outcome in ("hung", "crashed"):
            assert run["mems"] is run["fragmentation"] is run["peak_live"] is None
            assert row["mems_mean"] == row["peak_live_bytes"] == ""
        elif outcome == "failed" and run["allocator"] != "overlap.py":
            assert run["fragmentation"] is None
            assert row["internal_fragmentation"] == row["external_fragmentation"] == ""
    assert "nan" not in shown.stdout
    summary = shown.stdout.partition("Geometric means over all 2 traces")[2].splitlines()
    [no_mems] = [line.split() for line in summary if line.startswith("no_mems.py ")]
    assert no_mems[-3:] == ["0.0", "0.0", "-"]


def test_a_long_run_of_short_events_is_not_ended(folder):
    """The limit is for one event: this run takes several times as long."""
    design = folder / "slow.py"
    methods = "    def malloc(self, size):\n        time.sleep(0.02)\n        return super().malloc(size)\n"
    design.write_text("import time" + BROKEN + methods)
    started = time.monotonic()
    [run] = lab.compare([Trace.of(EVENTS)], [str(design)], max_seconds=0.5).runs
    assert (run.outcome, run.reason) == ("finished", "")
    assert time.monotonic() - started > 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_what_is_no_time_to_wait(seconds):
    with pytest.raises(UsageError, match="max_seconds"):
        lab.compare([Trace.of(EVENTS)], ["buddy"], max_seconds=seconds)


def test_a_checked_heap_names_both_blocks_of_an_overlap():
    """In a fuzz too an overlap is found at the call that makes it."""

    class Overlapping(Buddy):
        def malloc(self, size: int) -> int:
            self.latest = self.latest + 16 if size == 100 else super().malloc(size)
            return self.latest

    heap = CheckedHeap(Overlapping)
    heap.do(Malloc(0, 1000))
    heap.do(Malloc(1, 24))
    with pytest.raises(AssertionError) as caught:
        heap.do(Malloc(2, 100))
    at = heap.live[0][1].address
    assert str(caught.value).splitlines()[0] == (  # pytest adds the values
        f"malloc 2 100: block 2 (100 bytes at {at + 16:#x}) overlaps block 1 (24 bytes at {at:#x})"
    )
