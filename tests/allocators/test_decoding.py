"""Every word of a design's own is decoded, as walk and index have it; broken ones are said, not raised."""

import functools
from itertools import chain
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab import allocators
from heaplab.allocators import State, Trait
from heaplab.allocators.base import SIZE_MAX
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.contract import HeapFactory
from heaplab.testing.specs import tuned
from heaplab.testing.steps import random_step

DESIGNS = allocators.names()
#: every design as it is and tuned, with its seals, and the list that has a rover
SPECS = [
    *dict.fromkeys([*DESIGNS, *map(tuned, DESIGNS)]),
    *("rbtree:seal=off", "spans:seal=keyed", "freelist:fit=next:order=address"),
]


def heap_of(spec, language="python", steps=60, **kernel):
    """A heap with some history."""
    checked, chance = CheckedHeap(spec, language, **kernel), Random(5)
    for _ in range(steps):
        checked.do(random_step(checked, chance, processes=1))
    return checked.heaps[0]


looked_at = functools.cache(heap_of)  # for tests that change nothing


@pytest.fixture(params=SPECS)
def heap(request):
    return looked_at(request.param)


def words_of(heap, span):
    return list(heap.words(span.start, span.end, span.start))


@functools.cache
def words_by_span(heap):
    """What the heap has, and the words that each span has."""
    return [(span, words_of(heap, span)) for span in heap.walk()]


def verify_tiled(words, start, end):
    """The words are side by side, and all the bytes of [start, end)."""
    at = start
    for word in words:
        assert word.address == at, f"{word} does not stand at {at:#x}"
        at += word.size
    assert at == end


def test_metadata_and_headers_consist_of_words(heap):
    for span, words in words_by_span(heap):
        if span.state == State.METADATA:
            verify_tiled(words, span.start, span.end)
        elif span.state != State.LARGE:
            verify_tiled([word for word in words if word.address < span.payload], span.start, span.payload)
        if span.state.is_live:
            assert all(word.address < span.payload for word in words)
        assert not any("broken" in word.text for word in words)


def test_headers_say_what_the_walk_says(heap):
    headers = 0
    for span, words in words_by_span(heap):
        for word in words:
            if word.name == "header" and span.state in (State.FREE, State.ALLOCATED):
                said = word.text.split(", ")
                assert said[0] == f"size {span.size:#x}"
                assert said[1] == span.state.name.lower()
                headers += 1
    assert headers > 10 or Trait.HEADERS not in heap.TRAITS


def test_words_of_a_range_are_those_of_its_spans(heap):
    spans, words = zip(*words_by_span(heap), strict=True)
    assert list(heap.words(spans[0].start, spans[-1].end)) == [*chain(*words)]
    for n in range(0, len(spans), 7):
        assert list(heap.words(spans[n].start, spans[n].end)) == words[n]


def test_links_lead_to_blocks_and_to_words_of_the_design(heap):
    own = [range(span.start, span.end) for span, _ in words_by_span(heap) if span.state == State.METADATA]
    links = [word for _, words in words_by_span(heap) for word in words if word.to]
    blocks = {span.start for span, _ in words_by_span(heap)}
    assert len(links) > 10
    for word in links:
        assert word.to in blocks or any(word.to in span for span in own), word


def test_the_index_is_a_forest_in_its_own_order(heap):
    """Each entry is reached once; in a list each is under the one before."""
    entries = list(heap.index())
    by_start = {entry.start: entry for entry in entries}
    assert len(by_start) == len(entries) > 0
    for entry in entries:
        above, steps = entry, 0
        while above.under:
            above, steps = by_start[above.under], steps + 1
            assert above.group == entry.group
            assert steps < len(entries)
    for group in {entry.group for entry in entries}:
        first = [entry for entry in entries if entry.group == group and not entry.under]
        assert len(first) == 1 or heap.NAME == "slab"


def test_who_leads_to_an_entry_is_what_the_words_say(heap):
    """A link in the block above, or a word of the design's own; in a binary heap, half of a slot's number."""
    words = {span.start: words for span, words in words_by_span(heap)}
    own = {
        word.to: word.name
        for span, words in words_by_span(heap)
        if span.state == State.METADATA
        for word in words
        if word.to
    }
    for entry in heap.index():
        if heap.NAME == "binheap" and entry.under:
            slot, above = (int(own[start].removeprefix("slot ")) for start in (entry.start, entry.under))
            assert above == (slot - 1) // 2
        elif entry.under:
            down = [word.name for word in words[entry.under] if word.to == entry.start]
            assert set(down) & {"next", "left", "right"}, entry
        else:
            assert entry.start in own or heap.NAME == "slab"


@pytest.mark.parametrize("spec", DESIGNS)
def test_c_says_what_python_says(spec):
    python, c = looked_at(spec), looked_at(spec, "c")
    words = list(c.words(0, SIZE_MAX))
    assert words == list(python.words(0, SIZE_MAX))
    assert len(words) > 10
    assert list(c.index()) == list(python.index())
    assert c.STRUCTURE == python.STRUCTURE != ""


@functools.cache
def broken_heap(spec):
    heap = heap_of(spec, "c", 40, ram="8 MiB")
    words = []
    for span in heap.walk():
        last = span.end if span.state == State.METADATA else span.payload
        words += range(span.start, last, 8)
        if span.state == State.FREE:
            words += range(span.payload, min(span.end, span.payload + 24), 8)
    return heap, words


@pytest.mark.parametrize("spec", DESIGNS)
def test_words_of_a_broken_heap_end_and_say_so(spec):
    """Noise, addresses of the heap and of nobody's over its words: nothing raises, and all ends."""
    heap, words = broken_heap(spec)
    values = st.one_of(st.integers(0, SIZE_MAX), st.sampled_from([*words, 0, 8, 1 << 46, heap.root]))

    @settings(max_examples=25, deadline=None)
    @given(st.dictionaries(st.sampled_from(words), values, min_size=1, max_size=6))
    def broken(stored):
        child = heap.attach(heap.process.fork())
        for address, value in stored.items():
            child.process.store64(address, value)
        for address in [0, *stored]:
            said = list(child.words(address, address + 64 if address else SIZE_MAX))
            assert all(word.size > 0 for word in said)
            assert said == sorted(said)
        child.process.exit(0)
        heap.process.wait()

    broken()


@pytest.mark.parametrize("spec", [name for name in DESIGNS if name != "slab"])
def test_a_broken_word_is_said(spec):
    """One bit of a header, a link or a seal."""
    heap = heap_of(spec, "c")
    (sealed,) = [word for word in heap.words(0, SIZE_MAX) if "seal ok" in word.text][:1]
    heap.process.store64(sealed.address, heap.process.load64(sealed.address) ^ 0x10)
    (broken,) = heap.words(sealed.address, sealed.address + 8)
    assert broken.address == sealed.address
    assert "broken" in broken.text


@pytest.mark.parametrize("spec", ["freelist", "rbtree", "binheap"])
def test_broken_links_are_said_and_lead_nowhere(spec):
    heap = heap_of(spec, "c")
    block = next(entry.start for entry in heap.index() if entry.under)
    for value, leads in (0x123450, False), (heap.root + 0x1008, spec != "binheap"):
        heap.process.store64(block + 8, value)
        word = next(word for word in heap.words(block, block + 32) if word.address == block + 8)
        assert "broken" in word.text
        assert bool(word.to) == leads


def test_behind_a_broken_header_no_block_is_made_up():
    heap = heap_of("freelist")
    spans = [span for span in heap.walk() if span.state == State.ALLOCATED]
    heap.process.store64(spans[3].start, 0)
    (lost,) = heap.words(spans[6].start, spans[6].payload)
    assert lost.name == "broken"
    assert f"{spans[3].start:#x}" in lost.text
    # a caller who knows that a block stands there is told
    (known,) = heap.words(spans[6].start, spans[6].payload, spans[6].start)
    assert known.name == "header"


def test_words_change_nothing(heap):
    context = heap.process.context
    before = (context.loads, context.stores, context.faults, heap.process.syscalls)
    assert list(heap.words(heap.root, heap.root + 64))
    assert (context.loads, context.stores, context.faults, heap.process.syscalls) == before


def test_what_other_threads_have_freed_is_linked_to_its_span():
    heap = HeapFactory("spans").heap()
    blocks = [heap.malloc(4000) for _ in range(3)]
    heap.process.context.thread = 1
    for p in blocks[:2]:
        heap.free(p)
    words = {word.address: word for word in heap.words(0, SIZE_MAX)}
    (remote,) = [word for word in words.values() if word.name == "remote" and word.to]
    assert remote.text == f"freed by other threads: 2, first freed: {blocks[1]:#x}"
    assert (remote.to, words[blocks[1]].to, words[blocks[0]].to) == (blocks[1], blocks[0], 0)
    assert blocks[2] not in words
    (mailbox,) = [word for word in words.values() if word.name == "mailbox" and word.to]
    assert words[mailbox.to].name == "head"


def test_a_count_that_cannot_be_ends_too():
    """The binary heap's capacity and count, and the slots of the large blocks' table."""
    heap = heap_of("binheap", "c")
    for address, value in (heap.root + 64, 1 << 60), (heap.root + 72, 1 << 59), (heap.root + 16, 63):
        heap.process.store64(address, value)
        words = list(heap.words(0, SIZE_MAX))
        assert any(word.name == "broken" for word in words) or value == 1 << 60
