"""`heaplab trace`: info, list, convert."""

import json

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.traces import Event, Op, Provenance, Trace, TraceWriter, corpus, open_trace, synthetic


def run(*args):
    return CliRunner().invoke(main, ["trace", *map(str, args)])


@pytest.fixture
def small(tmp_path):
    """A small trace in a file."""
    trace = Trace.of(
        [
            Event(Op.MALLOC, 0, 100),
            Event(Op.CALLOC, 1, 24, time=2000),
            Event(Op.FORK, 1, time=2000),
            Event(Op.FREE, 0, time=3500, process=1),
            Event(Op.REALLOC, 1, 3000, time=10**9),
        ]
    )
    provenance = Provenance("small", "prog", "1.2", "prog -x", "2026-01-31", "an example", tick=500)
    with TraceWriter.create(tmp_path / "small.hlt", provenance) as writer:
        for block in trace:
            writer.write(block)
    return tmp_path / "small.hlt"


def test_info_shows_what_a_trace_holds(small):
    assert run("info", small).output.splitlines() == [
        "small: prog 1.2, recorded 2026-01-31",
        "  command     prog -x",
        "  note        an example",
        "  events      5 in 1.000 s, in steps of 500 ns",
        "  run by      2 processes, 2 threads",
        "  operations  malloc 1 (20.0%), free 1 (20.0%), calloc 1 (20.0%), realloc 1 (20.0%), fork 1 (20.0%)",
        "  requested   3.05 KiB in all",
        "  peak live   3.05 KiB (3,124 B) after event 4; at most 2 blocks live at once in one process",
        "  sizes       p50 100 B, p90 3,000 B, p99 3,000 B, largest 3,000 B",
        "                16 to 31 B           1  33.3% ########################################",
        "               64 to 127 B           1  33.3% ########################################",
        "          2,048 to 4,095 B           1  33.3% ########################################",
    ]


def test_info_of_threads_says_how_many_blocks_left_theirs(tmp_path):
    events = [Event(Op.MALLOC, 0, 8), Event(Op.REALLOC, 0, 9), Event(Op.FREE, 0, thread=1)]
    with TraceWriter.create(tmp_path / "x.hlt", Provenance("x")) as writer:
        writer.write(next(iter(Trace.of([*events, Event(Op.THREAD_EXIT, thread=1)]))))
    lines = run("info", tmp_path / "x.hlt").output.splitlines()
    assert "  run by      1 process, 2 threads" in lines
    remote = "1 of 2 frees and reallocs (50.0%) by another thread than the one that allocated the block"
    assert f"  remote      {remote}" in lines


def test_info_for_programs(small):
    told = json.loads(run("info", "--json", small).output)
    assert told["peak_live"] == 3124
    assert told["ops"] == {"malloc": 1, "free": 1, "calloc": 1, "realloc": 1, "fork": 1}
    assert told["remarks"] == []
    assert told["sizes"][0] == {"low": 16, "high": 31, "count": 1, "total": 24}


@pytest.mark.parametrize("events", [[], [Event(Op.FREE, 0xFFFF_FFFF)]])
def test_info_of_a_trace_without_sizes(tmp_path, events):
    with TraceWriter.create(tmp_path / "x.hlt", Provenance("x")) as writer:
        for block in Trace.of(events):
            writer.write(block)
    assert run("info", tmp_path / "x.hlt").exit_code == 0


def test_list_names_the_bundled_traces():
    lines = run("list").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == corpus.names()


def test_convert_there_and_back(tmp_path):
    with TraceWriter.create(tmp_path / "a.hlt", Provenance("a", program="p")) as writer:
        for block in synthetic(70_000, aligned=0, slots=50):
            writer.write(block)
    assert run("convert", tmp_path / "a.hlt", tmp_path / "b.rep", "--null-frees").exit_code == 0
    assert run("convert", tmp_path / "b.rep", tmp_path / "c.hlt", "--level", "19").exit_code == 0
    first, last = open_trace(tmp_path / "a.hlt").header, open_trace(tmp_path / "c.hlt").header
    assert (last.ops, last.peak_live, last.peak_index) == (first.ops, first.peak_live, first.peak_index)
    assert last.name == "b"


def test_convert_can_make_times_coarser(tmp_path, small):
    run("convert", small, tmp_path / "b.hlt", "--tick", "1000")
    assert [event.time for event in open_trace(tmp_path / "b.hlt").events()] == [0, 2000, 2000, 3000, 10**9]
    assert open_trace(tmp_path / "b.hlt").header.program == "prog"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["info", "none.hlt"], "none.hlt: there is no such file"),
        (
            ["convert", "small.hlt", "b.doc"],
            "b.doc: heaplab writes .hlt, .rep, and .txt for memory_replay: end the name in one of them, or",
        ),
        (
            ["convert", "small.hlt", "b.txt"],
            "small.hlt: has more than one program or process, memory_replay holds one",
        ),
        (
            ["convert", "small.hlt", "b.rep"],
            "small.hlt: has more than one program or process, .rep holds one",
        ),
        (["convert", "small.hlt", "none/b.hlt"], "none/b.hlt: No such file or directory"),
        (["convert", "small.hlt", "small.hlt/b.hlt"], "small.hlt/b.hlt: Not a directory"),
        (["convert", "small.hlt"], "Missing argument 'FILE'."),
        (
            ["cut", "small.hlt", "-o", "b.hlt", "--events", "9:12"],
            "small.hlt: nothing is left of it after the cut",
        ),
        (
            ["cut", "small.hlt", "-o", "b.hlt", "--events", "4:2"],
            "Invalid value for '--events': '4:2' is no span",
        ),
        (
            ["cut", "small.hlt", "-o", "b.hlt", "--time", "soon:"],
            "Invalid value for '--time': 'soon:' is no span",
        ),
        (["cut", "small.hlt", "-o", "b.hlt", "--time", "3"], "Invalid value for '--time': '3' is no span"),
        (
            ["cut", "small.hlt", "-o", "b.hlt", "--time", "0:NaN"],
            "Invalid value for '--time': '0:NaN' is no span",
        ),
        (["cut", "small.hlt"], "Missing option '-o' / '--output'."),
        (["merge", "-o", "b.hlt"], "Missing argument 'TRACE...'."),
        (
            ["merge", "--one-heap", "small.hlt", "-o", "b.hlt"],
            "small.hlt: has more than one program or process, and cannot share one heap",
        ),
        (["show"], "No such command 'show'."),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, monkeypatch, small, args, message):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"heaplab: {message}")
    assert result.stderr.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["small.hlt"]


def test_a_damaged_trace_is_one_line(small):
    small.write_bytes(small.read_bytes()[:-30])
    result = run("info", small)
    assert (result.exit_code, result.stderr) == (
        2,
        f"heaplab: {small}: is truncated, its end is missing: copy or record it again\n",
    )


def test_what_a_reader_skips_is_told_in_one_line(tmp_path):
    (tmp_path / "x.rep").write_text("a 0 8\nf 1\nf 2\nf 0\n")
    strict = run("convert", tmp_path / "x.rep", tmp_path / "x.hlt")
    assert (strict.exit_code, strict.stderr) == (
        2,
        f"heaplab: {tmp_path}/x.rep: line 2 (f 1) names an id that is not allocated "
        "(heaplab trace convert --lenient skips it)\n",
    )
    for command in (["info"], ["convert"], ["cut", "-o"], ["merge", "-o"]):
        target = [] if command == ["info"] else [tmp_path / "x.hlt"]
        result = run(command[0], "--lenient", tmp_path / "x.rep", *command[1:], *target)
        assert (result.exit_code, result.stderr) == (
            0,
            f"heaplab: {tmp_path}/x.rep: skipped or mended 2 frees of unknown blocks\n",
        )
    assert open_trace(tmp_path / "x.hlt").header.events == 2


@pytest.mark.parametrize(
    ("options", "name", "text"),
    [
        ([], "b.rep", "1\n1\n2\n8\na 0 8\nf 0\n"),
        (["--null-frees"], "b.rep", "1\n1\n3\n8\na 0 8\nf -1\nf 0\n"),
        (["--as", "rep-classic"], "b", "8\n1\n2\n1\na 0 8\nf 0\n"),
        ([], "b.txt", "1: malloc 0x10 8\n1: free 0x0\n1: free 0x10\n"),
    ],
)
def test_convert_writes_what_the_ending_or_the_option_says(tmp_path, options, name, text):
    (tmp_path / "a.rep").write_text("a 0 8\nf -1\nf 0\n")
    assert run("convert", tmp_path / "a.rep", tmp_path / name, *options).exit_code == 0
    assert (tmp_path / name).read_text() == text


def test_cut_counts_what_it_leaves_out(tmp_path, small):
    result = run("cut", small, "-o", tmp_path / "b.hlt", "--time", "0.000003:", "--process", "0")
    assert result.stderr == "heaplab: 1 reallocs of blocks from before the cut became mallocs\n"
    (event,) = open_trace(tmp_path / "b.hlt").events()
    assert event == Event(Op.MALLOC, 0, 3000, time=10**9 - 3500)


def test_merge_takes_standard_input(tmp_path, small):
    result = CliRunner().invoke(
        main, ["trace", "merge", "-", str(small), "-o", str(tmp_path / "b.hlt")], input=small.read_bytes()
    )
    assert result.exit_code == 0
    assert open_trace(tmp_path / "b.hlt").header.processes == 4


def test_info_for_programs_has_the_remarks(tmp_path):
    (tmp_path / "x.rep").write_text("9\n9\na 0 8\n")
    result = run("info", "--json", tmp_path / "x.rep")
    assert json.loads(result.stdout)["remarks"] == [
        f"{tmp_path}/x.rep: promises 9 operations and has 1: it may be truncated"
    ]
    assert result.stderr == ""
