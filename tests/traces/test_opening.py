"""Opening traces: the content decides, and what is none is refused."""

import gzip

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.traces import Provenance, TraceWriter, corpus, open_trace, synthetic

REP = b"1\n2\na 0 8\nf 0\n"


def test_the_content_decides_not_the_name(tmp_path):
    (tmp_path / "a.hlt").write_bytes(REP)
    assert open_trace(tmp_path / "a.hlt").header.events == 2
    with TraceWriter.create(tmp_path / "b.rep", Provenance("b")) as writer:
        for block in synthetic(100):
            writer.write(block)
    assert open_trace(tmp_path / "b.rep").header.events == 100


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_texts_may_be_compressed(tmp_path, pack):
    packed = pack(REP)
    (tmp_path / "x.rep.z").write_bytes(packed)
    assert open_trace(tmp_path / "x.rep.z").header.events == 2
    (tmp_path / "x.rep.z").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UsageError, match=r"does not decompress|promises|header lines"):
        open_trace(tmp_path / "x.rep.z")


def test_a_text_trace_is_read_as_often_as_one_likes_even_when_its_file_is_gone(tmp_path):
    (tmp_path / "x.rep").write_bytes(REP)
    trace = open_trace(tmp_path / "x.rep")
    (tmp_path / "x.rep").unlink()
    assert list(trace.events()) == list(trace.events())
    assert len(list(trace.events())) == 2


def test_a_bundled_trace_is_opened_by_name_whatever_lies_around(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, other = corpus.names()[:2]
    (tmp_path / name).write_bytes(REP)
    (tmp_path / other).mkdir()
    assert open_trace(name).header.name == name
    assert open_trace(other).header.name == other
    assert open_trace(f"./{name}").header.events == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file: `heaplab trace list` names the bundled traces"),
        (lambda path: path.mkdir(), "is not a file: name a trace"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (
            lambda path: path.write_bytes(b"hello\n"),
            "is no trace that heaplab knows: it reads .hlt, .rep, memory_replay, ",
        ),
        (lambda path: path.write_bytes(b"\x1f\x8bgarbage"), "does not decompress"),
        (lambda path: path.write_bytes(b"\x28\xb5\x2f\xfdgarbage"), "does not decompress"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, make, message):
    make(tmp_path / "zzzzzz")
    with pytest.raises(UsageError) as caught:
        open_trace(tmp_path / "zzzzzz")
    assert str(caught.value).startswith(f"{tmp_path / 'zzzzzz'}: {message}")


def test_a_near_name_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"sqlit: there is no such file, .* did you mean sqlite\?"):
        open_trace("sqlit")


@given(
    st.binary(max_size=300),
    st.sampled_from(
        [
            *(
                b"",
                b"1\n2\n",
                b"1: malloc 0x10 8\n",
                b"\x89HLT",
                b"\x1f\x8b",
                b"PK\x03\x04",
                b"BZh9",
                b"a 0 1\n",
            ),
            *(
                b"= Start\n",
                b"malloc(5) = 0x10\n",
                b"--1-- malloc(5) = 0x10\n",
                b"1 1 malloc(5)=0x1\n",
                b"+1,",
            ),
            *(b"<jemalloc>:utrace: 1 malloc_init()\n", b"Alloc(1),", b"\x0a\x04\x0a\x02\x08\x01", b"v 1 3\n"),
        ]
    ),
)
def test_random_bytes_are_refused(tmp_path_factory, noise, start):
    path = tmp_path_factory.mktemp("noise") / "x"
    path.write_bytes(start + noise)
    try:
        trace = open_trace(path)
    except UsageError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert trace.header.events <= len(noise) + 1
    assert "\n" not in sentence
