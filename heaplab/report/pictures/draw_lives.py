"""The life of processes, drawn: a lane for each, time from left to right."""

from matplotlib.figure import Figure

from heaplab.report.pictures.canvas import MARGIN, SMALL, Canvas, Look, legend_height, wide_enough, width_of
from heaplab.report.pictures.draw_tree import MEANINGS, STATES
from heaplab.report.pictures.lives import Span, Timeline

_HIGH, _BETWEEN, _LEAD = 32.0, 16.0, 46.0
_FORK = Look(edge="#444444", line=1.2)
_MOMENT = Look(edge="#BBBBBB", line=0.8, dash=":")


def draw(timeline: Timeline) -> Figure:
    """Return the lives as a figure; moments are equally far apart, however long they lasted."""
    step = _step(timeline)
    lanes = {lane.pid: number for number, lane in enumerate(timeline.lanes)}
    states = {span.state for lane in timeline.lanes for span in lane.spans}
    entries = [(STATES[state], False, MEANINGS[state]) for state in STATES if state in states]
    entries.append((_FORK, True, "a new process"))
    notes = [
        "Time goes from left to right, a column for each call; not to scale. "
        "Where a bar ends, the pid is free."
    ]
    top = MARGIN + 24
    bottom = top + len(lanes) * (_HIGH + _BETWEEN)
    width = wide_enough(2 * MARGIN + _LEAD + step * len(timeline.moments), notes)
    canvas = Canvas(width, bottom + 6 + legend_height(entries, width, len(notes)) + MARGIN)

    def x(moment: int) -> float:
        return MARGIN + _LEAD + step * moment

    for number, moment in enumerate(timeline.moments):
        canvas.line([(x(number), MARGIN + 16), (x(number), bottom - _BETWEEN / 2)], _MOMENT, over=1)
        canvas.text(x(number), MARGIN + 8, moment, SMALL, mono=True)
    for lane in timeline.lanes:
        y = top + lanes[lane.pid] * (_HIGH + _BETWEEN)
        canvas.text(MARGIN, y + _HIGH / 2, f"pid {lane.pid}", bold=True)
        born = lane.spans[0].first
        if born and lane.parent in lanes:
            parent = top + lanes[lane.parent] * (_HIGH + _BETWEEN) + _HIGH
            canvas.line([(x(born) + 8, parent), (x(born) + 8, y)], _FORK, arrow=True, over=4)
        for span in lane.spans:
            canvas.box(x(span.first), y, x(span.end) - x(span.first), _HIGH, STATES[span.state])
            for number, line in enumerate(_lines(span)):
                canvas.text(x(span.first) + 14, y + 10 + 12 * number, line, SMALL, bold=number == 0)
    canvas.legend(bottom + 6, entries, notes)
    return canvas.figure


def _lines(span: Span) -> tuple[str, str]:
    return span.name, f"{span.state}: {span.meaning}"


def _step(timeline: Timeline) -> float:
    """The width of a column: the widest text fits its span, and each moment its column."""
    need = [width_of(moment, SMALL, mono=True) + 10 for moment in timeline.moments]
    for lane in timeline.lanes:
        need += [_need(span) for span in lane.spans]
    return max(62.0, *need)


def _need(span: Span) -> float:
    return (max(width_of(line, SMALL, bold=True) for line in _lines(span)) + 18) / (span.end - span.first)
