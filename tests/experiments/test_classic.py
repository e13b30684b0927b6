"""What the classical experiments count, on cases small enough to count by hand."""

import doctest
import importlib.util
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from heaplab.traces import Event, Op, Trace

FOLDER = Path(__file__).resolve().parents[2] / "experiments"


def load(name):
    """A script of experiments/, as a module."""
    spec = importlib.util.spec_from_file_location(f"classic_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fifty, randell, server, large = map(load, ("fifty_percent", "randell", "long_running_server", "brk_or_mmap"))


@pytest.mark.parametrize("module", [fifty, randell, server, large], ids=lambda module: module.__name__)
def test_their_examples(module):
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_free_blocks_and_free_neighbours():
    blocks = fifty.Neighbours()
    for start in (0, 10, 20, 30):
        blocks.begin(start, start + 10, 10, counted=False)
    assert blocks.free == 1, "the end of the heap"
    blocks.end(10, 10, counted=True)  # between two live blocks
    assert blocks.free == 2
    blocks.end(20, 10, counted=True)  # beside the hole: they merge
    assert blocks.free == 2
    blocks.begin(10, 15, 5, counted=True)  # splits the hole
    blocks.begin(15, 30, 15, counted=True)  # fits what is left of it
    blocks.count()
    found = blocks.balance()
    assert (found.neighbours, found.split) == (0.5, 0.5)
    assert (found.live, found.free, found.used) == (4, 1, 1)


@pytest.mark.parametrize("high", [0.0, 1.0])
def test_the_control_puts_blocks_at_either_end(high):
    events = [Event(Op.MALLOC, slot, 10) for slot in range(4)]
    events += [Event(Op.FREE, 1), Event(Op.MALLOC, 1, 4), Event(Op.MALLOC, 4, 6)]
    found = fifty.drawn_ends(Trace.of(events), high, 1)
    # the second half: the last of the four splits the end of the heap, 4 of 10 bytes split, 6 of 6 fit
    assert found.split == pytest.approx(2 / 3)
    assert found.neighbours == 0, "the block that was freed had two live neighbours"


def test_lifetimes_that_no_distribution_has_are_refused():
    with pytest.raises(fifty.UsageError, match=r"variations 0\.8"):
        fifty.lifetimes(100, 0.8)
    assert fifty.lifetimes(100, 0.577).cv == pytest.approx(0.577)


def test_rounding_leaves_frees_and_counts_headers():
    trace = Trace.of([Event(Op.MALLOC, 0, 57), Event(Op.REALLOC, 0, 56), Event(Op.FREE, 0)])
    rounded = randell.rounded(trace, partial(randell.multiples, 64))
    assert [event.size for event in rounded.events()] == [120, 56, 0]
    assert randell.live_bytes(trace).tolist() == [0, 57, 56, 0]


def test_classes_contain_the_powers_of_two():
    sizes = np.array([16, 64, 4096])
    assert randell.classes(8, sizes).tolist() == sizes.tolist()
    assert randell.classes(1, np.array([33, 4097])).tolist() == [64, 8192]


def test_loss_is_counted_against_what_was_asked_for():
    trace = Trace.of([Event(Op.MALLOC, slot, 56) for slot in range(2000)])
    asked = randell.live_bytes(trace)
    exact = randell.loss(trace, asked, partial(randell.multiples, 16), "rbtree", 1)
    double = randell.loss(trace, asked, partial(randell.multiples, 128), "rbtree", 1)
    assert exact.inside == pytest.approx(8 / 56)
    assert double.inside == pytest.approx(72 / 56)
    assert abs(double.between - exact.between) < 0.1


def test_the_proxy_holds_no_more_than_its_cache():
    trace = server.proxy(3000, 1 << 20, 32768, 0.2, 1)
    again = server.proxy(3000, 1 << 20, 32768, 0.2, 1)
    assert trace.header == again.header
    assert trace.header.peak_live < 2 << 20, "the cache, clusters on their way to the disk, and records"
    assert 0.5 < server.cluster_share(trace, 32768) < 1


def test_the_ranks_of_the_published_tables():
    hummingbird, emacs = zip(*server.PUBLISHED.values(), strict=True)
    assert server.ranks(hummingbird).tolist() == list(range(1, 10)), "an overflow is the last"
    assert server.correlation(hummingbird, hummingbird) == 1
    assert -0.2 < server.correlation(hummingbird, emacs) < 0
    assert math.isinf(hummingbird[-1])


def test_a_trace_without_its_shutdown_ends_at_the_peak():
    trace = Trace.of([Event(Op.MALLOC, 0, 10), Event(Op.MALLOC, 1, 20), Event(Op.FREE, 0), Event(Op.FREE, 1)])
    assert [str(event) for event in server.without_shutdown(trace).events()] == ["malloc 0 10", "malloc 1 20"]


def test_thresholds_in_words():
    assert [large._bytes(text) for text in ("64KiB", "2MiB", "7")] == [65536, 2 << 20, 7]
