"""The Python and the C version of every design are equal in addresses, counts and bytes."""

from dataclasses import fields
from itertools import product
from pathlib import Path
from random import Random

import pytest

from heaplab import allocators
from heaplab.allocators import core
from heaplab.errors import SegmentationFault
from heaplab.kernel import Kernel
from heaplab.lab.run import run
from heaplab.testing.steps import Free, Malloc, Trial, Twins, random_step
from heaplab.traces import Event, Op, Trace, open_trace

FITS, ORDERS = ("first", "next", "best", "worst"), ("lifo", "fifo", "address")
FREELISTS = [f"freelist:fit={fit}:order={order}" for fit, order in product(FITS, ORDERS)]
OTHERS = [name for name in allocators.names() if name != "freelist"]
TUNED = ":top_pad=0:trim_threshold=4KiB:mmap_threshold=20000"
CORPUS = Path(allocators.__file__).parents[1] / "traces" / "corpus"


@pytest.mark.parametrize(
    "spec", [*FREELISTS, *(name + options for name in OTHERS for options in ("", TUNED))]
)
def test_random_steps(spec):
    twins, chance = Twins(spec), Random(spec)
    for _ in range(250):
        twins.do(random_step(twins, chance))
    twins.verify_bytes()


@pytest.mark.parametrize("name", allocators.names())
def test_random_steps_on_small_pages(name):
    twins, chance = Twins(name + TUNED, ram="2 MiB", page_size=256), Random(2)
    for _ in range(150):
        twins.do(random_step(twins, chance))
    twins.verify_bytes()


@pytest.mark.parametrize("spec", [*allocators.names(), "freelist:fit=best:order=address"])
def test_a_piece_of_a_real_trace(spec):
    """Eight thousand events of a program: the whole records of the runs are equal, but for the seconds."""
    whole = open_trace(str(CORPUS / "sqlite.hlt"))
    piece = []
    for event in whole.events():
        piece.append(event)
        if len(piece) == 8000:
            break
    records = [run(Trace.of(piece, "piece"), spec, language) for language in allocators.LANGUAGES]
    assert records[0].outcome == "finished"
    for field in fields(records[0]):
        if field.name not in ("language", "seconds"):
            assert getattr(records[0], field.name) == getattr(records[1], field.name), field.name


def test_twins_that_differ_are_told_apart(monkeypatch):
    """One load more in Python: the first step that shows it is named."""
    twins = Twins("freelist")
    twins.do(Malloc(0, 100))
    free = type(twins.python.heaps[0]).free
    monkeypatch.setattr(
        type(twins.python.heaps[0]), "free", lambda heap, p: (heap._load(heap.root), free(heap, p))[1]
    )
    with pytest.raises(AssertionError, match="free 0: loads differ"):
        twins.do(Free(0))


def test_bytes_that_differ_are_told_apart():
    twins = Twins("buddy")
    twins.do(Malloc(0, 100))
    address = twins.live[0][0].address
    twins.c.process(0).store(address + 100, 1, 1)
    with pytest.raises(AssertionError, match="differs"):
        twins.verify_bytes()


def test_a_trial_sees_another_content():
    trial = Trial("buddy", "c")
    trial.do(Malloc(0, 100))
    trial.process(0).store(trial.live[0][0].address + 99, 0, 1)
    with pytest.raises(AssertionError, match="has other content"):
        trial.verify(0)


def test_traces_of_steps_replay():
    """The steps are a valid trace: they can be written to a file and given to anybody."""
    trial, chance = Trial("rbtree", "c"), Random(3)
    for _ in range(100):
        trial.do(random_step(trial, chance))
    events = [step.event() for step in trial.steps if getattr(step, "size", 0) < 1 << 40]
    events = [
        event if event.op != Op.FORK else Event(Op.FORK, event.id, process=event.process) for event in events
    ]
    assert Trace.of(events, "steps").header.events == len(events)


@pytest.mark.parametrize("language", allocators.LANGUAGES)
@pytest.mark.parametrize("name", allocators.names())
def test_an_access_that_kills_the_process_is_raised(name, language):
    """The heap's memory is taken away under it."""
    process = Kernel(ram="16 MiB", seed=1).init.fork()
    heap = allocators.create(name, process, language)
    p = heap.malloc(100)
    page = heap.root & -4096
    process.munmap(page, process.sbrk(0) - page)
    with pytest.raises(SegmentationFault):
        heap.free(p)


def test_every_design_in_python_has_a_twin_in_c():
    assert allocators.names("python") == allocators.names("c")
    for name in allocators.names():
        design = allocators.parse(name, "c").design
        assert issubclass(design, core.CAllocator)
        assert design.LANGUAGE == "c"
