"""Where traces come from: pipes, standard input, packed files; and what those may not do to the reader."""

import bz2
import functools
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
import threading
import zipfile
import zlib

import pytest
import zstandard

from heaplab.errors import UsageError
from heaplab.testing.traces import written
from heaplab.traces import open_trace, synthetic
from heaplab.traces.streams import unpacked

REP = b"1\n2\na 0 8\nf 0\n"


def zipped(*contents, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.mkdir("folder")
        for number, content in enumerate(contents):
            archive.writestr(f"folder/{number}.txt", content)
    return file.getvalue()


PACK = {
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zip": zipped,
    "stored zip": lambda data: zipped(data, method=zipfile.ZIP_STORED),
    "gzip in zip": lambda data: zipped(gzip.compress(data)),
    "plain": bytes,
}


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
@pytest.mark.parametrize("content", [REP, written(synthetic(500, seed=3))], ids=["text", "hlt"])
def test_whatever_the_packing_it_is_read_from_files_and_pipes(tmp_path, monkeypatch, pack, content):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(content)
    packed.write_bytes(pack(content))
    expected = list(open_trace(plain).events())
    assert list(open_trace(packed).events()) == expected

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(pack(content))))
    assert list(open_trace("-").events()) == expected

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(pack(content),))
    writer.start()
    trace = open_trace(fifo)
    writer.join()
    assert list(trace.events()) == list(trace.events()) == expected


def test_a_pipe_does_not_promise_to_open_again(tmp_path):
    fifo = tmp_path / "x.hlt"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(REP,))
    writer.start()
    assert open_trace(fifo).source == f"{fifo} (a pipe)"
    writer.join()


def test_a_closed_standard_input_is_a_sentence(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="standard input: is closed: name a trace"):
        open_trace("-")


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2"])
def test_several_members_are_one_content(name):
    packed = PACK[name](REP) + PACK[name](b"a 1 9\n")
    assert b"".join(unpacked("x", io.BytesIO(packed)).parts()) == REP + b"a 1 9\n"


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2", "zip"])
def test_much_from_little_comes_in_small_parts(name):
    content = bytes(range(256)) * 4096 * 8
    sizes = [len(part) for part in unpacked("x", io.BytesIO(PACK[name](content))).parts()]
    assert sum(sizes) == len(content)
    assert max(sizes) <= 1 << 19


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2", "zip"])
def test_a_truncated_file_does_not_decompress(name):
    content = random.Random(1).randbytes(400_000)
    for length in (len(PACK[name](content)) - 1, 200_000, 1000, 20):
        with pytest.raises(UsageError, match="x: does not decompress"):
            for _ in unpacked("x", io.BytesIO(PACK[name](content)[:length])).parts():
                pass


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (zipped, "x: is a zip with 0 files: unpack it and name one"),
        (lambda: zipped(REP, REP), "x: is a zip with 2 files: unpack it and name one"),
        (
            lambda: zipped(REP, method=zipfile.ZIP_LZMA),
            "x: is a zip whose file is encrypted or packed in a way that",
        ),
        (
            lambda: lzma.compress(REP, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]),
            "x: does not decompress",
        ),
    ],
    ids=["empty", "two", "method", "memory"],
)
def test_what_is_not_unpacked_is_refused(packed, message):
    with pytest.raises(UsageError, match=message):
        unpacked("x", io.BytesIO(packed())).peek(10)


@functools.cache
def zeros(bound):
    """A gzip of `bound` zeros, made part by part."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(bound >> 20)]
    return b"".join([*parts, packer.flush()])


MEMORY = """
import resource, sys
from heaplab.errors import UsageError
from heaplab.traces import open_trace
room = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_trace(sys.argv[1])
except UsageError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - room)
"""


@pytest.mark.parametrize(
    ("content", "message"),  # what is slow to make is made when its test runs
    [
        (lambda: zeros(1 << 29), "is no trace that heaplab knows"),
        (lambda: zipped(zeros(1 << 29)), "is no trace that heaplab knows"),
        (lambda: gzip.compress(REP + b"a" * (1 << 28), 1), "is too long for a trace"),
        (
            lambda: zstandard.ZstdCompressor().compress(b"+1," + bytes(1 << 29)),
            "an item that is too long for a trace",
        ),
        (b"a 1 " + b"9" * 1_000_000 + b"\n", "is too long for a trace"),
        (b"a 1 1\na 2 " + b"9" * 1_000_000 + b"\n", "is too long for a trace"),
        (b"1: malloc 0x" + b"f" * 500_000 + b" 8\n1: free 0x1\n", "names an address where no block is"),
        (b"\x0a\x04\x0a\x02\x08\x01" + b"\x0a\xff\xff\xff\xff\x0f" + b"a" * 1000, "is damaged at byte 6"),
        (b"\x0a\x04\x0a\x02\x08\x01" + b"\xff" * 1000, "is damaged at byte 6, a number there has no end"),
        (b"v 10400 3\n" + b"s" * (1 << 22), "is too long for a trace"),
    ],
    ids=[
        *("zeros", "zipped zeros", "line", "item", "number", "second number", "address", "message", "varint"),
        "heaptrack",
    ],
)
def test_what_is_large_without_end_costs_a_sentence_and_no_memory(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content() if callable(content) else content)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "x"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    sentence, grown = done.stdout.splitlines()
    assert message in sentence
    assert int(grown) < 120 << 10  # KiB


def test_many_forks_of_many_blocks_are_refused(tmp_path):
    """Each process that begins gets a copy of the table: there is a limit on all copies together."""
    lines = [b"--1-- malloc(1) = 0x%x" % address for address in range(16, 200_016)]
    lines += [b"--%d-- malloc(1) = 0x1" % process for process in range(2, 200)]
    (tmp_path / "x").write_bytes(b"\n".join(lines))
    with pytest.raises(UsageError, match="forks more live blocks than heaplab can follow"):
        open_trace(tmp_path / "x")
