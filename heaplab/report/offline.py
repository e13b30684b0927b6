"""The bounds of a trace, and what placements of its blocks need, as text."""

from heaplab.lab import Offline
from heaplab.machine import USUAL_PAGE
from heaplab.units import counted, format_size


def offline_text(offline: Offline) -> str:
    """A trace's bounds and placements, the smallest first, a line each."""
    lines = [f"{offline.trace}: {counted(offline.events, 'event')}, {counted(offline.blocks, 'block')}"]
    rows = [("lower bound", offline.lower_bound, "live bytes at their peak, in multiples of 16")]
    for name, size in sorted(offline.placements.items(), key=lambda item: item[1]):
        more = (size - offline.lower_bound) / offline.lower_bound if offline.lower_bound else 0.0
        rows.append((name, size, f"+{100 * more:.2f} %" if more else "no placement can be smaller"))
    wide = max(len(name) for name, _, _ in rows)
    lines += [f"  {name:<{wide}}  {format_size(size):>9}  {size:>13,} B  {what}" for name, size, what in rows]
    resident = format_size(offline.live_pages * USUAL_PAGE)
    lines.append(
        f"  {'live pages':<{wide}}  {resident:>9}  {offline.live_pages:>9,} pages  resident at least"
    )
    return "\n".join(lines)
