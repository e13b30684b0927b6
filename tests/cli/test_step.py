"""`heaplab step`: one moment as text, and what is no moment as one sentence."""

import importlib.util
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.traces import Event, Op, Provenance, Trace, TraceWriter


@pytest.fixture
def trace(tmp_path):
    """A small trace in a file: ten blocks, and a large one that a process without memory cannot have."""
    events = [Event(Op.MALLOC, slot, 100 * slot) for slot in range(10)]
    events += [Event(Op.FORK, 1), Event(Op.FREE, 3), Event(Op.MALLOC, 3, 900_000)]
    path = tmp_path / "small.hlt"
    with TraceWriter.create(path, Provenance("small")) as writer:
        for block in Trace.of(events):
            writer.write(block)
    return str(path)


def run(*args):
    return CliRunner().invoke(main, ["step", *args])


@pytest.mark.parametrize("language", ["c", "python"])
def test_one_moment_is_printed(trace, language):
    result = run(trace, "--allocators", "rbtree", "--at", "11", "--print", "--language", language)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["small on rbtree, event 11 of 13 (process 0)", "free of block 3"]
    assert any(line.endswith("block 3's header") for line in lines)
    assert any("header: size 0x140, free, " in line for line in lines)
    assert "2 free blocks, in a red-black tree" in result.stdout


def test_both_languages_print_the_same(trace):
    args = (trace, "--allocators", "buddy", "--at", "block 7")
    c, python = run(*args), run(*args, "--language", "python")
    assert c.stdout == python.stdout
    assert "malloc of 700 bytes, as block 7" in c.stdout


def test_into_a_pipe_text_is_printed_and_no_textual_needed(trace, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "textual", None)
    assert run(trace, "--allocators", "rbtree").stdout.startswith("small on rbtree, event 0 of 13")


def test_another_process_is_shown_when_asked(trace):
    result = run(trace, "--allocators", "rbtree", "--at", "fork", "--process", "1")
    assert result.stdout.startswith("small on rbtree, event 10 of 13 (process 1)")
    assert "shared with the parent" in result.stdout


def test_the_failure_is_shown_with_its_reason(trace):
    result = run(trace, "--allocators", "freelist", "--ram", "256 KiB", "--at", "failure")
    assert result.exit_code == 0
    assert "event 12 (malloc 3 900000): " in result.stdout


def test_the_page_shows_what_is_printed():
    page = (Path(__file__).resolve().parents[2] / "docs" / "seeing.md").read_text()
    command, shown = page.partition("    $ heaplab step ")[2].split("    lua on rbtree", 1)
    printed = run(*command.split()[:5], "--print").stdout.splitlines()
    lines = [line.removeprefix("    ") for line in f"    lua on rbtree{shown}".split("\n\n")[0].splitlines()]
    assert len(lines) > 15
    assert [line for line in lines if line not in [*printed, "..."]] == []


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--allocators", "rbtree", "--at", "13"], "there is no event 13: events go from 0 to 12"),
        (["--allocators", "rbtree", "--at", "exit"], "no event is 'exit'"),
        (["--allocators", "rbtree", "--at", "block 77"], "no event is about a block 77"),
        (["--allocators", "rbtree", "--at", "failure"], "the run has no failure"),
        (["--allocators", "rbtree", "--at", "noon"], "'noon' is no word of a search: write a number"),
        (["--allocators", "rbtree", "--process", "1"], "no process 1 lives at event 0: choose among 0"),
        (["--allocators", "rbtree,buddy"], "stepping is for one design: name one"),
        (["--allocators", "nothing"], "there is no allocator 'nothing'"),
        (["--allocators", "rbtree", "--ram", "much"], "'much' is not a size"),
    ],
)
def test_what_is_no_moment_is_one_sentence(trace, args, sentence):
    result = run(trace, *args)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_allocator_from_outside_cannot_be_stepped(trace, monkeypatch):
    from heaplab.outside import Outside  # noqa: PLC0415

    outside = Outside.__new__(Outside)
    object.__setattr__(outside, "name", "mm.c")
    monkeypatch.setattr("heaplab.cli.step.find_allocators", lambda text, language: [outside])
    result = run(trace, "--allocators", "mm.c")
    assert result.exit_code == 2
    assert "mm.c: an allocator from outside cannot be stepped" in result.stderr


def test_without_textual_a_terminal_is_told_what_to_install(trace, monkeypatch):
    monkeypatch.setattr("heaplab.cli.step._has_terminal", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run(trace, "--allocators", "rbtree")
    assert result.exit_code == 2
    assert "pip install 'heaplab[step]'" in result.stderr


def test_in_a_terminal_the_program_begins_at_the_event(trace, monkeypatch):
    started = []
    stepper = pytest.importorskip("heaplab.terminal.stepper", reason="Textual is not installed")
    monkeypatch.setattr(stepper.Stepper, "run", lambda self: started.append(self.step.event))
    monkeypatch.setattr("heaplab.cli.step._has_terminal", lambda: True)
    result = run(trace, "--allocators", "rbtree", "--at", "7")
    assert (result.exit_code, result.stdout, started) == (0, "", [7])
