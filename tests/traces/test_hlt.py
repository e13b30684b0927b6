"""The .hlt format: what is written comes back, and what is damaged is refused in one sentence."""

import contextlib
import io
import json
import struct
import subprocess
import sys
from dataclasses import asdict, replace
from zlib import crc32

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.testing.traces import event_lists, reopened, written
from heaplab.traces import Block, Event, Op, Provenance, Trace, TraceWriter, open_trace, synthetic
from heaplab.traces.hlt import MAGIC


def same_events(one, other):
    left, right = Block.join(one), Block.join(other)
    return all((column == right.columns()[name]).all() for name, column in left.columns().items())


# ---- Round trips -------------------------------------------------------------------------------------------


@given(event_lists())
def test_events_and_header_come_back(events):
    trace = Trace.of(events, "x")
    back = reopened(written(trace, program="p", version="1", command="p -x", date="2026-01-01", note="n"))
    assert list(back.events()) == events
    assert back.header == replace(
        trace.header, program="p", version="1", command="p -x", date="2026-01-01", note="n"
    )


def test_blocks_are_filled_whatever_pieces_they_are_written_in():
    trace = synthetic(150_000, seed=2)
    file = io.BytesIO()
    writer = TraceWriter(file, Provenance("x"))
    for block in trace:
        for start in range(0, len(block), 10_001):
            writer.write(block[start : start + 10_001])
    writer.finish()
    back = reopened(file.getvalue())
    assert [len(block) for block in back] == [65_536, 65_536, 18_928]
    assert same_events(back, trace)


def test_the_widest_values_come_back():
    events = [
        Event(Op.ALIGNED, 0, (1 << 46) + 3, align=1 << 31, thread=0xFFFF, time=1),
        Event(Op.MALLOC, 1, 1, time=(1 << 64) - 1),
    ]
    assert list(reopened(written(Trace.of(events))).events()) == events


def test_times_are_kept_in_ticks():
    trace = Trace.of([Event(Op.MALLOC, slot, 8, time=slot * 5000) for slot in range(9)])
    back = reopened(written(trace, tick=1000))
    assert back.header.tick == 1000
    assert same_events(back, trace)
    with pytest.raises(UsageError, match="times must be multiples of the tick, 3000 ns"):
        written(trace, tick=3000)


def test_an_empty_trace_is_a_trace():
    back = reopened(written(Trace.of([])))
    assert (back.header.events, list(back)) == (0, [])


def test_a_trace_is_read_as_often_as_one_likes(two_blocks):
    trace = reopened(two_blocks)
    first, second = iter(trace), iter(trace)
    assert len(next(first)) == len(next(second)) == 65_536
    assert len(next(first)) == len(next(second)) == 464


# ---- Damage ------------------------------------------------------------------------------------------------


def refused(data):
    """The sentence with which `data` is refused, when opened or when read."""
    with pytest.raises(UsageError) as caught:
        for _ in reopened(data):
            pass
    message = str(caught.value)
    assert message.startswith("x.hlt: ")
    assert "\n" not in message
    return message


def chunks(data):
    """The tags, payloads and offsets of the chunks in `data`."""
    offset = 12
    while offset < len(data) - 16:
        tag, length = struct.unpack_from("<4sI", data, offset)
        yield tag, data[offset + 8 : offset + 8 + length], offset
        offset += 12 + length


def assembled(parts, version=1):
    """A file of these (tag, payload) chunks, with checksums and an end that are right."""
    data, tail = struct.pack("<8sI", MAGIC, version), 0
    for tag, payload in parts:
        tail = len(data)
        chunk = struct.pack("<4sI", tag, len(payload)) + payload
        data += chunk + struct.pack("<I", crc32(chunk))
    return data + struct.pack("<Q8s", tail, b"HLT-END\n")


def forged(data, tag, change):
    """`data` with `change` applied to the payload of the first chunk of this tag, all checksums right."""
    parts = [(found, payload) for found, payload, _ in chunks(data)]
    place = next(index for index, (found, _) in enumerate(parts) if found == tag)
    parts[place] = (tag, change(parts[place][1]))
    return assembled(parts)


def test_the_pieces_of_these_tests_fit(two_blocks):
    assert assembled([part[:2] for part in chunks(two_blocks)]) == two_blocks
    assert [tag for tag, _, _ in chunks(two_blocks)] == [b"HEAD", b"DATA", b"DATA", b"TAIL"]


def test_truncation_is_seen_at_every_offset_of_a_small_file():
    data = written(Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0)]))
    for length in range(len(data)):
        assert "truncated" in refused(data[:length]) or length < 12


def test_truncation_is_seen_at_every_chunk_and_when_opened(two_blocks):
    for _, _, offset in chunks(two_blocks):
        for length in (offset, offset + 1, offset + 8, offset + 50):
            with pytest.raises(
                UsageError, match=r"x.hlt: is truncated, its end is missing: copy or record it again"
            ):
                reopened(two_blocks[:length])


def test_every_flipped_bit_of_a_small_file_is_seen():
    data = written(Trace.of([Event(Op.MALLOC, slot, 24) for slot in range(5)]))
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        refused(bytes(flipped))


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_random_bytes_are_refused(noise, place):
    data = bytearray(written(Trace.of([Event(Op.MALLOC, 0, 24)])))
    place = min(place, len(data) - 1)
    noisy = data[:place] + noise + data[place + len(noise) :]
    if noisy != data:
        refused(bytes(noisy))
    refused(MAGIC + noise)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_payloads_with_right_checksums_and_wrong_contents_are_refused_or_read(data):
    """What CRCs do not catch: no other exception, whatever the columns say."""
    good = written(Trace.of([Event(Op.MALLOC, slot, 24) for slot in range(20)]))
    tag = data.draw(st.sampled_from([b"HEAD", b"DATA", b"TAIL"]))

    def change(payload):
        changed = bytearray(payload)
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        return bytes(changed)

    with contextlib.suppress(UsageError):
        for _ in reopened(forged(good, tag, change)):
            pass


def with_counts(data, **claims):
    return forged(data, b"TAIL", lambda payload: json.dumps({**json.loads(payload), **claims}).encode())


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"events": 1 << 60}, "its counts exceed what the file can hold"),
        ({"slots": 1 << 40}, "its counts exceed what the file can hold"),
        ({"slots": -1}, "the TAIL chunk there is not as it should be"),
        ({"ops": {"malloc": "many"}}, "the TAIL chunk there is not as it should be"),
        ({"peak_live": 1}, "its events are not what its header says"),
        ({"processes": 2}, "its events are not what its header says"),
        ({"remote_frees": 1}, "its events are not what its header says"),
        ({"remote_frees": "many"}, "the TAIL chunk there is not as it should be"),
    ],
)
def test_counts_that_lie_are_refused(two_blocks, claims, message):
    assert message in refused(with_counts(two_blocks, **claims))


def test_a_block_that_claims_more_than_it_holds_costs_no_memory(two_blocks):
    def claiming(count, size):
        columns = zstandard.ZstdCompressor().compress(bytes(size))
        return lambda payload: struct.pack("<IQ7B", count, 0, 1, 4, 8, 4, 2, 8, 2) + columns

    assert "claims 4294967295 events" in refused(forged(two_blocks, b"DATA", claiming((1 << 32) - 1, 10)))
    assert "do not have the size" in refused(forged(two_blocks, b"DATA", claiming(65_536, 1 << 28)))
    assert "claims 0 events" in refused(forged(two_blocks, b"DATA", claiming(0, 0)))


def test_a_block_wider_than_its_types_is_refused(two_blocks):
    wide = forged(two_blocks, b"DATA", lambda payload: payload[:12] + b"\x02" + payload[13:])
    assert "wider than its type" in refused(wide)


def test_chunks_of_impossible_length_or_kind_are_refused(two_blocks):
    parts = [(tag, payload) for tag, payload, _ in chunks(two_blocks)]
    assert "impossible length" in refused(assembled([parts[0], (b"DATA", bytes(1 << 23)), parts[-1]]))
    assert "of no known kind" in refused(assembled([parts[0], (b"WHAT", b""), *parts[1:]]))
    assert "there is no HEAD chunk there" in refused(assembled(parts[1:]))


def test_blocks_in_another_order_are_refused(two_blocks):
    parts = [(tag, payload) for tag, payload, _ in chunks(two_blocks)]
    refused(assembled([parts[0], parts[2], parts[1], parts[3]]))
    refused(assembled([parts[0], parts[1], parts[3]]))


def test_a_newer_version_is_named(two_blocks):
    newer = assembled([(tag, payload) for tag, payload, _ in chunks(two_blocks)], version=2)
    assert refused(newer) == "x.hlt: has format version 2, this heaplab reads 1: use a newer one"


def test_a_copy_in_text_mode_is_named(two_blocks):
    assert "a copy in text mode" in refused(two_blocks.replace(b"\r\n", b"\n"))


def test_deep_json_is_refused(two_blocks):
    deep = forged(two_blocks, b"HEAD", lambda payload: b"[" * 100_000)
    assert "the HEAD chunk there is not as it should be" in refused(deep)


def test_keys_of_newer_writers_are_let_be():
    trace = Trace.of([Event(Op.MALLOC, 0, 24)])
    data = written(trace)
    added = forged(
        data, b"HEAD", lambda payload: json.dumps({**json.loads(payload), "mood": "good"}).encode()
    )
    assert asdict(reopened(added).header) == asdict(reopened(data).header)


def test_a_file_without_the_count_of_remote_frees_is_read_as_ever():
    data = written(Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0, thread=1)]))
    assert reopened(data).header.remote_frees == 1

    def older(payload):
        counts = json.loads(payload)
        del counts["remote_frees"]
        return json.dumps(counts).encode()

    trace = reopened(forged(data, b"TAIL", older))
    assert trace.header.remote_frees is None
    assert list(trace.events()) == list(reopened(data).events())
    assert reopened(written(trace)).header.remote_frees == 1


# ---- Files -------------------------------------------------------------------------------------------------


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.hlt"
    path.write_text("before")
    block = Block.of([Event(Op.MALLOC, 0, 24)])
    with pytest.raises(UsageError), TraceWriter.create(path, Provenance("x")) as writer:  # noqa: PT012
        writer.write(block)
        writer.write(block)
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["x.hlt"]
    with TraceWriter.create(path, Provenance("x")) as writer:
        writer.write(block)
    assert open_trace(path).header.events == 1


def test_ten_million_events_need_little_memory(tmp_path):
    """Written and read in a process of its own, which reports the most memory it ever had."""
    script = """
import resource, sys
from heaplab.traces import Provenance, TraceWriter, open_trace, synthetic
block = next(iter(synthetic(65_536, slots=50, realloc=0)))
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = most()
trace = synthetic(10_000_000, slots=5000)
with TraceWriter.create(sys.argv[1], Provenance("long"), level=1) as writer:
    for block in trace:
        writer.write(block)
print(sum(map(len, open_trace(sys.argv[1]))), most() - before)
"""
    told = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "long.hlt"], capture_output=True, text=True, check=True
    )
    events, kib = map(int, told.stdout.split())
    assert events == 10_000_000
    assert kib < 60 * 1024


def test_columns_are_narrowed(two_blocks):
    """A byte for an op, nothing for columns that are zero: 66,000 events of some 9 random bytes each."""
    assert len(two_blocks) < 66_000 * 5
    block = Block.build(1000, op=Op.FREE, id=np.full(1000, 0xFFFF_FFFF))
    assert len(written(Trace.of_blocks([block]))) < 1000
