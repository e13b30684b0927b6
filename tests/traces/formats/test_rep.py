"""The .rep traces of malloc courses, in their variants."""

import io

import pytest
from hypothesis import given

from heaplab.errors import UsageError
from heaplab.testing.traces import event_lists
from heaplab.traces import NULL_ID, Event, Op, Trace, open_trace
from heaplab.traces.formats.rep import write_rep

BODY = "a 0 512\na 1 128\nr 0 640\nf 1\nf -1\nf 0\n"
EVENTS = [
    Event(Op.MALLOC, 0, 512),
    Event(Op.MALLOC, 1, 128),
    Event(Op.REALLOC, 0, 640),
    Event(Op.FREE, 1),
    Event(Op.FREE, NULL_ID),
    Event(Op.FREE, 0),
]


@pytest.fixture
def rep(tmp_path):
    """Opens the text given as a .rep file."""

    def open_text(text, *, lenient=False):
        path = tmp_path / "x.rep"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return open_trace(path, lenient=lenient)

    return open_text


@pytest.mark.parametrize(
    "header",
    ["20000\n2\n6\n1\n", "1\n2\n6\n768\n", "2\n6\n", "  2 \r\n6\r\n", "\n2\n\n6\n\n"],
    ids=["classic", "newer", "two lines", "carriage returns", "blank lines"],
)
def test_every_header_is_read(rep, header):
    trace = rep(header + BODY)
    assert list(trace.events()) == EVENTS
    assert (trace.header.name, trace.header.slots, trace.header.peak_live) == ("x", 2, 768)


def test_ids_become_slots_that_are_reused(rep):
    trace = rep("3\n5\na 7 10\nf 7\na 9 20\na 1000000 30\nr 9 25\n")
    assert [event.id for event in trace.events()] == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("start", ["# a comment\n", "\n \n", "\ufeff", "\ufeff# both\r\n\r\n"])
@pytest.mark.parametrize("header", ["", "2\n6\n", "1\n2\n6\n768\n"], ids=["none", "two", "four"])
def test_comments_blank_lines_a_byte_order_mark_and_no_header(rep, start, header):
    trace = rep(start + header + BODY.replace("a 1 128\n", "a 1 128  # one more\n"))
    assert list(trace.events()) == EVENTS
    assert trace.remarks == ()


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("7\n", "has 1 header lines, and a .rep file has none, 2 or 4"),
        ("1\n3\na 0 8\nf 0\n", "promises 3 operations and has 2: it may be truncated"),
        ("1\n1\na 0 8\nf 0\n", "promises 1 operations and has 2: it may be truncated"),
    ],
)
def test_a_wrong_count_is_a_remark(rep, text, remark):
    (told,) = rep(text).remarks
    assert told.endswith(f"x.rep: {remark}")


def test_a_realloc_of_what_is_not_allocated_is_a_malloc(rep):
    text = "r 0 8\nr 0 0\nr 0 16\nf 0\nr 0 24\nr 1 0\n"
    assert [str(event) for event in rep(text).events()] == [
        *("malloc 0 8", "free 0", "malloc 0 16", "free 0", "malloc 0 24", "malloc 1 0"),
    ]


def test_a_free_of_an_unknown_id_and_a_second_allocation_are_counted(rep):
    trace = rep("a 0 8\na 0 9\nf 7\nf 0\nnonsense\n", lenient=True)
    assert [str(event) for event in trace.events()] == ["malloc 0 8", "free 0", "malloc 0 9", "free 0"]
    (told,) = trace.remarks
    assert told.endswith(
        "x.rep: skipped or mended 1 frees of unknown blocks, 1 frees that are missing, "
        "1 lines that are no operation"
    )


def test_a_trace_of_36_gib_is_read(rep):
    trace = rep("".join(f"a {block} {1 << 30}\n" for block in range(36)))
    assert trace.header.peak_live == 36 << 30


def test_a_realloc_to_nothing_is_a_free(rep):
    assert [event.op for event in rep("1\n2\na 0 8\nr 0 0\n").events()] == [Op.MALLOC, Op.FREE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n1\nf 0\n", "line 3 (f 0) names an id that is not allocated"),
        ("1\n2\na 0 8\na 0 8\n", "line 4 (a 0 8) allocates an id that is allocated already"),
        ("1\n1\na 0 eight\n", "line 3 (a 0 eight) is no operation: write `a ID SIZE`"),
        ("1\n1\na 0\n", "line 3 (a 0) is no operation"),
        ("1\n1\na 0 8 8\n", "line 3 (a 0 8 8) is no operation"),
        ("1\n1\na -1 8\n", "line 3 (a -1 8) is no operation"),
        ("1\n1\nx 0 8\n", "line 3 (x 0 8) is no operation"),
        ("1\n1\nf\n", "line 3 (f) is no operation"),
        ("1\n1\nf -2\n", "line 3 (f -2) names an id that is not allocated"),
        ("1\n1\na 0 -8\n", "line 3 (a 0 -8) has a size that no allocation can have"),
        ("1\n1\na 0 18446744073709551615\n", "has a size that no allocation can have"),
        ("1\n2\n3\na 0 8\n", "line 4 (a 0 8) follows 3 header lines: a .rep file has none, 2 or 4"),
        ("1\nzwei\na 0 8\n", "line 2 (zwei) follows 1 header lines"),
        ("1\n1\n\xff\xfe\x00\n", "is no operation"),
        ("1\n1\n" + "a 0 8" * 100 + "\n", "is too long for a trace"),
        ("1\n1\na 0 " + "9" * 150 + "\n", "has a size that no allocation can have"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(rep, text, message):
    with pytest.raises(UsageError) as caught:
        rep(text)
    assert "x.rep: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_without_end_is_not_read_whole(rep):
    with pytest.raises(UsageError, match="is too long for a trace"):
        rep("1\n1\n" + "a" * 10_000_000)


@given(event_lists(processes=False))
def test_what_is_written_comes_back_but_for_what_rep_cannot_say(events):
    trace = Trace.of(events)
    file = io.BytesIO()
    write_rep(trace, file, null_frees=True)
    events = [event for event in events if event.op != Op.THREAD_EXIT]
    assert file.getvalue().decode().splitlines()[:4] == [
        "1",
        str(trace.header.slots),
        str(len(events)),
        str(trace.header.peak_live),
    ]
    kept = {Op.FREE: Op.FREE, Op.REALLOC: Op.REALLOC}
    words = [line.split() for line in file.getvalue().decode().splitlines()[4:]]
    letters = {"a": Op.MALLOC, "r": Op.REALLOC, "f": Op.FREE}
    assert [letters[word[0]] for word in words] == [kept.get(event.op, Op.MALLOC) for event in events]
    sizes = [int(word[2]) for word in words if word[0] != "f"]
    assert sizes == [event.size for event in events if event.op != Op.FREE]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "1\n1\n2\n8\na 0 8\nf 0\n"),
        ({"heading": "classic"}, "8\n1\n2\n1\na 0 8\nf 0\n"),
        ({"null_frees": True}, "1\n1\n3\n8\na 0 8\nf -1\nf 0\n"),
    ],
)
def test_both_headers_and_no_free_of_null_by_default(options, text):
    file = io.BytesIO()
    events = [Event(Op.MALLOC, 0, 8), Event(Op.FREE, NULL_ID), Event(Op.FREE, 0), Event(Op.THREAD_EXIT)]
    write_rep(Trace.of(events), file, **options)
    assert file.getvalue().decode() == text


def test_processes_cannot_be_written():
    trace = Trace.of([Event(Op.FORK, 1)], "forking")
    with pytest.raises(UsageError, match="forking: has more than one program or process"):
        write_rep(trace, io.BytesIO())
