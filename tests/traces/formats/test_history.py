"""One made-up history in every format: the reader finds what was counted from the history itself."""

from collections import Counter

import pytest

from heaplab.traces import Op
from tests.traces.formats.history import CASES, counted, history


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_events_and_peak_are_those_of_the_history(opened, name, seed):
    write, options, known_as, threads = CASES[name]
    calls = list(history(seed, **options))
    if known_as.get("null", "") is None:
        calls = [did for did in calls if did.op != "free" or did.address]
    text = write(calls)
    trace = opened(text if isinstance(text, bytes) else "\n".join(text) + "\n")
    events, peak, live = counted(calls)
    expected = Counter()
    for op, count in events.items():
        expected[known_as.get(op, op)] += count
    header = trace.header
    assert header.ops == {
        op.name.lower(): expected[op.name.lower()] for op in Op if expected[op.name.lower()]
    }
    assert header.peak_live == peak
    assert header.note.startswith(f"read from {name.partition(',')[0]}")
    assert header.threads == (3 if threads else 1)
    slots = set()
    for event in trace.events():
        slots = slots - {event.id} if event.op == Op.FREE else slots | {event.id}
    assert len(slots) == live
    aligned = [event.align for event in trace.events() if event.op == Op.ALIGNED]
    if "aligned" in events and "aligned" not in known_as:
        assert aligned == [did.align for did in calls if did.op == "aligned"]
