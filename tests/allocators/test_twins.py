"""The Python and the C version of every design are equal in addresses, references, counts and bytes."""

from dataclasses import fields
from pathlib import Path
from random import Random

import pytest

from heaplab import allocators
from heaplab.allocators import core, stated
from heaplab.errors import SegmentationFault
from heaplab.kernel import Kernel
from heaplab.lab.replay import Replay
from heaplab.lab.run import run
from heaplab.machine import USUAL_TLB
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.specs import defaults, tuned, varied
from heaplab.testing.steps import Free, Malloc, random_step
from heaplab.testing.twins import Twins, resident
from heaplab.traces import Event, Op, Trace, open_trace

CORPUS = Path(allocators.__file__).parents[1] / "traces" / "corpus"


@pytest.mark.parametrize("spec", dict.fromkeys([*defaults(), *varied(), *map(tuned, defaults())]))
def test_random_steps(spec):
    twins, chance = Twins(spec), Random(spec)
    for _ in range(250):
        twins.do(random_step(twins, chance))
    twins.verify_bytes()


@pytest.mark.parametrize("spec", list(map(tuned, defaults())))
def test_random_steps_on_small_pages(spec):
    twins, chance = Twins(spec, ram="2 MiB", page_size=256), Random(2)
    for _ in range(150):
        twins.do(random_step(twins, chance))
    twins.verify_bytes()


@pytest.mark.parametrize("spec", defaults())
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


@pytest.mark.parametrize("spec", defaults())
@pytest.mark.parametrize("verify", [False, True])
def test_the_code_for_the_usual_machine_does_what_the_general_code_does(spec, verify):
    """A larger TLB is the least that makes a machine unusual; only the TLB's misses may differ."""
    trace = open_trace(str(CORPUS / "lua.hlt"))
    seen = []
    for tlb in (USUAL_TLB, 2 * USUAL_TLB):
        replay = Replay(trace, allocators.parse(spec, "c"), Kernel(ram="64 MiB", tlb=tlb), verify=verify)
        replay.advance(4000)
        assert replay.end is None
        ((_, heap),) = replay.heaps()
        context = heap.process.context
        counts = context.loads, context.stores, context.bulk, context.faults, replay.calls("brk", "mmap")
        state = replay.mems_counts().tolist(), replay.slots(0).tolist(), replay.timeline()
        seen.append((counts, state, list(resident(heap.process))))
        assert (heap.raw.design == stated.designs()[heap.NAME]) == (tlb != USUAL_TLB)
    assert seen[0] == seen[1]


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


def test_references_in_another_order_are_told_apart(monkeypatch):
    """The same loads, two of them the other way round."""

    def other(heap, p):
        heap._load(heap.root + (8 if heap.process is twins.python.process(0) else 0))
        heap._load(heap.root + (0 if heap.process is twins.python.process(0) else 8))
        free(heap, p)

    twins = Twins("freelist")
    twins.do(Malloc(0, 100))
    free = type(twins.python.heaps[0]).free
    twins.c = CheckedHeap("freelist")
    twins.c.do(Malloc(0, 100))
    monkeypatch.setattr(type(twins.python.heaps[0]), "free", other)
    root = twins.python.heaps[0].root
    with pytest.raises(AssertionError) as caught:
        twins.do(Free(0))
    assert str(caught.value) == (
        f"free 0: references differ from number 1 on: "
        f"a load at {root + 8:#x} in Python, a load at {root:#x} in C"
    )


def test_bytes_that_differ_are_told_apart():
    twins = Twins("buddy")
    twins.do(Malloc(0, 100))
    address = twins.live[0][0].address
    twins.c.process(0).store(address + 100, 1, 1)
    with pytest.raises(AssertionError, match="differs"):
        twins.verify_bytes()


def test_another_content_is_seen():
    heap = CheckedHeap("buddy", "c")
    heap.do(Malloc(0, 100))
    heap.process(0).store(heap.live[0][0].address + 99, 0, 1)
    with pytest.raises(AssertionError, match="has other content"):
        heap.verify(0)


def test_traces_of_steps_replay():
    """The steps are a valid trace: they can be written to a file and given to anybody."""
    heap, chance = CheckedHeap("rbtree", "c"), Random(3)
    for _ in range(100):
        heap.do(random_step(heap, chance))
    events = [step.event() for step in heap.steps if getattr(step, "size", 0) < 1 << 40]
    events = [
        event if event.op != Op.FORK else Event(Op.FORK, event.id, process=event.process) for event in events
    ]
    assert Trace.of(events, "steps").header.events == len(events)


@pytest.mark.parametrize("language", allocators.LANGUAGES)
@pytest.mark.parametrize("name", allocators.names())
def test_an_access_that_kills_the_process_is_raised(name, language):
    """All memory of the heap is taken away under it."""
    process = Kernel(ram="16 MiB", seed=1).init.fork()
    heap = allocators.create(name, process, language)
    p = heap.malloc(100)
    for span in list(heap.walk()):
        page = span.start & -4096
        process.munmap(page, span.end - page)
    with pytest.raises(SegmentationFault):
        heap.free(p)


def test_every_design_in_python_has_a_twin_in_c():
    assert allocators.names("python") == allocators.names("c")
    for name in allocators.names():
        design = allocators.parse(name, "c").design
        assert issubclass(design, core.CAllocator)
        assert design.LANGUAGE == "c"
