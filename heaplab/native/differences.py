"""Where what the model predicts and what Linux does part."""

from dataclasses import dataclass

from heaplab.native.footprint import Footprint, Look
from heaplab.native.world import ABSENT, PAGE, Pages, named

_STATES = ("not in memory", "in memory and shared", "in memory and its own")


@dataclass(frozen=True)
class Differences:
    """How much two footprints of one trace on one design differ; false when they are equal.

    calls: system calls that are others, or in another order.  faults: by how many they differ at most.
    pages: pages that are in one of the two, or in another state, over all looks.  copies: by how many pages
    copied after forks they differ, as far as that may be known.
    first: a sentence of each kind that differs: where it first does.
    """

    calls: int
    faults: int
    pages: int
    copies: int
    first: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.first)

    def __str__(self) -> str:
        """The amounts in words."""
        counts = {"calls": self.calls, "faults": self.faults, "pages": self.pages, "copies": self.copies}
        return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count) or "0"


def differences(predicted: Footprint, observed: Footprint) -> Differences:
    """Compare what the model predicts of a trace on a design with what Linux was seen to do.

    >>> model, linux = Footprint(), Footprint()
    >>> model.calls = [(0, "brk(break+0x1000) = break+0x1000")]
    >>> differences(model, linux).first[0]
    'calls: at event 0 the model makes brk(break+0x1000) = break+0x1000, and Linux sees none'
    """
    calls, first_call = _compare_calls(predicted.calls, observed.calls)
    looks = list(zip(predicted.looks, observed.looks, strict=True))
    faults, first_fault = _compare_faults(looks)
    pages, first_page = _compare_pages(looks)
    copies, first_copy = _compare_copies(predicted, observed)
    first = tuple(filter(None, (first_call, first_fault, first_page, first_copy)))
    return Differences(calls, faults, pages, copies, first)


def _compare_calls(model: list[tuple[int, str]], linux: list[tuple[int, str]]) -> tuple[int, str]:
    shorter, longer = sorted((len(model), len(linux)))
    other = [place for place in range(shorter) if model[place] != linux[place]]
    count = len(other) + longer - shorter
    if not count:
        return 0, ""
    place = other[0] if other else shorter
    pair = [side[place] if place < len(side) else None for side in (model, linux)]
    event = min(call[0] for call in pair if call)
    made, seen = (call[1] if call and call[0] == event else "none" for call in pair)
    return count, f"calls: at event {event:,} the model makes {made}, and Linux sees {seen}"


def _compare_faults(looks: list[tuple[Look, Look]]) -> tuple[int, str]:
    most, first, equal = 0, "", 0
    for model, linux in looks:
        if model.faults != linux.faults:
            most = max(most, abs(model.faults - linux.faults))
            first = first or (
                f"faults: process {model.process} has {model.faults:,} on the model and {linux.faults:,} on "
                f"Linux after {model.event:,} events; after {equal:,} they were equal"
            )
        equal = equal if first else model.event
    return most, first


def _compare_pages(looks: list[tuple[Look, Look]]) -> tuple[int, str]:
    count, first = 0, ""
    for model, linux in looks:
        if model.pages is None or linux.pages is None:
            continue
        here, words = _compare_two(model.pages, linux.pages)
        count += here
        if words and not first:
            first = f"pages: after {model.event:,} events process {model.process} has {words}"
    return count, first


def _compare_two(model: Pages, linux: Pages) -> tuple[int, str]:
    """How many pages differ, and in words which."""
    states = [dict(zip(side.number.tolist(), side.state.tolist(), strict=True)) for side in (model, linux)]
    other = sorted(
        page for page in states[0].keys() | states[1].keys() if states[0].get(page) != states[1].get(page)
    )
    if other:
        at, (made, seen) = other[0], [_STATES[side.get(other[0], ABSENT)] for side in states]
        words = f"the page at {named(at * PAGE)} {made} on the model, and {seen} on Linux"
    elif model.heap != linux.heap:
        words = f"{model.heap:,} pages of heap on the model, and {linux.heap:,} on Linux"
    else:
        words = ""
    return len(other) + abs(model.heap - linux.heap), words


def _compare_copies(predicted: Footprint, observed: Footprint) -> tuple[int, str]:
    model, linux = ((side.copied_in_child, side.copied_in_parent) for side in (predicted, observed))
    if model == linux or None in linux:
        return 0, ""
    amount = sum(abs((one or 0) - (other or 0)) for one, other in zip(model, linux, strict=True))
    return amount, (
        f"copies: {model[0]:,} in children and {model[1]:,} in parents on the model, "
        f"{linux[0]:,} and {linux[1]:,} on Linux"
    )
