"""The first byte decides (RFC 7983)."""

import pytest

from pyfastpath.wire.demux import Kind, demux


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (0, Kind.STUN),
        (3, Kind.STUN),
        (4, Kind.NOT_WEBRTC),
        (16, Kind.NOT_WEBRTC),  # ZRTP
        (19, Kind.NOT_WEBRTC),
        (20, Kind.DTLS),
        (63, Kind.DTLS),
        (64, Kind.NOT_WEBRTC),  # TURN channel
        (127, Kind.NOT_WEBRTC),
        (128, Kind.RTP),
        (191, Kind.RTP),
        (192, Kind.NOT_WEBRTC),
        (255, Kind.NOT_WEBRTC),
    ],
)
def test_ranges(first: int, kind: Kind) -> None:
    assert demux(bytes([first]) + b"rest") == kind


def test_an_empty_datagram_is_none_of_ours() -> None:
    assert demux(b"") == Kind.NOT_WEBRTC
