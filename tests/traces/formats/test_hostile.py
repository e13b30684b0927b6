"""Damaged and malicious files of every format: a sentence, or a valid trace; no hang and no other error."""

import gzip
import random

import pytest

from heaplab.errors import UsageError
from heaplab.traces import open_trace
from tests.traces.formats.history import CASES, history

NOISE = [
    *(
        b"\n",
        b" ",
        b"0",
        b"-1",
        b"0x0",
        b"(nil)",
        b"9" * 30,
        b"9" * 5000,
        b"0x" + b"f" * 40,
        b"\xff\xfe",
        b"\0",
    ),
    *(
        b"malloc",
        b"free(",
        b"realloc",
        b"thread_done",
        b"= ",
        b"<",
        b">",
        b"!",
        b"#1",
        b",",
        b"a ",
        b"+ ",
        b"- ",
    ),
    *(b"<unfinished ...>", b"<... malloc resumed> ) = 0x1", b"--- Called exec() ---", b"+++ exited +++"),
    *(
        b"[pid 7] ",
        b"==3== Command: x\n",
        b"--4-- ",
        b"malloc_init()",
        b"\x80" * 12,
        b"\x0a\x7f",
        b"%s%n",
        b"_Znwm",
    ),
]


def mutated(data, draw):
    """`data` after a few random changes."""
    data = bytearray(data)
    for _ in range(draw.randrange(1, 6)):
        at, size = draw.randrange(len(data) + 1), draw.choice([0, 1, 4, 40, 400])
        match draw.randrange(5):
            case 0:
                data[at : at + size] = draw.choice(NOISE)
            case 1:
                data[at : at + size] = b""
            case 2:
                data[at:at] = data[(other := draw.randrange(len(data) + 1)) : other + size]
            case 3:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 4:
                del data[at + 3 * size :]
    return bytes(data)


@pytest.mark.parametrize("name", CASES)
def test_mutated_files_are_read_or_refused(tmp_path, name):
    write, options, _, _ = CASES[name]
    text = write(list(history(5, **options))[:60])
    whole = text if isinstance(text, bytes) else "\n".join(text).encode()
    draw = random.Random(name)
    path = tmp_path / "x"
    outcomes = set()
    sentences = []
    for number in range(150):
        data = mutated(whole, draw)
        path.write_bytes(gzip.compress(data, 1) if number % 10 == 0 else data)
        for lenient in (False, True):
            try:
                trace = open_trace(path, lenient=lenient)
            except UsageError as error:
                outcomes.add("refused")
                sentences.append(str(error))
            else:
                outcomes.add("read")
                assert sum(map(len, trace)) == trace.header.events  # through the ledger
                sentences += trace.remarks
    assert all(each.isprintable() and len(each) < 500 for each in sentences)
    assert outcomes == {"read", "refused"}
