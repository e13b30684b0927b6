"""The map of VMAs, and the index of the holes between them, against plain search."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab.kernel import Kernel
from heaplab.kernel import vmas as module
from heaplab.kernel.vma import VM_GROWSDOWN, VM_READ, Vma

PAGE = 256
PAGES = 60


def new_map():
    """The map of init, emptied, with stacks that keep two pages free below them."""
    mm = Kernel(ram=4 * PAGE, page_size=PAGE, aslr=False).system.init.mm
    for one in list(mm.vmas):
        mm.vmas.remove(one)
    mm.vmas._guard_gap = 2 * PAGE
    return mm.vmas


def vma(first, pages, grows=False):
    return Vma(first * PAGE, (first + pages) * PAGE, VM_READ | (VM_GROWSDOWN if grows else 0), first)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "remove", "grow", "raise", "look"]),
            st.integers(0, PAGES - 1),
            st.integers(1, 5),
            st.booleans(),
        ),
        max_size=40,
    ),
    few=st.sampled_from([-1, 3, 1000]),
)
def test_holes_are_found_with_and_without_the_index(steps, few):
    """`few` -1: the index from the start; 3: built on the way; 1000: never."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW", few)
        vmas, taken = new_map(), {}
        for verb, first, pages, flag in steps:
            held = taken.get(first)
            free = all(page not in taken for page in range(first, first + pages))
            if verb == "add" and free:
                new = vma(first, pages, flag)
                vmas.add(new)
                taken.update(dict.fromkeys(range(first, first + pages), new))
            elif verb == "remove" and held:
                vmas.remove(held)
                taken = {page: one for page, one in taken.items() if one is not held}
            elif verb == "grow" and held and held.end // PAGE not in taken:
                taken[held.end // PAGE] = held
                vmas.resize(held, held.start, held.end + PAGE)
            elif verb == "raise" and held and held.end - held.start > PAGE:
                del taken[held.start // PAGE]
                vmas.resize(held, held.start + PAGE, held.end)
                assert held.pgoff == held.start // PAGE
            low, high = 3, PAGES - first // 2
            assert vmas.highest_hole(pages * PAGE, low * PAGE, high * PAGE) == plain(taken, pages, low, high)
            assert list(vmas) == sorted(set(taken.values()), key=lambda one: one.start)
            assert vmas.at(first * PAGE + 5) is taken.get(first)
            above = next((taken[page] for page in range(first, PAGES + 9) if page in taken), None)
            assert vmas.first_ending_after(first * PAGE) is above


def plain(taken, pages, low, high):
    """The highest place, page by page; a stack claims the free ones of the two pages below it."""
    claimed = set(taken)
    for one in set(taken.values()):
        page = one.start // PAGE
        if one.flags & VM_GROWSDOWN and page - 1 not in taken:
            claimed |= {page - 1} if page - 2 in taken else {page - 1, page - 2}
    for first in range(high - pages, low - 1, -1):
        if not claimed & set(range(first, first + pages)):
            return first * PAGE
    return None


def test_a_large_map_does_not_slow_down_placement():
    """Counted, not timed: how many VMAs a search looks at."""
    vmas = new_map()
    for first in range(1, 2001, 2):
        vmas.add(vma(first, 1))
    looked = 0
    honest = Vma.lowest

    def counting(one, gap):
        nonlocal looked
        looked += 1
        return honest(one, gap)

    with pytest.MonkeyPatch.context() as patch:
        vmas.highest_hole(PAGE, 0, 2000 * PAGE)  # builds the index
        patch.setattr(Vma, "lowest", counting)
        assert vmas.highest_hole(PAGE, 0, 2000 * PAGE) == 1998 * PAGE
        assert vmas.highest_hole(2 * PAGE, PAGE, 2000 * PAGE) is None
        vmas.remove(vmas.at(501 * PAGE))
        assert vmas.highest_hole(3 * PAGE, 0, 2000 * PAGE) == 500 * PAGE
    assert looked < 12
