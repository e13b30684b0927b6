"""`heaplab worst` from the command line."""

from click.testing import CliRunner

from heaplab.cli import main
from heaplab.traces import open_trace
from heaplab.units import counted


def heaplab(*args):
    return CliRunner().invoke(main, list(map(str, args)))


SMALL = ("--budget", 10, "--live", "32KiB", "--largest", "1KiB")


def test_it_shows_the_worst_and_saves_it(tmp_path):
    path = tmp_path / "worst.hlt"
    shown = heaplab("worst", "slab", *SMALL, "-o", path)
    assert shown.exit_code == 0, shown.output
    assert "slab (c): peak heap over 32,768 live bytes" in shown.output
    assert "Robson's program" in shown.output
    events = open_trace(path).header.events
    assert f"saved: {path}, {counted(events, 'event')}" in shown.output
    assert heaplab("worst", "slab", *SMALL, "-o", path).output == shown.output


def test_mistakes_are_told_in_a_line(tmp_path):
    for args, why in (
        (("buddi",), "did you mean 'buddy'"),
        (("buddy", "-o", "x.txt"), "FILE.hlt"),
        (("buddy", "-o", tmp_path / "none" / "x.hlt"), "make it first"),
        (("buddy", "--largest", "3000"), "largest=3000: is no power of two"),
    ):
        done = heaplab("worst", *args)
        assert done.exit_code == 2, args
        assert why in done.output
        assert done.output.count("\n") == 1
