"""The bundled traces: what issue and README promise of them."""

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.traces import corpus, open_trace

NAMES = corpus.names()


def test_there_are_enough_and_they_are_small_enough():
    assert len(NAMES) >= 6
    assert sum(corpus.path(name).stat().st_size for name in NAMES) < 8 * 1000**2


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_is_sound_and_says_where_it_comes_from(name):
    trace = open_trace(name)
    header = trace.header
    assert 50_000 <= header.events <= 2_000_000
    assert sum(map(len, trace)) == header.events
    assert header.name == name
    assert all((header.program, header.version, header.command, header.date, header.note))
    assert "/" not in header.command


def test_the_corpus_has_threads_forks_and_execs():
    headers = [open_trace(name).header for name in NAMES]
    assert any(header.threads > header.processes for header in headers)
    assert any(header.ops.get("fork", 0) > header.ops.get("exec", 0) for header in headers)
    assert any(header.ops.get("exec") for header in headers)


@pytest.mark.parametrize("name", ["git-grep", "node", "redis"])
def test_blocks_of_threaded_programs_are_freed_by_other_threads(name):
    header = open_trace(name).header
    assert header.threads >= header.processes + 4
    assert header.remote_frees > 10_000


def test_threads_end_in_the_corpus():
    assert open_trace("git-grep").header.ops["thread_exit"] == 4


def test_the_readme_is_what_the_command_prints():
    printed = CliRunner().invoke(main, ["trace", "list", "--markdown"]).output
    assert (corpus.directory() / "README.md").read_text().endswith(printed)
