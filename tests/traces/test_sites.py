"""Files of call sites: what they say of a trace's blocks, and what is refused."""

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.traces import Event, Op, Trace
from heaplab.traces.lives import lives
from heaplab.traces.sites import Asked, Sites, read_sites, site_of, write_sites

TRACE = Trace.of(
    [
        *[Event(Op.MALLOC, 0, 24), Event(Op.CALLOC, 1, 24), Event(Op.FORK, 1), Event(Op.REALLOC, 0, 32)],
        *[Event(Op.MALLOC, 2, 8, process=1), Event(Op.FREE, 1), Event(Op.FORK, 2, process=1)],
        *[Event(Op.ALIGNED, 3, 64, 64, process=2), Event(Op.EXIT, process=1)],
    ],
    "three processes",
)
TEXT = """heaplab sites 1
stack 1 main;table
stack 2 main;a name, with blanks
process 0
1 24 2
2 32 1
process 1
0 8 1
process 2
2 64 1
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes a file of call sites, called mine.sites."""
    monkeypatch.chdir(tmp_path)

    def written(text):
        (tmp_path / "mine.sites").write_bytes(text if isinstance(text, bytes) else text.encode())
        return "mine.sites"

    return written


def test_blocks_have_the_stacks_of_the_file_and_copies_those_of_their_originals(file):
    sites = read_sites(file(TEXT))
    born = lives(TRACE)
    told = list(zip(born.process.tolist(), born.slot.tolist(), sites.of_blocks(born).tolist(), strict=True))
    assert sites.stacks == ((), ("main", "table"), ("main", "a name, with blanks"))
    assert told == [
        *[(0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1)],  # the first fork
        *[(0, 0, 2), (1, 2, 0)],
        *[(2, 0, 1), (2, 1, 1), (2, 2, 0)],  # copies of copies
        (2, 3, 2),
    ]
    assert repr(sites) == "<Sites: 2 call stacks of 5 blocks>"


def test_what_is_written_is_read(file, tmp_path):
    sites = read_sites(file(TEXT))
    write_sites("other.sites", sites)
    assert (tmp_path / "other.sites").read_text() == TEXT


def test_names_that_would_break_lines_are_written_without(file):
    asked = Asked.of(np.array([1, 1]), np.array([8, 8]))
    write_sites("odd.sites", Sites(((), ("a;b\nc\udcff", "")), {0: asked}))
    assert read_sites("odd.sites").stacks == ((), ("a_b_c_", "?"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 32 1", "2 24 1", "its acquisition 2 of process 0 has 24 bytes, the trace's has 32"),
        ("1 24 2", "1 24 1", "it has 2 acquisitions of process 0, the trace 3"),
        ("1 24 2", f"1 24 {1 << 47}", "it has 140,737,488,355,329 acquisitions of process 0, the trace 3"),
        ("process 2\n2 64 1\n", "", "it has 0 acquisitions of process 2, the trace 1"),
        ("process 2", "process 3", "it has 0 acquisitions of process 2, the trace 1"),
        ("process 2", "process 7\n0 9 1\nprocess 2", "it has 1 acquisitions of process 7, the trace 0"),
    ],
)
def test_a_file_of_another_trace_is_refused(file, old, new, message):
    sites = read_sites(file(TEXT.replace(old, new)))
    with pytest.raises(UsageError) as refused:
        sites.of_blocks(lives(TRACE))
    assert str(refused.value) == f"mine.sites is not of this trace: {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("heaplab sites 1", "heaplab sites 12", ": is no file of call sites"),
        (TEXT, "", ": is no file of call sites"),
        (TEXT, b"\x7fELF\xff\0" * 50, ": is no file of call sites"),
        ("stack 2", "stack 3", ", line 3: stack 2 and names of functions are to be here"),
        ("stack 1 main;table", "stack 1", ", line 2: stack 1 and names of functions are to be here"),
        ("process 0\n", "", ", line 4: '1 24 2' is neither a stack"),
        ("process 1", "process 0", ", line 7: process 0 is there a second time"),
        ("process 1", "process 65536", ", line 7: the number of a process is to be here"),
        ("2 64 1\n", "2 6", ", line 10: '2 6' is neither a stack"),
        ("2 64 1", "3 64 1", ", line 10: there is no stack 3 before it"),
        ("2 64 1", "2 64 0", ", line 10: no program asks 0 times for 64 bytes"),
        ("2 64 1", f"2 {1 << 48} 1", ", line 10: no program asks 1 times for"),
        ("2 64 1", "2 -64 1", ", line 10: '2 -64 1' is neither a stack"),
        ("2 64 1", "9" * 5000, ", line 10: '9999"),
    ],
)
def test_a_damaged_file_is_one_sentence(file, old, new, message):
    name = file(TEXT.replace(old, new) if isinstance(new, str) else new)
    with pytest.raises(UsageError) as refused:
        read_sites(name)
    assert str(refused.value).startswith(f"mine.sites{message}")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 160


def test_the_site_is_the_innermost_function_outside_the_allocator():
    assert site_of(("main", "table", "_Znwm")) == "table"
    assert site_of(("main", "table")) == "table"
    assert site_of(("malloc",)) == "malloc"
    assert site_of(()) == ""
