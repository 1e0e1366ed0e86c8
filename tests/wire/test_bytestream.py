"""Exact reads from sources that give what they like."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import PcapError
from pyfastpath.wire.bytestream import CHUNK_BYTES, ByteStream
from tests.support.captures import pieces


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20)),
    steps=st.lists(st.tuples(st.sampled_from(["take", "peek", "skip"]), st.integers(0, 30))),
)
def test_it_gives_the_bytes_of_the_source_whatever_their_pieces(chunks, steps):
    whole = b"".join(chunks)
    stream = ByteStream(pieces(chunks))
    at = 0
    for step, count in steps:
        if step == "peek":
            assert stream.peek(count)[:count] == whole[at : at + count]
        elif at + count > len(whole):
            with pytest.raises(PcapError, match=rf"inside it at byte {at}: {len(whole) - at} of {count} "):
                getattr(stream, step)(count, "it")
            return
        else:
            taken = getattr(stream, step)(count, "it")
            assert taken in {None, whole[at : at + count]}
            at += count
        assert stream.offset == at


def test_the_error_carries_its_offset():
    stream = ByteStream(pieces([b"abcdef"]))
    stream.take(2, "it")
    with pytest.raises(PcapError) as caught:
        stream.take(10, "the frame")
    assert caught.value.offset == 2


def test_a_system_call_a_chunk_not_one_a_read():
    asked = []

    def read(count):
        asked.append(count)
        return bytes(count)

    stream = ByteStream(read)
    for _ in range(1000):
        stream.take(100, "it")
    assert asked == [CHUNK_BYTES]


def test_passing_over_sixteen_gigabytes_holds_a_chunk():
    chunk = bytes(CHUNK_BYTES)
    stream = ByteStream(lambda _: chunk)
    tracemalloc.start()
    try:
        stream.skip(16 << 30, "it")
        stream.take(1000, "it")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stream.offset == (16 << 30) + 1000
    assert peak < 2 * CHUNK_BYTES
