"""What a comparison comes to, in sentences that say no more than its figures.

Every allocator is ranked over the same traces (see `means`).  Memory on the model, and references, are exact:
there is a tie where two figures are written alike.  Resident memory of a real allocator may be too low by
half a percent, and a time lies between its quartiles: there is a tie where these leave it open who is better.
The model's seconds are taken once, so nobody is ranked by them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from heaplab.lab import Comparison, Run
from heaplab.lab.attribution import OLD, Attribution, Pin
from heaplab.lab.columns import rate
from heaplab.lab.metrics import geometric_mean
from heaplab.lab.record import NATIVE
from heaplab.report.means import HEAP, MEMS, RESIDENT, TIME, Mean, Summary
from heaplab.units import counted, format_size

#: how far a real allocator's resident memory may be from the truth, as a factor
_RESIDENT_ERROR = 1.005
#: so many ranks behind the first are named one by one; of more, half as many and the last
_NAMED = 6
#: so much larger, as a factor, is worth a sentence
_MUCH = 1.05
#: a part of resident memory that is less of it is passed over
_WORTH_SAYING = 0.01


@dataclass(frozen=True)
class Ground:
    """A figure that a sentence rests on.  what: it is, with its unit.  value: exact."""

    allocator: str
    what: str
    value: float


@dataclass(frozen=True)
class Sentence:
    """about: "runs", "memory", "resident", "placement", "references", "time" or "advice"."""

    about: str
    text: str
    grounds: tuple[Ground, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Sentences, the most important first; its text has one a line."""

    sentences: tuple[Sentence, ...]

    def __str__(self) -> str:
        return "\n".join(sentence.text for sentence in self.sentences)


def verdict(comparison: Comparison) -> Verdict:
    """Return what the comparison comes to.

    >>> from heaplab import lab
    >>> from heaplab.traces import synthetic
    >>> found = verdict(lab.compare([synthetic(2000, seed=1)], ["buddy", "rbtree"], jobs=1))
    >>> [sentence.about for sentence in found.sentences]
    ['runs', 'memory', 'resident', 'resident', 'references', 'advice']
    >>> print(found.sentences[0].text)
    Both allocators finished the trace.
    """
    summary = Summary(comparison)
    sentences = [_runs(summary)]
    if summary.common:
        sentences += [
            *_memory(summary),
            *_placement(summary),
            *_references(summary),
            *_time(summary),
            *_advice(summary),
        ]
    return Verdict(tuple(sentences))


def verdict_of(comparison: Comparison, trace: str) -> Verdict:
    """Return what one trace of the comparison comes to."""
    alone = {name: header for name, header in comparison.headers.items() if name == trace}
    runs = tuple(comparison.of_trace(trace))
    return verdict(replace(comparison, headers=alone, runs=runs, planned=len(runs), interrupted=False))


# ---- who finished what ----


def _runs(summary: Summary) -> Sentence:
    comparison = summary.comparison
    traces, runs = len(comparison.headers), len(comparison.runs)
    finished = {name: len(summary.finished[name]) for name in summary.allocators}
    grounds = tuple(Ground(name, "traces finished", count) for name, count in finished.items())
    every = _counted(len(finished), "allocator")
    the_traces = {1: "the trace", 2: "both traces"}.get(traces, f"all {traces} traces")
    said = []
    if comparison.interrupted:
        said.append(f"Interrupted after {runs} of {comparison.planned} runs.")
    if not any(finished.values()):
        said.append("No run finished, so no allocator is ranked.")
        return Sentence("runs", " ".join(said), grounds)
    if all(count == traces for count in finished.values()):
        said.append(f"{every} finished {the_traces}.")
        return Sentence("runs", " ".join(said), grounds)
    said += _unfinished(finished, traces)
    common = len(summary.common)
    if not common:
        said.append("No trace was finished by all of them, so no allocator is ranked.")
    elif traces > 1:
        said.append(f"What follows is over the {_counted(common, 'trace')} that all who are ranked finished.")
    return Sentence("runs", " ".join(said), grounds)


def _unfinished(finished: Mapping[str, int], traces: int) -> list[str]:
    """Say who did not finish all traces."""
    nothing = [name for name, count in finished.items() if not count]
    some = [(name, count) for name, count in finished.items() if 0 < count < traces]
    said = []
    if some:
        others = ", every other allocator all of them" if traces in finished.values() and not nothing else ""
        listed = _listed(
            [f"{name} {'' if at else 'finished '}{count}" for at, (name, count) in enumerate(some)]
        )
        said.append(f"Of {traces} traces {listed}{others}.")
    if nothing:
        what = "finished none" if traces > 1 else "did not finish"
        said.append(f"{_listed(nothing)} {what}, and {'is' if len(nothing) == 1 else 'are'} not ranked.")
    return said


# ---- memory ----


def _memory(summary: Summary) -> list[Sentence]:
    """Who needs how much, and where the excess of the least and of the most lies."""
    payload = _has_payload(summary)
    mean, memory = (RESIDENT, "resident memory") if payload else (HEAP, "heap")
    values = _values(summary, mean)
    if not values:
        return []
    ranks = _ranks(values, _tie(summary, mean, values))
    written = {name: mean.form(value) for name, value in values.items()}
    written = {name: f"{text} x live" if name == ranks[0][0] else text for name, text in written.items()}
    traces = summary.traces_of(mean)
    how = f"peak of {memory} / peak of live payload{_over(traces)}"
    text = f"Memory: {_ranked(ranks, written, 'needs the least', 'need the least')} ({how})."
    if len(traces) > 1 and len(values) > 1:
        text += _wins(summary, mean, traces)
    forks = any(summary.comparison.headers[trace].processes > 1 for trace in traces)
    if forks and payload and min(values.values()) < 1:
        text += " Less than 1 is possible: what processes share after a fork is live in each, and one frame."
    grounds = tuple(Ground(name, how, value) for name, value in values.items())
    ranked = [name for rank in ranks for name in rank]
    return [Sentence("memory", text, grounds), *_residents(summary, ranked)]


def _placement(summary: Summary) -> list[Sentence]:
    """Say how far the heaps are from the best placement that is known, if somebody has asked for it."""
    over: dict[str, float] = {}
    for name in summary.rows_of(HEAP):
        shares = [summary.finished[name][trace].heap_over_best for trace in summary.common]
        if shares and None not in shares:
            over[name] = geometric_mean(1 + share for share in shares if share is not None) - 1
    if not over:
        return []
    written = {name: f"{100 * share:.1f} %" for name, share in over.items()}
    ranks = _ranks(over, lambda one, other: written[one] == written[other])
    first, *others = ranks
    near = f"{_listed(first)} {'is' if len(first) == 1 else 'are'} within {written[first[0]]}"
    text = f"Placement: {near} of the best placement known"
    if others:
        text += f"; then {_others(others, written)}"
    how = f"peak of heap{_over(summary.common)}"
    text += f" ({how})."
    grounds = [Ground(name, f"{how}, over the best placement, share of it", over[name]) for name in over]
    return [Sentence("placement", text, tuple(grounds))]


def _tie(summary: Summary, mean: Mean, values: Mapping[str, float]) -> Callable[[str, str], bool]:
    """Return a function of two allocators, the lower value first: whether it is open which needs less."""

    def tied(one: str, other: str) -> bool:
        unsure = mean is RESIDENT and (_is_native(summary, one) or _is_native(summary, other))
        margin = _RESIDENT_ERROR if unsure else 1
        return mean.form(values[one]) == mean.form(values[other]) or values[other] <= values[one] * margin

    return tied


def _has_payload(summary: Summary) -> bool:
    return bool(summary.comparison.settings.get("payload", True))


def _wins(summary: Summary, mean: Mean, traces: Sequence[str]) -> str:
    """Say on how many traces each allocator is best.  A tie counts for all of its allocators."""
    wins: dict[str, int] = {}
    ties: dict[str, list[str]] = {}
    rows = summary.rows_of(mean)
    for trace in traces:
        each = {name: mean.value(summary.finished[name][trace]) or 0.0 for name in rows}
        least = min(each.values())
        best = [name for name, value in each.items() if mean.form(value) == mean.form(least)]
        for name in best:
            wins[name] = wins.get(name, 0) + 1
        if len(best) > 1:
            ties.setdefault(_listed(best), []).append(trace)
    counts = sorted(wins.items(), key=lambda item: -item[1])
    if len(counts) == 1:
        return f" So it is on each of the {len(traces)} traces."
    tied = [f"{names} tie on {_listed(on) if len(on) <= _NAMED else len(on)}" for names, on in ties.items()]
    several = f" ({'; '.join(tied)})" if tied else ""
    needed = _listed([f"{name} on {count}" for name, count in counts])
    return f" Trace by trace the least is needed by {needed}{several}."


def _residents(summary: Summary, names: Sequence[str]) -> list[Sentence]:
    """Say where the resident bytes are of the first and the last of these that were walked on each trace."""
    found = {name: parts for name in names if (parts := _attributions(summary, name))}
    extremes = dict.fromkeys((*list(found)[:1], *list(found)[-1:]))
    return [_resident(summary, name, found[name]) for name in extremes]


def _attributions(summary: Summary, name: str) -> list[Attribution]:
    """Where an allocator's resident bytes were at the peak of live, trace by trace; []: not all are known."""
    runs = [summary.finished[name][trace] for trace in summary.common]
    parts = [run.attribution for run in runs if run.attribution is not None and _sound(run.attribution)]
    return parts if len(parts) == len(runs) else []


def _sound(found: Attribution) -> bool:
    parts = found.parts.values()
    return found.resident > 0 and min(parts) >= 0 and sum(parts) == found.resident


#: the parts of resident memory, as they are called in sentences
_PARTS = {
    "payload": "live payload",
    "internal": "headers and rounding inside blocks",
    "metadata": "metadata",
    "pinned": "free space in pages that blocks or metadata pin",
    "vacant": "free space in pages that hold nothing and were never returned",
    "copied": "copies that writes after a fork made",
}


def _shares(parts: Sequence[Attribution]) -> dict[str, float]:
    """The parts of resident memory as shares of it, the largest first, in the mean over traces."""
    shares = {name: fmean([each.parts[name] / each.resident for each in parts]) for name in _PARTS}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _resident(summary: Summary, name: str, parts: Sequence[Attribution]) -> Sentence:
    """Say what resident memory is at the peak of live; what is little is passed over."""
    shares = _shares(parts)
    said = _listed(
        [f"{_share(share, 1)} {_PARTS[kind]}" for kind, share in shares.items() if share >= _WORTH_SAYING]
    )
    grounds = [Ground(name, f"{_PARTS[kind]}, share of resident", share) for kind, share in shares.items()]
    if len(parts) > 1:
        text = f"Of {name}'s resident memory at the peak of live, mean over {len(parts)} traces: {said}."
        return Sentence("resident", text, tuple(grounds))
    [found] = parts
    live = summary.finished[name][summary.common[0]].peak_live
    grounds.insert(0, Ground(name, "resident memory at the peak of live, bytes", found.resident))
    times = f", {found.resident / live:.2f} x live" if live else ""
    text = f"At the peak of live, {name} has {format_size(found.resident)} resident{times}: {said}."
    if found.falls:
        text += f" {_pinning(found)}"
        grounds += [
            Ground(name, "blocks in pages more than half free", found.pin_blocks),
            Ground(name, "pages that would fall if those lived elsewhere", found.falls),
        ]
    return Sentence("resident", text, tuple(grounds))


def _pinning(found: Attribution) -> str:
    """Say which blocks hold pages that are mostly free, and what would be won if they lived elsewhere."""
    pages = found.resident // found.page
    text = (
        f"{_have(found.pin_blocks, 'block')} in pages that are more than half free: if they lived elsewhere, "
        f"which takes {format_size(found.pin_bytes)}, {counted(found.falls, 'page')} would fall, "
        f"{_share(found.falls, pages)} of them"
    )
    groups = [
        *(pin for pin in found.by("age") if pin.what == OLD),
        *found.by("size")[:1],
        *found.by("site")[:1],
    ]
    alone = [_alone(pin) for pin in groups if pin.falls and pin.blocks < found.pin_blocks]
    return f"{text}; {_listed(alone)}." if alone else f"{text}."


def _alone(pin: Pin) -> str:
    """Say how many pages would fall if the blocks of a group alone lived elsewhere."""
    of = {"age": "{}", "size": "of {}", "site": "that {} asked for"}[pin.by].format(pin.what)
    return f"{pin.falls:,} for the {counted(pin.blocks, 'block')} {of} alone"


def _have(count: int, noun: str) -> str:
    return f"{counted(count, noun)} {'lies' if count == 1 else 'lie'}"


# ---- what would help ----


def _advice(summary: Summary) -> list[Sentence]:
    """Say what is wrong with the allocators that were asked about, and what would help.

    Asked about are the real ones; without any, the one that needs the most.
    """
    mean = RESIDENT if _has_payload(summary) else HEAP
    values = dict(sorted(_values(summary, mean).items(), key=lambda item: item[1]))
    if len(values) < 2:
        return []
    tied = _tie(summary, mean, values)
    asked = [name for name in values if _is_native(summary, name)] or list(values)[-1:]
    return [_advise(summary, name, mean, values, tied) for name in asked]


def _advise(
    summary: Summary,
    name: str,
    mean: Mean,
    values: Mapping[str, float],
    tied: Callable[[str, str], bool],
) -> Sentence:
    """Say it of one allocator.  values: memory / live of all, the least first."""
    best = next(iter(values))
    value, least = values[name], values[best]
    grounds = [Ground(name, "memory / live", value), Ground(best, "memory / live", least)]
    parts = _attributions(summary, name)
    if tied(best, name):
        said = [f"nobody in this table needs less than {name}, {mean.form(value)} x live"]
    else:
        less = _share(value - least, value)
        said = [
            f"{name} needs {mean.form(value)} x live; "
            f"{best} would need {less} less, {mean.form(least)} x live"
        ]
    said.append(_fault(name, parts) if parts else _left(summary, name, grounds))
    said += _elsewhen(summary, name, parts)
    if not parts and (its := _attributions(summary, best)) and (loss := _losses(its)):
        kind, share = next(iter(loss.items()))
        said.append(f"of {best}'s own resident memory {_share(share, 1)} is {_PARTS[kind]}, its largest loss")
        grounds.append(Ground(best, f"{_PARTS[kind]}, share of resident", share))
    return Sentence("advice", f"Advice: {'; '.join(said)}.", tuple(grounds))


def _elsewhen(summary: Summary, name: str, parts: Sequence[Attribution]) -> list[str]:
    """Say that resident memory had its peak at another moment, where it was larger then."""
    runs = [summary.finished[name][trace] for trace in summary.common]
    if len(parts) != 1 or (measures := runs[0].resident_over_live) is None:
        return []
    peak, then = runs[0].peak_resident or 0, parts[0].resident
    if peak <= _MUCH * then or measures.event == parts[0].event:
        return []
    when = "before" if measures.event < parts[0].event else "after"
    return [f"that is at the peak of live: its resident memory was largest {when} that, {format_size(peak)}"]


def _losses(parts: Sequence[Attribution]) -> dict[str, float]:
    """The parts of resident memory that are no payload, as shares of it, the largest first."""
    return {kind: share for kind, share in _shares(parts).items() if kind != "payload" and share}


def _fault(name: str, parts: Sequence[Attribution]) -> str:
    """Say what most of an allocator's resident memory beyond payload is, and what would make it less."""
    loss = _losses(parts)
    if not loss:
        return f"all of {name}'s resident memory is live payload"
    kind, share = next(iter(loss.items()))
    text = f"{name}'s loss is mostly {_PARTS[kind]}, {_share(share, 1)} of its resident memory"
    if len(parts) > 1:
        return text
    [found] = parts
    if kind == "internal" and found.rounding:
        most = found.rounding[0]
        return f"{text}, {_share(most.bytes, found.internal)} of that in blocks of {most.what}"
    if kind == "pinned":
        pages = counted(found.falls, "page")
        return f"{text}: {pages} would fall if {counted(found.pin_blocks, 'block')} lived elsewhere"
    if kind == "vacant":
        return f"{text}: the kernel could have these pages back, and no block would move"
    return text


def _left(summary: Summary, name: str, grounds: list[Ground]) -> str:
    """Say what is known of an allocator whose heap was not walked: what it keeps when all is freed."""
    runs = [summary.finished[name][trace] for trace in summary.common]
    kept = [run.freed_resident for run in runs if run.freed_resident is not None]
    if len(kept) < len(runs) or not all(run.peak_resident for run in runs):
        return f"{name}'s heap cannot be walked"
    share = fmean([left / (run.peak_resident or 1) for left, run in zip(kept, runs, strict=True)])
    grounds.append(Ground(name, "resident when all is freed, share of the peak", share))
    over = f", mean over {len(runs)} traces" if len(runs) > 1 else ""
    said = f"when all is freed, {_share(share, 1)} of the peak stays resident"
    return f"{name}'s heap cannot be walked; {said}{over}"


def _is_native(summary: Summary, name: str) -> bool:
    return any(run.language == NATIVE for run in summary.comparison.runs if run.allocator == name)


# ---- references and time ----


def _references(summary: Summary) -> list[Sentence]:
    values = _values(summary, MEMS)
    if len(values) < 2:
        return []
    written = {name: MEMS.form(value) for name, value in values.items()}
    ranks = _ranks(values, lambda one, other: written[one] == written[other])
    how = f"mean memory references of a call{_over(summary.traces_of(MEMS))}"
    first = _ranked(ranks, written, "makes the fewest references", "make the fewest references")
    text = f"Work: {first} ({how})."
    return [Sentence("references", text, tuple(Ground(name, how, value) for name, value in values.items()))]


def _time(summary: Summary) -> list[Sentence]:
    """Rank real allocators by time: those whose quartiles overlap are tied, wide ones are not ranked."""
    traces = summary.traces_of(TIME)
    rows = summary.rows_of(TIME)
    if not traces or len(rows) < 2:
        return []
    runs = {name: [summary.finished[name][trace] for trace in traces] for name in rows}
    spans = {name: _quartiles(each) for name, each in runs.items()}
    wide = [name for name in rows if any(r.seconds.times is None or r.seconds.times.wide for r in runs[name])]
    ranked = {name: spans[name][1] for name in rows if name not in wide}
    how = f"median nanoseconds of a call on Linux{_over(traces)}"
    grounds = tuple(
        Ground(name, f"{what} of {how}", value)
        for name in rows
        for what, value in zip(("lower quartile", "median", "upper quartile"), spans[name], strict=True)
    )
    left = f"{_listed(wide)} cannot be ranked: the quartiles are too far apart, or there was one round alone."
    if len(ranked) < 2:
        return [Sentence("time", f"Time: {left}", grounds)]
    ranks = _ranks(ranked, lambda one, other: spans[other][0] <= spans[one][2])
    written = {name: f"{rate(value)} ns" for name, value in ranked.items()}
    text = f"Time: {_ranked(ranks, written, 'is fastest', 'are fastest')} ({how})."
    return [Sentence("time", f"{text} {left}" if wide else text, grounds)]


def _quartiles(runs: Sequence[Run]) -> tuple[float, float, float]:
    """The geometric means over runs of lower quartile, median and upper quartile."""
    times = [run.seconds.times for run in runs if run.seconds.times is not None]
    low, middle, high = (
        geometric_mean(max(value, 0) for value in values)
        for values in zip(*((each.low, each.ns_per_op, each.high) for each in times), strict=True)
    )
    return low, middle, high


# ---- words ----


def _values(summary: Summary, mean: Mean) -> dict[str, float]:
    """The allocators that have this mean, and it."""
    found = {name: summary.value(mean, name) for name in summary.allocators}
    return {name: value for name, value in found.items() if value is not None}


def _ranks(values: Mapping[str, float], tied: Callable[[str, str], bool]) -> list[list[str]]:
    """Return the names, the least first, those together that are tied with the first of them."""
    ranks: list[list[str]] = []
    for name in sorted(values, key=lambda name: values[name]):
        if ranks and tied(ranks[-1][0], name):
            ranks[-1].append(name)
        else:
            ranks.append([name])
    return ranks


def _ranked(ranks: Sequence[Sequence[str]], written: Mapping[str, str], one: str, many: str) -> str:
    """Say who is first, and what the others have."""
    first, *others = ranks
    if len(first) == 1 and not others:
        return _together(first, written)
    if not others:
        return f"{_together(first, written)}: nobody is ahead"
    alone = len(first) == 1
    lead = f"{first[0]} {one}, {written[first[0]]}" if alone else _leading(first, written, many)
    return f"{lead}; then {_others(others, written)}"


def _others(ranks: Sequence[Sequence[str]], written: Mapping[str, str]) -> str:
    """Those behind the first, with their figures."""
    said = [_together(rank, written) for rank in ranks]
    if len(said) > _NAMED:
        hidden = sum(map(len, ranks[_NAMED // 2 :]))
        said[_NAMED // 2 :] = [f"and {hidden} more, up to {said[-1]}"]
    return ", ".join(said)


def _leading(rank: Sequence[str], written: Mapping[str, str], many: str) -> str:
    """The allocators that are first together."""
    alike = len({written[name].removesuffix(" x live") for name in rank}) == 1
    return (
        f"{_listed(rank)} {many}, {written[rank[0]]} each" if alike else f"{_together(rank, written)} {many}"
    )


def _together(rank: Sequence[str], written: Mapping[str, str]) -> str:
    """The names of a rank with their figures."""
    if len({written[name].removesuffix(" x live") for name in rank}) > 1:
        return f"{_listed([f'{name} {written[name]}' for name in rank])} (a tie within what is known)"
    return f"{_listed(rank)} {written[rank[0]]}" + (" each" if len(rank) > 1 else "")


def _over(traces: Sequence[str]) -> str:
    return "" if len(traces) == 1 else f", geometric mean over {len(traces)} traces"


def _share(part: float, whole: float) -> str:
    """Write a share so that little is not nothing, and nearly all not all.

    >>> _share(1, 1000), _share(999, 1000), _share(9, 10), _share(7, 7), _share(0, 7)
    ('less than 1 %', 'over 99 %', '90 %', 'all', 'none')
    """
    if part <= 0 or part >= whole:
        return "none" if part <= 0 else "all"
    share = 100 * part / whole
    return "less than 1 %" if share < 1 else "over 99 %" if share > 99 else f"{share:.0f} %"


def _counted(count: int, noun: str) -> str:
    if noun == "allocator":
        return {1: "The allocator", 2: "Both allocators"}.get(count, f"All {count} allocators")
    return f"{count} {noun}" + "s" * (count != 1)


def _listed(names: Sequence[str]) -> str:
    *others, last = names or ("nobody",)
    return f"{', '.join(others)} and {last}" if others else last
