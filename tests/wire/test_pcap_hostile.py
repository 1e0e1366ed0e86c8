"""Damaged and hostile files: one sentence with the byte, no crash, no memory for a length that lies."""

import tracemalloc
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import PcapError
from pyfastpath.wire.frames import Datagrams
from pyfastpath.wire.pcap import read_frames
from tests.support.captures import HOSTILE, NANO, PACKET, everything, interface, pcap, pieces, record, section
from tests.test_cli import run

WHOLE = {
    "pcap": pcap(record(), record(seconds=2, original=80), record(b""), record(PACKET[:20]), magic=NANO),
    "pcapng-little": everything("<"),
    "pcapng-big": everything(">"),
}


def read(data):
    """(Frames, error or None) of a file; anything but PcapError is a crash."""
    frames = []
    try:
        frames.extend(read_frames(pieces([data])))
    except PcapError as error:
        return frames, error
    return frames, None


@pytest.mark.parametrize("name", HOSTILE)
def test_the_error_says_what_is_wrong_and_where(name):
    data, sentence = HOSTILE[name]
    with pytest.raises(PcapError) as caught:
        list(Datagrams(read_frames(pieces([data]))))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert 0 <= caught.value.offset <= len(data)
    assert caught.value.hint


@pytest.mark.parametrize("name", HOSTILE)
def test_no_length_of_a_hostile_file_is_allocated(name):
    data = HOSTILE[name][0]
    tracemalloc.start()
    try:
        read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(data) + (1 << 20)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_command_line_ends_with_2_and_one_line(tmp_path, capsys, name):
    file = tmp_path / "hostile.pcap"
    file.write_bytes(HOSTILE[name][0])
    assert run(["explain", str(file)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "hostile.pcap: " in said.err
    assert HOSTILE[name][1] in said.err


@pytest.mark.parametrize("name", WHOLE)
def test_every_truncation_is_named_or_is_a_shorter_capture(name):
    data = WHOLE[name]
    whole, error = read(data)
    assert error is None
    ends = 0
    for length in range(len(data)):
        frames, error = read(data[:length])
        assert frames == whole[: len(frames)]
        assert error is None or error.offset <= length
        ends += error is None
    assert 1 < ends < 15  # between two records, and there alone


@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0x80, 0xFF], ids=hex)
@pytest.mark.parametrize("name", WHOLE)
def test_any_byte_may_be_another_one(name, value):
    data = WHOLE[name]
    errors = 0
    for at in range(len(data)):
        frames, error = read(data[:at] + bytes([value]) + data[at + 1 :])
        errors += error is not None
        assert error is None or (str(error) and error.offset <= len(data))
        assert all(frame.offset < len(data) and 0 <= frame.time_ns < 1 << 63 for frame in frames)
        assert sum(len(frame.data) for frame in frames) < len(data)
    assert errors


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_any_piece_may_be_missing_doubled_or_elsewhere(name, data):
    whole = WHOLE[name]
    cut = st.integers(0, len(whole))
    (a, b), (c, d) = (sorted(data.draw(st.tuples(cut, cut))) for _ in range(2))
    frames, _ = read(whole[:a] + whole[c:d] + whole[b:])
    assert len(frames) < 100


def test_a_hundred_thousand_empty_frames_take_no_memory():
    empty = record(b"") * 1000
    source = Datagrams(read_frames(pieces(chain([pcap(link=1)], repeat(empty, 100)))))
    tracemalloc.start()
    try:
        assert list(source) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.skipped.total() == 100_000
    assert peak < 2 << 20


def test_ten_thousand_sections_take_no_memory():
    once = section() + interface() * 10
    source = read_frames(pieces(chain(repeat(once, 10_000))))
    tracemalloc.start()
    try:
        assert list(source) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
