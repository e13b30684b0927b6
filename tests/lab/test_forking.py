"""What forks cost: every copy is counted once, on its side, with its cause."""

import dataclasses

import numpy as np
import pytest

from heaplab import lab
from heaplab.allocators import names, parse
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab.forking import Place, Side
from heaplab.lab.prediction import predict
from heaplab.lab.replay import Replay
from heaplab.lab.run import RAM
from heaplab.traces import Event, Op, Snapshot, Trace, snapshotting, synthetic

SNAPSHOT = snapshotting(
    synthetic(4000, seed=5, slots=600, median=400, aligned=0), Snapshot(at=2000, length=600, frees=True)
)


def server(*after, size=1000):
    """Twelve blocks, a fork, and what happens after it."""
    live = [Event(Op.MALLOC, slot, size) for slot in range(12)]
    return Trace.of([*live, Event(Op.FORK, 1), *after], "server")


@pytest.mark.parametrize("design", names("c"))
def test_copies_are_the_kernel_s_and_those_that_a_look_at_the_frames_finds(design):
    cost = lab.fork_cost(SNAPSHOT, design)
    kernel, heard = Kernel(ram=RAM, seed=1), []
    kernel.system.on_copy = lambda mm, va, frame: heard.append(va)
    plain = Replay(SNAPSHOT, parse(design, "c"), kernel, verify=False, samples=1)
    plain.advance(SNAPSHOT.header.events)
    assert cost.copies.address.tolist() == heard
    assert cost.both.pages == len(heard) == cost.parent.pages + cost.child.pages > 0
    seen = predict(SNAPSHOT, design)
    gives_back = any(word in call for event, call in seen.calls if event > 2000 for word in ("brk", "munmap"))
    if not gives_back:  # such a page is not seen afterwards
        assert (cost.parent.pages, cost.child.pages) == (seen.copied_in_parent, seen.copied_in_child)


def test_a_free_copies_pages_of_payload_in_band_and_a_page_of_words_out_of_band():
    trace = server(Event(Op.FREE, 0, process=1), Event(Op.EXIT, process=1))
    tree = lab.fork_cost(trace, "rbtree")
    assert (tree.child.metadata, tree.child.alone, tree.child.payload, tree.parent.pages) == (2, 2, 0, 0)
    header, link = tree.copies.place.tolist()
    assert (header, link) == (Place.BESIDE, Place.FREE)  # the block's, and of the free rest of the heap
    assert (tree.copies.payload > 3900).all()
    slab = lab.fork_cost(trace, "slab")
    assert slab.child == Side(metadata=1, payload=0, alone=1, needless=0)
    assert (slab.copies.place[0], slab.copies.own[0], slab.copies.payload[0]) == (Place.OWN, 4096, 0)


def test_a_new_block_s_page_is_the_payload_s_and_metadata_alone_has_copied_pages_without_new_blocks():
    fresh = server(Event(Op.MALLOC, 12, 100, process=1), Event(Op.EXIT, process=1), size=100)
    slab = lab.fork_cost(fresh, "slab")
    assert slab.child == Side(metadata=1, payload=1, alone=1, needless=0)
    again = server(Event(Op.FREE, 4, process=1), Event(Op.MALLOC, 4, 1000, process=1))
    tree = lab.fork_cost(again, "rbtree").copies
    assert tree.metadata.all()
    block = tree.payload > 4000  # the page between the first, which has the root, and the last
    assert tree.alone[block].tolist() == [False]


def test_a_copy_is_needless_once_nobody_else_has_a_block_on_the_page():
    live = [Event(Op.MALLOC, slot, 2048) for slot in range(8)]  # two on a page
    gone = [Event(Op.FREE, slot, process=1) for slot in range(8)]
    again = [Event(op, slot, size) for op, size in ((Op.FREE, 0), (Op.MALLOC, 2048)) for slot in range(8)]
    all_gone = Trace.of([*live, Event(Op.FORK, 1), *gone, *again])
    cost = lab.fork_cost(all_gone, "slab:keep=1MiB")
    assert (cost.parent.payload, cost.parent.needless) == (4, 4)
    most_gone = Trace.of([*live, Event(Op.FORK, 1), *gone[:5], *again])
    cost = lab.fork_cost(most_gone, "slab:keep=1MiB")
    assert (cost.parent.payload, cost.parent.needless) == (4, 2)


def test_a_block_that_grows_in_its_place_writes_what_is_new_alone():
    grows = server(Event(Op.REALLOC, 11, 6000, process=1))
    assert lab.fork_cost(grows, "rbtree").copies.alone.tolist() == [True, False]  # the root, the rest
    large = [Event(Op.MALLOC, 0, 9000), Event(Op.FORK, 1), Event(Op.REALLOC, 0, 12000, process=1)]
    copies = lab.fork_cost(Trace.of(large), "rbtree").copies
    assert copies.place.tolist() == [Place.OWN, Place.FREE]  # the root, before it; the free block behind it
    assert copies.alone.tolist() == [True, False]  # what was kept was not written


def test_sides_go_by_the_last_fork_that_a_process_took_part_in():
    trace = server(
        Event(Op.FREE, 0, process=1),  # as a child
        Event(Op.FORK, 2, process=1),
        Event(Op.FREE, 4),  # as the first parent
        Event(Op.FREE, 1, process=1),  # as a parent
        Event(Op.EXEC, process=2),
        Event(Op.MALLOC, 0, 1000, process=2),  # shares nothing
    )
    copies = lab.fork_cost(trace, "freelist").copies
    sides = set(zip(copies.process.tolist(), copies.in_parent.tolist(), strict=True))
    assert sides == {(1, False), (0, True), (1, True)}
    assert set(copies.until[(copies.process == 1) & ~copies.in_parent].tolist()) == {14}  # its own fork


@pytest.mark.parametrize("design", ["rbtree", "slab", "spans"])
def test_what_a_page_held_adds_up_and_both_languages_agree(design):
    trace = snapshotting(synthetic(300, seed=2, slots=100, aligned=0), Snapshot(at=150, frees=True))
    in_c, in_python = (lab.fork_cost(trace, design, language) for language in ("c", "python"))
    for name, column in in_c.copies.columns().items():
        assert column.tolist() == in_python.copies.columns()[name].tolist(), name
    held = sum(getattr(in_c.copies, name).astype(int) for name in ("payload", "beside", "free", "own"))
    assert (held <= 4096).all()
    inside = held[in_c.copies.place != Place.FREE]
    assert (inside == 4096).mean() > 0.8  # all but the first and the last page of a heap
    assert dataclasses.replace(in_c, language="python").figures() == in_python.figures()


def test_two_runs_are_equal_and_the_text_has_the_sums():
    one, other = (lab.fork_cost(SNAPSHOT, "rbtree") for _ in range(2))
    assert str(one) == str(other)
    rows = [line.rsplit(maxsplit=3) for line in str(one).splitlines()[2:]]
    number = {row[0].strip(): [int(cell.replace(",", "")) for cell in row[1:]] for row in rows}
    assert number["all"] == [one.parent.pages, one.child.pages, one.both.pages]
    places = [number[name] for name in number if name.startswith(("in ", "apart"))]
    assert np.sum(places, axis=0).tolist() == number["metadata"]


def test_a_trace_without_forks_is_refused_with_the_way_out():
    with pytest.raises(UsageError, match=r"never forks.*--snapshot"):
        lab.fork_cost(synthetic(10), "rbtree")
