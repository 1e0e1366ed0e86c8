"""The control dialect of rtpengine: bencode both ways, and the SDP of one audio stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers.rtpengine.bencode import decode, encode
from bench.peers.rtpengine.offers import audio_port, sdp

VALUES = st.recursive(
    st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_every_value_comes_back(value):
    assert decode(encode(value)) == value


def test_keys_are_in_order_and_lengths_count_bytes():
    assert encode({"b": 1, "a": ["é", b"x"]}) == b"d1:al2:\xc3\xa91:xe1:bi1ee"


@pytest.mark.parametrize("data", [b"", b"i1", b"l", b"d1:a", b"d1:ae", b"5:abc", b"i1ei2e", b"x"])
def test_what_is_no_bencode_is_refused(data):
    with pytest.raises(ValueError):
        decode(data)


def test_a_value_without_a_word_is_refused():
    with pytest.raises(TypeError, match="float"):
        encode(1.5)


def test_the_port_of_the_audio_stream_is_found():
    assert audio_port(sdp("192.0.2.1", 4711)) == 4711
    with pytest.raises(ValueError, match="no audio"):
        audio_port("v=0\r\nm=video 9 RTP/AVP 96\r\n")
