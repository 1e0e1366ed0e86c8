"""The generator's datagram, and the tally that tells loss, reordering and duplicates apart."""

import struct

import pytest
from fastpath._testing.load import LEAST_PROBE_BYTES, Tally, build_probe, parse_probe
from hypothesis import given
from hypothesis import strategies as st

WINDOW = 64
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@given(u32, u32, u64, u64)
def test_what_is_built_is_parsed(flow, run, sequence, intended_ns):
    assert parse_probe(build_probe(flow, run, sequence, intended_ns)) == (flow, run, sequence, intended_ns)


def test_a_probe_looks_like_rtp():
    data = build_probe(0x01020304, 1, 0x10005, 7, 172)
    assert len(data) == 172
    assert data[:4] == b"\x80\x6f\x00\x05"  # version 2, payload type 111, the low 16 bits of the sequence
    assert struct.unpack_from("=I", data, 4)[0] == 0x10005 * 960 % 2**32  # 20 ms at 48 kHz
    assert struct.unpack_from("=I", data, 8)[0] == 0x01020304


@pytest.mark.parametrize("length", range(LEAST_PROBE_BYTES))
def test_a_truncated_probe_is_none(length):
    assert parse_probe(build_probe(1, 2, 3, 4)[:length]) is None


@pytest.mark.parametrize("change", [b"\x00", b"\x81", b"\x16"])
def test_another_first_byte_is_none(change):
    assert parse_probe(change + build_probe(1, 2, 3, 4)[1:]) is None


@given(st.lists(st.integers(0, 200), max_size=60))
def test_the_tally_agrees_with_a_set(sequences):
    tally, seen, highest = Tally(), set(), -1
    received = reordered = duplicates = 0
    for sequence in sequences:
        late = sequence < highest
        if sequence in seen and highest - sequence < WINDOW:
            duplicates += 1
            assert not tally.note(sequence)
        else:
            received += 1
            reordered += late
            assert tally.note(sequence)
        seen.add(sequence)
        highest = max(highest, sequence)
    assert tally.counts() == (highest + 1, received, reordered, duplicates)


def test_a_thousand_in_order_are_received_and_nothing_else():
    tally = Tally()
    assert all(tally.note(sequence) for sequence in range(1000))
    assert tally.counts() == (1000, 1000, 0, 0)


def test_a_gap_wider_than_the_window_forgets_what_was_seen():
    tally = Tally()
    for sequence in (0, 64, 63, 64, 1):
        tally.note(sequence)
    assert tally.counts() == (65, 4, 2, 1)
