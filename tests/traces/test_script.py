"""Requests as a person writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.traces import Event, Op
from heaplab.traces.script import parse_script


def test_every_request_is_read() -> None:
    assert parse_script(
        "a0 400; c1 4 KiB\nm2 64 100 # aligned\nr0 800; f1; fork; f0 @1; fork @1; exit @1; ;"
    ) == [
        Event(Op.MALLOC, 0, 400),
        Event(Op.CALLOC, 1, 4096),
        Event(Op.ALIGNED, 2, 100, 64),
        Event(Op.REALLOC, 0, 800),
        Event(Op.FREE, 1),
        Event(Op.FORK, 1),
        Event(Op.FREE, 0, process=1),
        Event(Op.FORK, 2, process=1),
        Event(Op.EXIT, process=1),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "no request"),
        ("# nothing", "no request"),
        ("a0 400; b1", "'b1'"),
        ("a0", "'a0' has 0 of the 1"),
        ("f0 10", "'f0 10' has 1 of the 0"),
        ("m0 10", "has 1 of the 2"),
        ("a0 many", "'many' is not a size"),
        ("a 400", "'a 400' has 0 of the 1"),
        ("a99999999999 1", "below"),
        ("a0 -1", "'-1' is not a size"),
    ],
)
def test_what_nobody_can_read_is_named(text: str, names: str) -> None:
    with pytest.raises(UsageError, match=names):
        parse_script(text)


@given(st.text(alphabet="acmrf0123456789 @;forkexit\n#-k", max_size=40))
def test_any_text_is_requests_or_a_sentence(text: str) -> None:
    told = ""
    try:
        events = parse_script(text)
    except UsageError as error:
        events, told = [], str(error)
    assert bool(events) != ("write a0 400" in told)
