"""The verdict: sentences that say what the figures say, and no more."""

import dataclasses

import pytest

from heaplab.lab import Run
from heaplab.lab.attribution import OLD, Attribution, Pin, Rounding
from heaplab.lab.metrics import OverLive
from heaplab.native.playing import Times
from heaplab.report.verdict import verdict, verdict_of


def about(comparison, kind):
    return [sentence for sentence in verdict(comparison).sentences if sentence.about == kind]


def said(comparison, kind):
    [sentence] = about(comparison, kind)
    return sentence.text


def only(comparison, *runs):
    traces = {run.trace for run in runs}
    headers = {name: header for name, header in comparison.headers.items() if name in traces}
    return dataclasses.replace(comparison, runs=runs, headers=headers, planned=len(runs))


def needing(run, name, resident, *, live=1000, **more):
    return dataclasses.replace(
        run, allocator=name, outcome="finished", peak_live=live, peak_resident=resident, **more
    )


def real(run, name, ns, spread=0.5, rounds=3):
    times = Times(ns, ns - spread, ns + spread, 1.0, (ns,) * rounds)
    return needing(run, name, 1500, language="native", seconds=dataclasses.replace(run.seconds, times=times))


@pytest.fixture
def run(comparison):
    return comparison.runs[0]


# ---- who finished ----


def test_what_was_not_finished_is_said_first_and_not_ranked(comparison):
    first = verdict(comparison).sentences[0]
    assert first.about == "runs"
    assert "Of 2 traces buddy finished 1." in first.text
    assert "freelist:fit=worst finished none, and is not ranked" in first.text
    assert "over the 1 trace that all who are ranked finished" in first.text
    assert "freelist:fit=worst" not in said(comparison, "memory")


def test_without_a_finished_run_nothing_is_ranked(comparison):
    lost = [run for run in comparison.runs if run.outcome == "crashed"]
    found = verdict(only(comparison, *lost))
    assert [sentence.about for sentence in found.sentences] == ["runs"]
    assert str(found) == "No run finished, so no allocator is ranked."


def test_without_a_trace_in_common_nothing_is_ranked(comparison):
    one, *_ = comparison.runs
    other = dataclasses.replace(comparison.runs[4], allocator="other")
    found = verdict(only(comparison, one, other))
    assert [sentence.about for sentence in found.sentences] == ["runs"]
    assert "No trace was finished by all of them" in str(found)


def test_an_interruption_is_said(comparison, run):
    text = str(verdict(dataclasses.replace(only(comparison, run), interrupted=True, planned=5)))
    assert text.startswith("Interrupted after 1 of 5 runs.")


# ---- memory ----


def test_allocators_are_ranked_by_resident_memory(comparison, run):
    runs = [needing(run, "large", 2000), needing(run, "small", 1040), needing(run, "middle", 1310)]
    found = said(only(comparison, *runs), "memory")
    assert found.startswith("Memory: small needs the least, 1.04 x live; then middle 1.31, large 2.00 (")
    [sentence] = about(only(comparison, *runs), "memory")
    assert {ground.allocator: ground.value for ground in sentence.grounds} == {
        "small": 1.04,
        "middle": 1.31,
        "large": 2.0,
    }


def test_what_is_written_alike_is_a_tie(comparison, run):
    runs = [needing(run, "a", 1041), needing(run, "b", 1043), needing(run, "c", 1100)]
    assert "Memory: a and b need the least, 1.04 x live each; then c 1.10 (" in said(
        only(comparison, *runs), "memory"
    )
    assert "a and b 1.04 x live each: nobody is ahead" in said(only(comparison, *runs[:2]), "memory")


def test_half_a_percent_of_a_real_allocator_is_a_tie_and_of_the_models_is_none(comparison, run):
    real_one = needing(run, "glibc", 1300, language="native")
    assert "tie" in said(only(comparison, real_one, needing(run, "b", 1306)), "memory")
    assert "tie" not in said(only(comparison, real_one, needing(run, "b", 1316)), "memory")
    assert "tie" not in said(only(comparison, needing(run, "a", 1300), needing(run, "b", 1306)), "memory")


def test_of_many_the_last_is_named_and_the_others_counted(comparison, run):
    runs = [needing(run, f"n{number}", 1000 + 100 * number) for number in range(12)]
    text = said(only(comparison, *runs), "memory")
    assert (
        "n0 needs the least, 1.00 x live; then n1 1.10, n2 1.20, n3 1.30, and 8 more, up to n11 2.10" in text
    )


def test_one_allocator_is_not_ranked(comparison, run):
    text = said(only(comparison, needing(run, "alone", 1500)), "memory")
    assert text.startswith("Memory: alone 1.50 x live (")


def test_who_is_best_trace_by_trace_is_counted(comparison):
    one, other = comparison.runs[0], comparison.runs[4]
    runs = [
        needing(one, "a", 1100),
        needing(one, "b", 1200),
        needing(other, "a", 4000),
        needing(other, "b", 1200),
    ]
    text = said(only(comparison, *runs), "memory")
    assert "b needs the least" in text
    assert text.endswith("Trace by trace the least is needed by a on 1 and b on 1.")


def test_a_tie_on_one_of_the_traces_is_named(comparison):
    one, other = comparison.runs[0], comparison.runs[4]
    runs = [
        needing(one, "a", 1100),
        needing(one, "b", 1200),
        needing(other, "a", 4000),
        needing(other, "b", 4000),
    ]
    text = said(only(comparison, *runs), "memory")
    assert text.endswith(
        f"Trace by trace the least is needed by a on 2 and b on 1 (a and b tie on {other.trace})."
    )


def test_less_than_what_is_live_is_explained_where_processes_fork(comparison, run):
    alone = only(comparison, needing(run, "a", 500), needing(run, "b", 700))
    assert "after a fork" not in said(alone, "memory")
    header = dataclasses.replace(comparison.headers[run.trace], processes=3)
    forking = dataclasses.replace(alone, headers={run.trace: header})
    assert said(forking, "memory").endswith(
        "what processes share after a fork is live in each, and one frame."
    )


def test_without_payloads_the_heap_is_what_is_needed(comparison, run):
    settings = {**comparison.settings, "payload": False}
    runs = [needing(run, "a", 10, peak_heap=3000), needing(run, "b", 20, peak_heap=2000)]
    text = said(dataclasses.replace(only(comparison, *runs), settings=settings), "memory")
    assert "b needs the least, 2.00 x live; then a 3.00 (peak of heap / peak of live payload)" in text


# ---- where resident memory is ----

FOUND = Attribution(
    event=100, page=4096, resident=100 * 4096, payload=300_000, internal=60_000, metadata=1000, pinned=40_000,
    vacant=8600, copied=0, sparse=30_000, sparse_pages=14, pin_blocks=40, pin_bytes=3000, falls=12,
    pins=(
        Pin("age", OLD, 30, 2000, 3, 11, 9),
        Pin("age", "made in the second half of the run", 10, 1000, 60, 3, 2),
        Pin("size", "33 to 64 bytes", 35, 2100, 3, 12, 10),
    ),
    rounding=(Rounding("33 to 64 bytes", 900, 45_000), Rounding("65 to 128 bytes", 100, 15_000)),
)  # fmt: skip


def standing(run, name, *, live=300_000, **changes):
    """A run that has nothing but what is needed."""
    found = dataclasses.replace(FOUND, **changes)
    return needing(run, name, found.resident, live=live, attribution=found)


def test_where_resident_memory_is_is_said_with_its_shares(comparison, run):
    assert sum(FOUND.parts.values()) == FOUND.resident
    [sentence] = about(only(comparison, standing(run, "a")), "resident")
    assert sentence.text == (
        "At the peak of live, a has 400 KiB resident, 1.37 x live: 73 % live payload, 15 % "
        "headers and rounding "
        "inside blocks, 10 % free space in pages that blocks or metadata pin and 2 % free "
        "space in pages that "
        "hold nothing and were never returned. 40 blocks lie in pages that are more than "
        "half free: if they lived "
        "elsewhere, which takes 2.93 KiB, 12 pages would fall, 12 % of them; 9 for the 30 "
        "blocks older than half "
        "the run alone and 10 for the 35 blocks of 33 to 64 bytes alone."
    )
    grounds = {ground.what: ground.value for ground in sentence.grounds}
    assert grounds["live payload, share of resident"] == 300_000 / FOUND.resident
    assert grounds["pages that would fall if those lived elsewhere"] == 12
    assert sum(value for what, value in grounds.items() if "share" in what) == pytest.approx(1)


def test_without_sparse_pages_nothing_is_said_of_pins(comparison, run):
    dense = dataclasses.replace(FOUND, sparse=0, sparse_pages=0, pin_blocks=0, pin_bytes=0, falls=0, pins=())
    text = said(only(comparison, needing(run, "a", 1500, attribution=dense)), "resident")
    assert text.endswith("never returned.")


def test_who_asked_for_the_pins_is_said_where_it_is_known(comparison, run):
    sites = (*FOUND.pins, Pin("site", "table", 20, 900, 3, 8, 7))
    text = said(only(comparison, standing(run, "a", pins=sites)), "resident")
    assert text.endswith("and 7 for the 20 blocks that table asked for alone.")


def test_over_several_traces_shares_are_means_over_traces(comparison):
    runs = [
        standing(comparison.runs[0], "a"),
        standing(comparison.runs[4], "a", payload=200_000, copied=100_000),
    ]
    text = said(only(comparison, *runs), "resident")
    assert text.startswith(
        "Of a's resident memory at the peak of live, mean over 2 traces: 61 % live payload,"
    )
    assert "12 % copies that writes after a fork made" in text
    assert "elsewhere" not in text


@pytest.mark.parametrize("wrong", [None, {"internal": -5}, {"resident": 1000}])
def test_nothing_is_said_of_what_is_not_known_or_cannot_be(comparison, run, wrong):
    found = None if wrong is None else dataclasses.replace(FOUND, **wrong)
    assert about(only(comparison, needing(run, "a", 1500, attribution=found)), "resident") == []


# ---- what would help ----


def advice(comparison, *runs):
    return said(only(comparison, *runs), "advice")


def other(run, name, resident, **changes):
    return needing(run, name, resident, live=300_000, attribution=None, **changes)


def test_rounding_is_named_with_the_sizes_that_lose_most(comparison, run):
    assert advice(comparison, standing(run, "a"), other(run, "b", 330_000)) == (
        "Advice: a needs 1.37 x live; b would need 19 % less, 1.10 x live; a's loss is "
        "mostly headers and rounding "
        "inside blocks, 15 % of its resident memory, 75 % of that in blocks of 33 to 64 bytes."
    )


def test_pins_are_named_with_the_pages_that_would_fall(comparison, run):
    text = advice(comparison, standing(run, "a", internal=1000, pinned=99_000), other(run, "b", 330_000))
    assert text.endswith(
        "free space in pages that blocks or metadata pin, 24 % of its resident memory: 12 "
        "pages would fall if 40 "
        "blocks lived elsewhere."
    )


def test_vacant_pages_could_go_back(comparison, run):
    text = advice(comparison, standing(run, "a", internal=1000, vacant=67_600), other(run, "b", 330_000))
    assert text.endswith(
        "17 % of its resident memory: the kernel could have these pages back, and no block would move."
    )


def test_of_a_real_allocator_it_is_said_what_is_known(comparison, run):
    real_one = other(run, "glibc", 450_000, language="native", freed_resident=90_000)
    assert advice(comparison, real_one, standing(run, "a")) == (
        "Advice: glibc needs 1.50 x live; a would need 9 % less, 1.37 x live; glibc's heap "
        "cannot be walked; when all is "
        "freed, 20 % of the peak stays resident; of a's own resident memory 15 % is "
        "headers and rounding inside "
        "blocks, its largest loss."
    )


def test_who_needs_the_least_is_not_advised_to_change(comparison, run):
    real_one = other(run, "glibc", 410_000, language="native", freed_resident=410_000)
    text = advice(comparison, real_one, standing(run, "a"))
    assert text.startswith(
        "Advice: nobody in this table needs less than glibc, 1.37 x live; glibc's heap cannot be walked"
    )
    assert "all of the peak stays resident" in text


def test_a_peak_of_resident_memory_at_another_moment_is_said(comparison, run):
    later = OverLive(1.2, 1.4, 1.4, 1.6, event=200)
    one = dataclasses.replace(standing(run, "a"), peak_resident=500_000, resident_over_live=later)
    text = advice(comparison, one, other(run, "b", 330_000))
    assert text.endswith("that is at the peak of live: its resident memory was largest after that, 488 KiB.")
    assert "largest before that" in advice(
        comparison,
        dataclasses.replace(one, resident_over_live=dataclasses.replace(later, event=50)),
        other(run, "b", 330_000),
    )


def test_one_allocator_alone_gets_no_advice(comparison, run):
    assert about(only(comparison, standing(run, "a")), "advice") == []


# ---- time ----


def test_times_whose_quartiles_overlap_are_tied(comparison, run):
    runs = [real(run, "a", 12.0), real(run, "b", 12.6), real(run, "c", 20.0)]
    text = said(only(comparison, *runs), "time")
    assert text.startswith(
        "Time: a 12.0 ns and b 12.6 ns (a tie within what is known) are fastest; then c 20.0 ns ("
    )


def test_times_apart_are_ranked(comparison, run):
    assert "Time: b is fastest, 12.0 ns; then a 14.0 ns (" in said(
        only(comparison, real(run, "a", 14.0), real(run, "b", 12.0)), "time"
    )


def test_wide_times_and_single_rounds_are_not_ranked(comparison, run):
    runs = [real(run, "a", 12.0), real(run, "b", 13.0, spread=3), real(run, "c", 20.0, rounds=1)]
    text = said(only(comparison, *runs), "time")
    assert text.startswith("Time: b and c cannot be ranked")
    assert "fastest" not in text


def test_the_models_seconds_rank_nobody(comparison, run):
    assert about(only(comparison, needing(run, "a", 1500), needing(run, "b", 1500)), "time") == []


# ---- of one trace ----


def test_the_verdict_of_a_trace_is_over_it_alone(comparison):
    name = next(iter(comparison.headers))
    found = verdict_of(comparison, name)
    assert "geometric mean" not in str(found)
    assert {ground.allocator for sentence in found.sentences for ground in sentence.grounds} == {
        run.allocator for run in comparison.of_trace(name)
    }
    assert isinstance(comparison.runs[0], Run)
