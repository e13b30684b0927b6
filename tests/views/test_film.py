"""A few requests on several designs: each still is what the design does."""

import pytest

from heaplab.allocators import Entry, names, parse
from heaplab.errors import UsageError
from heaplab.views.film import film, free_words, heap_words


def last(spec: str, script: str) -> list[str]:
    """The heap in words after a script."""
    return heap_words(film([spec], script).reels[0].stills[-1].view)


def test_first_and_best_fit_choose_differently() -> None:
    script = "a0 400; a1 100; a2 600; a3 100; f0; f2; a4 280"
    first, best = film(["freelist:fit=first", "freelist:fit=best"], script).reels
    assert heap_words(first.stills[-1].view)[1:5] == ["(416)", "[1: 112]", "[4: 288]", "(320)"]
    assert heap_words(best.stills[-1].view)[1:5] == ["[4: 288]", "(128)", "[1: 112]", "(608)"]
    # heap order and list order are two orders: the newest free block is first in the list
    assert free_words(first.stills[-2].view)[:2] == ["608 at +0x268", "416 at +0x58"]


@pytest.mark.parametrize("language", ["python", "c"])
@pytest.mark.parametrize("spec", names())
def test_every_design_can_be_shown(spec: str, language: str) -> None:
    shown = film([spec], "a0 100; m1 64 200; c2 3000; r0 900; f1; fork; f2 @1; exit @1; a3 300k", language)
    stills = shown.reels[0].stills
    assert [still.request for still in stills][1:] == list(shown.requests)
    assert not any(still.problem for still in stills)
    labels = {block.label.slot: block for block in stills[-1].view.live}
    assert sorted(labels) == [0, 2, 3]
    assert labels[3].payload == stills[-1].address
    assert stills[6].view.pid != stills[7].view.pid  # the free in the child is shown in the child's heap


def test_a_double_free_ends_the_reel_with_the_rule() -> None:
    stills = film(["rbtree"], "a0 10; f0; f0; a1 10").reels[0].stills
    assert len(stills) == 4
    assert "double free" in stills[-1].problem


def test_no_memory_is_said_and_the_reel_goes_on() -> None:
    stills = film(["rbtree"], "a0 900g; a1 10").reels[0].stills
    assert "ENOMEM" in stills[1].problem
    assert stills[2].address


def test_realloc_to_0_bytes_frees_and_is_no_lack_of_memory() -> None:
    stills = film(["rbtree"], "a0 100; a1 10; r0 0; a2 100").reels[0].stills
    assert not any(still.problem for still in stills)
    assert [block.label.slot for block in stills[3].view.live if block.label] == [1]
    assert stills[4].address == stills[1].address


def test_a_design_that_loops_or_raises_costs_its_own_reel(tmp_path) -> None:
    source = (
        "from heaplab.allocators.designs.freelist import FreeList\n"
        "class Mine(FreeList):\n"
        "    NAME = 'mine'\n"
        "    def malloc(self, size):\n"
        "        while size == 7:\n"
        "            self._load(self.root)\n"
        "        return super().malloc(1 // (size - 8) * 0 + size)\n"
    )
    path = tmp_path / "mine.py"
    path.write_text(source)
    assert "does not return" in film([str(path)], "a0 7; a1 1").reels[0].stills[-1].problem
    assert "ZeroDivisionError" in film([str(path)], "a0 8; a1 1").reels[0].stills[-1].problem


@pytest.mark.parametrize("script", ["f0", "r0 10", "a0 1; a0 1", "f0 @1", "a0 1; f0; exit; a1 1"])
def test_what_no_program_could_ask_is_refused(script: str) -> None:
    with pytest.raises(UsageError):
        film(["freelist"], script)


def test_mems_are_those_of_the_request_alone() -> None:
    stills = film([parse("buddy", "c")], "a0 100; f0").reels[0].stills
    heap = parse("buddy", "c")
    assert heap.name == "buddy"
    assert [still.mems for still in film(["buddy"], "a0 100; f0").reels[0].stills] == [s.mems for s in stills]
    assert all(still.mems for still in stills[1:])


def test_the_text_keeps_its_width() -> None:
    text = film(["freelist", "slab"], "; ".join(f"a{n} {n * 40 + 1}" for n in range(30))).text(width=60)
    assert max(map(len, text.splitlines())) <= 60


def test_entries_say_what_leads_to_them() -> None:
    view = film(["rbtree"], "a0 100;a1 10;a2 200;a3 10;a4 300;a5 10;f0;f2;f4").reels[0].stills[-1].view
    entries: dict[int, Entry] = {entry.start: entry for entry in view.free}
    roots = [entry for entry in view.free if not entry.under]
    assert len(roots) == 1
    assert all(entry.under in entries for entry in view.free if entry.under)


def test_payloads_are_written_as_a_program_would() -> None:
    still = film(["rbtree"], "a0 300k").reels[0].stills[-1]
    [block] = [block for block in still.view.live if block.label is not None]
    inside = [page for page in still.view.pages if block.payload <= page.address < block.payload + 300 * 1024]
    assert len(inside) == 75
    assert {page.state.value for page in inside} == {"resident"}
    assert still.faults >= 75
