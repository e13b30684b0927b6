"""The lives of blocks, against a table kept event by event."""

import numpy as np
from hypothesis import given

from heaplab.testing.traces import event_lists
from heaplab.traces import NULL_ID, Block, Event, Op, Trace, synthetic
from heaplab.traces.lives import lives

MAKES = (Op.MALLOC, Op.CALLOC, Op.REALLOC, Op.ALIGNED)


def followed(events):
    """Rows [born, died, slot, size, thread, process, before, copied] and the row + 1 of each event."""
    rows, of_events, table = [], [], {0: {}}
    for number, event in enumerate(events):
        slots, row = table[event.process], 0
        if event.op in (Op.FREE, Op.REALLOC) and event.id != NULL_ID:
            row = slots.pop(event.id)
            rows[row - 1][1] = number
        if event.op in MAKES:
            before = row
            rows.append(
                [number, len(events), event.id, event.size, event.thread, event.process, before, False]
            )
            row = slots[event.id] = len(rows)
        elif event.op == Op.FORK:
            table[event.id] = {}
            for slot, old in sorted(slots.items(), key=lambda item: item[1]):
                parent = rows[old - 1]
                rows.append([number, len(events), slot, *parent[3:5], event.id, old, True])
                table[event.id][slot] = len(rows)
        elif event.op in (Op.EXEC, Op.EXIT):
            for old in slots.values():
                rows[old - 1][1] = number
            slots.clear()
        of_events.append(row)
    return rows, of_events


def columns(found):
    names = ("born", "died", "slot", "size", "thread", "process", "before", "copied")
    return [list(row) for row in zip(*(getattr(found, name).tolist() for name in names), strict=True)]


@given(event_lists())
def test_lives_are_what_following_every_event_gives(events):
    rows, of_events = followed(events)
    found = lives(Trace.of(events))
    assert columns(found) == rows
    assert found.row.tolist() == of_events
    for moment in range(len(events) + 1):
        there = [n for n, row in enumerate(rows) if row[0] < moment <= row[1]]
        assert found.live(moment).tolist() == there


def test_a_whole_block_gives_the_same_as_the_trace_read_again():
    trace = synthetic(70_000, seed=4, slots=300)
    whole = Block.join(iter(trace))
    assert columns(lives(trace, whole)) == columns(lives(trace))


def test_blocks_within_some_moments():
    events = [Event(Op.MALLOC, 0, 8), Event(Op.MALLOC, 1, 8), Event(Op.FREE, 0), Event(Op.MALLOC, 0, 8)]
    found = lives(Trace.of(events))
    assert found.within(0, 4).tolist() == [0, 1, 2]
    assert found.within(3, 3).tolist() == [1]
    assert np.array_equal(found.died, [2, 4, 4])
