"""OSTEP's and wee_alloc's lists, malloc-bench's messages, heaptrack's infos."""

import pytest

from heaplab.errors import UsageError


@pytest.mark.parametrize(
    "text", ["+10,-0,+20,+5,-1\n", "+10,-0,+20,+5,-1", "+10, -0,\n+20,\n+5, -1,\n", "[+10,-0,+20,+5,-1]"]
)
def test_ostep(lines, text):
    assert lines(text) == ["malloc 0 10", "free 0", "malloc 0 20", "malloc 1 5", "free 0"]


@pytest.mark.parametrize("text", ["Alloc(24),\nAlloc(8),\nFree(0),\n", "[Alloc(24), Alloc(8), Free(0)]"])
def test_wee_alloc(lines, text):
    assert lines(text) == ["malloc 0 24", "malloc 1 8", "free 0"]


def test_heaptrack(opened):
    trace = opened(
        "v 10400 3\nX ./t\nI 1000 5e2990\ns 9 /tmp/tr/t\ni 7fa4 8 0 b 0\nt 1 0\n"
        "a 64 4\na 8 5\n+ 0\nc 10\n+ 1\n+ 0\n- 0\nc 20\n- 0\nR 17\n# strings: 3\n"
    )
    assert [str(event) for event in trace.events()] == [
        *("malloc 0 100", "malloc 1 8", "malloc 2 100", "free 2", "free 0"),
    ]
    assert [event.time // 10**6 for event in trace.events()] == [0, 0, 0, 0, 16]
    assert "the youngest is taken to be freed" in trace.header.note


def test_malloc_bench(lines):
    allocations = (
        b"\x0a\x06\x0a\x04\x08\x00\x10\x18"  # malloc(24), called 0
        b"\x0a\x09\x0a\x07\x08\xac\x02\x10\x18\x18\x40"  # 24 bytes aligned to 64, called 300
        b"\x0a\x08\x22\x06\x08\x02\x10\x03\x18\x08"  # calloc(3, 8), called 2
        b"\x0a\x06\x1a\x04\x08\x03\x18\x09"  # realloc(NULL, 9), called 3
        b"\x0a\x08\x1a\x06\x08\x04\x10\x00\x18\x30"  # realloc of 0 to 48 bytes, called 4
    )
    releases = b"\x0a\x02\x12\x00\x0a\x05\x12\x03\x08\xac\x02\x0a\x04\x12\x02\x08\x04\x10\x05"
    assert lines(allocations + releases) == [
        *(
            "malloc 0 24",
            "aligned 1 24 64",
            "calloc 2 24",
            "malloc 3 9",
            "realloc 0 48",
            "free NULL",
            "free 1",
        ),
        "free 0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("+10,-0,-0\n", "item 3 (-0) frees a block that is not allocated"),
        ("+10,-7\n", "item 2 (-7) frees a block that is not allocated"),
        ("+10,free\n", "item 2 (free) is no operation: write +SIZE or -NUMBER"),
        ("Alloc(1),Free(1)", "item 2 (Free(1)) frees a block that is not allocated"),
        ("Alloc(1),Malloc(1)", "item 2 (Malloc(1)) is no operation: write Alloc(SIZE) or Free(NUMBER)"),
        ("v 10400 3\na 64 1\n+ 1\n", "line 3 (+ 1) is no operation of heaptrack"),
        ("v 10400 3\na 64 1\n+ -1\n", "line 3 (+ -1) is no operation of heaptrack"),
        ("v 10400 3\na 64 1\n- 0\n", "line 3 (- 0) frees a block of which no more are allocated"),
        (
            b"\x0a\x06\x0a\x04\x08\x00\x10\x18\x0a\x04\x12\x02\x08\x01",
            "message 2 (\\x12\\x02\\x08\\x01) names an id that is not allocated",
        ),
        (b"\x0a\x06\x0a\x04\x08\x00\x10\x18\x0a\x06\x12\x02\x08", "is truncated, its end is missing"),
        (b"\x0a\x06\x0a\x04\x08\x00\x10\x18\x0b", "is damaged at byte 8, there is no field of a known kind"),
        (
            b"\x0a\x06\x0a\x04\x08\x00\x10\x18\x0a\x02\x2a\x00",
            "message 2 (*\\x00) is no operation of malloc-bench",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(opened, text, message):
    with pytest.raises(UsageError) as caught:
        opened(text)
    assert f"x.trace: {message}" in str(caught.value)
