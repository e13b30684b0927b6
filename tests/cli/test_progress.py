"""Progress on a terminal."""

import io
import re

from rich.console import Console

from heaplab.cli import _progress


def test_a_long_sentence_is_cut_to_one_line_and_taken_as_it_is(monkeypatch):
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(_progress, "Console", lambda **_how: terminal)
    with _progress.status_line("starting") as show:
        show("3 of 50 specs, the latest freelist[0]:" + "top_pad=65536:" * 10)
    told = re.sub(r"\x1b\[\?25[hl]|\r", "", out.getvalue())  # the cursor hidden and shown
    *_, last, cleared = told.splitlines()
    assert "3 of 50 specs, the latest freelist[0]:top_pad=65536:" in last
    assert last.endswith("\u2026")
    assert cleared.count("\x1b[1A") == 1, "one line is one to be cleared"
