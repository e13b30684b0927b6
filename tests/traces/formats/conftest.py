"""Opens texts as traces."""

import pytest

from heaplab.traces import open_trace


@pytest.fixture
def opened(tmp_path):
    """Opens the text given, whatever format it has."""

    def open_text(text, *, lenient=False):
        path = tmp_path / "x.trace"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return open_trace(path, lenient=lenient)

    return open_text


@pytest.fixture
def lines(opened):
    """The events of the text given, as lines."""

    def list_lines(text, *, lenient=False):
        return [str(event) for event in opened(text, lenient=lenient).events()]

    return list_lines
