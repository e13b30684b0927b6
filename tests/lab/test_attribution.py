"""Every resident byte is somewhere, and the sum is the resident size."""

import numpy as np
import pytest

from heaplab.allocators import parse
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab import run
from heaplab.lab.attributing import Unaccounted, attribute
from heaplab.lab.replay import SAMPLES, Replay
from heaplab.traces import Event, Op, Trace, open_trace, synthetic
from heaplab.traces.sites import Sites, read_sites

PAGE = 4096
#: a block of 4096 bytes with its header, as freelist makes it: one a page
WHOLE = 4096 - 16


def designs():
    return ["freelist:fit=first:order=address", "rbtree", "buddy", "slab", "spans", "binheap"]


def of(events, spec="freelist:fit=first:order=address", language="c", **options):
    return run(Trace.of(events, "t"), spec, language, **options)


def adds_up(found):
    assert min(found.parts.values()) >= 0
    assert sum(found.parts.values()) == found.resident
    assert 0 <= found.sparse <= found.pinned
    assert 0 <= found.falls <= found.sparse_pages
    return True


@pytest.mark.parametrize("language", ["c", "python"])
def test_every_figure_of_a_tiny_heap(language):
    record = of([Event(Op.MALLOC, 0, 100), Event(Op.MALLOC, 1, 1000)], language=language)
    found = record.attribution
    assert (found.event, found.page, found.resident) == (2, PAGE, record.peak_resident)
    assert found.payload == 1100
    assert found.payload + found.internal + found.metadata == (
        record.fragmentation.allocated + record.fragmentation.metadata
    )
    assert (found.vacant, found.copied) == (0, 0)
    assert found.pinned == found.resident - record.fragmentation.allocated - record.fragmentation.metadata
    assert adds_up(found)


@pytest.mark.parametrize("spec", designs())
def test_the_parts_add_up_to_what_the_replay_counts_at_every_moment(spec):
    moments = np.linspace(1, 3000, SAMPLES).astype(int).tolist()[40::40]  # of which the timeline has samples
    record = run(synthetic(3000, seed=5, slots=300, median=200), spec, walks=moments)
    at = dict(zip(record.timeline.event, record.timeline.resident, strict=True))
    assert [standing.event for standing in record.walks] == moments
    for standing in record.walks:
        assert adds_up(standing.attribution)
        assert standing.attribution.event == standing.event
        assert standing.resident == at[standing.event]
    assert adds_up(record.attribution)
    assert record.attribution.resident == at[record.attribution.event]


@pytest.mark.parametrize("spec", designs())
def test_one_process_has_the_same_free_space_in_frames_as_its_excess_says(spec):
    record = run(synthetic(3000, seed=5, slots=300, median=200), spec)
    found, excess = record.attribution, record.excess
    assert (found.pinned, found.vacant, found.sparse) == (excess.pinned, excess.vacant, excess.sparse)
    assert found.pin_blocks == excess.sparse_blocks
    assert found.internal <= excess.internal
    assert found.metadata <= excess.metadata
    assert found.payload == record.peak_live
    assert sum(each.bytes for each in found.rounding) == found.internal


@pytest.mark.parametrize("name", ["lua", "git-grep"])
@pytest.mark.parametrize("spec", designs())
def test_it_adds_up_on_programs(name, spec):
    record = run(open_trace(name), spec, walks=4, verify=False)
    assert record.outcome == "finished"
    for found in (record.attribution, *(walk.attribution for walk in record.walks)):
        assert adds_up(found)


def test_it_adds_up_on_a_program_of_many_processes():
    record = run(open_trace("redis"), "spans", walks=3, verify=False)
    assert record.outcome == "finished"
    assert all(adds_up(walk.attribution) for walk in record.walks)
    assert adds_up(record.attribution)


def test_the_twins_agree():
    trace = synthetic(800, seed=2, slots=120, median=300)
    first, second = (run(trace, "rbtree", language, walks=3, lines=True) for language in ("c", "python"))
    assert first.attribution == second.attribution
    assert first.walks == second.walks
    assert first.lines == second.lines
    assert first.heap_over_live == second.heap_over_live


def test_without_payloads_what_was_never_touched_is_not_resident():
    events = [Event(Op.MALLOC, 0, 50 * PAGE), Event(Op.MALLOC, 1, 40)]
    found = of(events, "rbtree:mmap_threshold=128KiB", payload=False).attribution
    assert found.payload < 2 * PAGE
    assert adds_up(found)


def test_pages_that_hold_nothing_are_vacant():
    events = [Event(Op.MALLOC, slot, WHOLE) for slot in range(64)]
    events += [Event(Op.MALLOC, 64, WHOLE), *(Event(Op.FREE, slot) for slot in range(64))]
    found = of(events, walks=[len(events)]).walks[0].attribution
    assert found.vacant >= 60 * PAGE
    assert adds_up(found)


# ---- pins ----


def test_blocks_that_alone_hold_pages_are_found():
    events = []
    for slot in range(0, 40, 2):  # a small block at the head of each page, and one that fills the rest
        events += [Event(Op.MALLOC, slot, 48), Event(Op.MALLOC, slot + 1, PAGE - 96)]
    events += [Event(Op.FREE, slot + 1) for slot in range(0, 40, 2)]
    events += [Event(Op.MALLOC, 1, 24), Event(Op.FREE, 1)] * 40  # so that the others are old
    peak = len(events)
    events += [Event(Op.MALLOC, 1, 2 * 1024 * 1024)]  # the peak, in a mapping of its own
    found = of(events, "freelist:fit=first:order=address:mmap_threshold=128KiB", payload=True).attribution
    assert found.event == peak + 1
    assert found.pin_blocks == 20
    assert found.falls >= 18  # the root is in the first page
    assert found.sparse_pages >= found.falls
    [old, *_] = found.by("age")
    assert (old.what, old.since, old.blocks) == ("older than half the run", 0, 20)
    [size] = found.by("size")
    assert (size.what, size.blocks, size.falls) == ("33 to 64 bytes", 20, found.falls)
    assert adds_up(found)


def test_pages_of_two_groups_fall_for_neither_alone():
    events = []
    for slot in range(0, 60, 3):
        events += [Event(Op.MALLOC, slot, 48), Event(Op.MALLOC, slot + 1, PAGE - 96 - 208)]
        events += [Event(Op.MALLOC, slot + 2, 200)]
    events += [Event(Op.FREE, slot + 1) for slot in range(0, 60, 3)]
    events += [Event(Op.MALLOC, 1, 24), Event(Op.FREE, 1)] * 40
    events += [Event(Op.MALLOC, 1, 2 * 1024 * 1024)]
    found = of(events, "freelist:fit=first:order=address:mmap_threshold=128KiB").attribution
    assert found.falls >= 18
    assert {pin.what for pin in found.by("size")} == {"33 to 64 bytes", "129 to 256 bytes"}
    assert sum(pin.falls for pin in found.by("size")) <= 2
    assert found.by("age")[0].falls == found.falls


def test_a_block_is_as_old_as_the_realloc_that_moved_it_last():
    events = [Event(Op.MALLOC, 0, 40), Event(Op.MALLOC, 1, 40), Event(Op.REALLOC, 0, 60)]
    events += [Event(Op.FREE, 1), Event(Op.MALLOC, 1, 45)]
    found = of(events).attribution
    assert found.pin_blocks == 2
    assert {pin.what: pin.since for pin in found.by("age")} == {
        "older than half the run": 2,
        "made in the second half of the run": 4,
    }


def sites_of(tmp_path, lines):
    path = tmp_path / "x.sites"
    path.write_text("heaplab sites 1\nstack 1 main;table\nstack 2 main;list;malloc\n" + lines)
    return read_sites(path)


def test_call_sites_name_the_pins(tmp_path):
    events = [Event(Op.MALLOC, 0, 40), Event(Op.MALLOC, 1, 50), Event(Op.MALLOC, 2, 60), Event(Op.FREE, 1)]
    events += [Event(Op.MALLOC, 1, 51)]
    sites = sites_of(tmp_path, "process 0\n1 40 1\n2 50 1\n1 60 1\n2 51 1\n")
    found = of(events, sites=sites).attribution
    assert {(pin.what, pin.blocks, pin.since) for pin in found.by("site")} == {
        ("table", 2, 0),
        ("list", 1, 4),
    }


def test_call_sites_of_another_trace_are_refused(tmp_path):
    sites = sites_of(tmp_path, "process 0\n1 40 1\n")
    assert isinstance(sites, Sites)
    with pytest.raises(UsageError, match="not of this trace"):
        of([Event(Op.MALLOC, 0, 41)], sites=sites)


# ---- fork ----


def family(*, child_writes):
    """A parent with 30 pages; a child, which then allocates, or does not."""
    events = [Event(Op.MALLOC, slot, WHOLE) for slot in range(30)]
    events += [Event(Op.FORK, 1)]
    if child_writes:
        events += [Event(Op.FREE, slot, process=1) for slot in range(0, 20, 2)]
        events += [Event(Op.MALLOC, slot, WHOLE, process=1) for slot in range(0, 20, 2)]
    return [*events, Event(Op.MALLOC, 30, 8 * WHOLE)]


def test_what_fork_shares_counts_once():
    record = of(family(child_writes=False), walks=[32])
    found = record.walks[0].attribution
    assert found.payload == 30 * WHOLE + 8 * WHOLE
    assert record.walks[0].live == 2 * 30 * WHOLE + 8 * WHOLE
    assert found.copied <= 3 * PAGE
    assert adds_up(found)


@pytest.mark.parametrize("spec", designs())
def test_pages_that_the_child_wrote_are_copied(spec):
    record = of(family(child_writes=True), spec)
    found = record.attribution
    assert found.copied >= 9 * PAGE
    assert adds_up(found)


def test_a_copy_is_none_any_more_when_the_original_is_gone():
    events = [*family(child_writes=True), Event(Op.EXIT, process=1)]
    found = of(events, walks=[len(events)]).walks[0].attribution
    assert found.copied == 0
    assert adds_up(found)


def test_pages_that_both_sides_took_after_the_fork_are_no_copies():
    events = [Event(Op.MALLOC, 0, 40), Event(Op.FORK, 1)]
    events += [Event(Op.MALLOC, 1, 20 * WHOLE, process=number) for number in (0, 1)]
    found = of(events).attribution
    assert found.copied <= PAGE  # that with the root
    assert found.payload >= 2 * (20 * WHOLE - PAGE)  # the first of the blocks may lie in that page


def test_frames_that_nobody_has_are_not_passed_over():
    replay = Replay(Trace.of([Event(Op.MALLOC, 0, 40)]), parse("rbtree"), Kernel())
    replay.advance(1)
    assert replay.end is None
    with pytest.raises(Unaccounted, match=r"8\.00 KiB are resident, .* make 0 B"):
        attribute(replay.kernel.machine, [], 1)
