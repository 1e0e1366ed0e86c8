"""Session descriptions: an offer is refused with its line and reason, or its answer is one that relay and
client can read; what the relay puts its candidates into stays a session description."""

from collections.abc import Iterator
from pathlib import Path

from pyfastpath.errors import WireError
from pyfastpath.wire import answer, offer, sdp
from pyfastpath.wire.section import OfferError, sections_of

BYTES_MAX = 8192
SMOKE_RUNS = 500
ON_DATA_PLANE = False
CRASHERS = {
    "an m= line of nothing else": b"v=0\nm=\na=ice-ufrag:abcd\n",
    "an m= line with a port and no format": b"v=0\nm=audio 9\na=ice-ufrag:abcd\n",
    "a text that ends with a CR too many": b"v=0\r\na=ice-ufrag:abcd\r\nm=audio 9 RTP/SAVPF 0\r\r",
    "a text that ends between CR and LF": b"v=0\r\nm=audio 9 RTP/SAVPF 0\r\na=ice-ufrag:abcd\r",
}
WORDS = (
    *(
        b"v=0\r\n",
        b"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
        b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    ),
    *(
        b"m=video 0 RTP/SAVPF 96\r\n",
        b"a=group:BUNDLE 0 1\r\n",
        b"a=mid:0\r\n",
        b"a=mid:1\r\n",
        b"a=rtcp-mux\r\n",
    ),
    *(b"a=setup:actpass\r\n", b"a=setup:passive\r\n", b"a=ice-ufrag:", b"a=ice-pwd:", b"a=ice-lite\r\n"),
    *(b"a=rtpmap:111 opus/48000/2\r\n", b"a=rtpmap:63 red/48000/2\r\n", b"a=fmtp:63 111/111\r\n"),
    *(b"a=fingerprint:sha-256 ", b"a=extmap:1 ", b"a=rtcp-fb:111 transport-cc\r\n", b"a=sctp-port:5000\r\n"),
    *(b"a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n", b"a=end-of-candidates\r\n", b"a=bundle-only\r\n"),
    *(
        b"a=inactive\r\n",
        b"a=sendonly\r\n",
        b"c=IN IP4 0.0.0.0\r\n",
        b"a=rtcp:9 IN IP4 0.0.0.0\r\n",
        b"\n",
        b"\xc2\xa0",
    ),
)
CANDIDATES = (*sdp.host_candidates([("192.0.2.1", 3478)]), *sdp.host_candidates([("2001:db8::1", 3478)]))
SAMPLES = Path(__file__).parent.parent.parent / "vectors" / "sdp"


def seeds() -> Iterator[bytes]:
    for file in sorted(SAMPLES.glob("*.sdp")):
        yield file.read_bytes()[:BYTES_MAX]
    yield b"v=0\nm=audio 9 RTP/SAVPF 0\na=ice-ufrag:abcd\na=candidate:1 1 udp 1 host.local 9 typ host\n"


def one_input(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")  # as the relay takes it
    check_relay(text)
    check_offer(text)
    try:
        offer.parse_credentials(text)
    except OfferError as error:
        check_refusal(error, text)


def check_relay(text: str) -> None:
    """What is routed is the same before and after the relay put itself in."""
    try:
        found = sdp.media_ice(text)
    except WireError as error:
        assert "\n" not in str(error)
        return
    mine = sdp.replace_candidates(text, CANDIDATES)
    again = sdp.media_ice(mine)
    assert [(one.ufrag, one.mid) for one in again] == [(one.ufrag, one.mid) for one in found]
    assert all(one.candidates == CANDIDATES for one in again)
    assert sdp.replace_candidates(mine, CANDIDATES) == mine
    assert not any(one.candidates for one in sdp.media_ice(sdp.strip_candidates(text)))


def check_offer(text: str) -> None:
    try:
        read = offer.parse_offer(text)
    except OfferError as error:
        check_refusal(error, text)
        return
    said = answer.build_answer(
        read,
        ufrag="abcd",
        pwd="p" * 22,
        fingerprint=("sha-256", bytes(32)),
        setup=answer.setup_for(read.setup),
        candidates=CANDIDATES,
        ssrc=7,
        session_id=1,
    )
    session, *media = sections_of(said)
    assert [section.kind for section in media] == [one.kind for one in read.media]
    assert [section.port != 0 for section in media] == [one.accepted for one in read.media]
    assert session.has("ice-lite")
    (routed,) = sdp.media_ice(said)
    assert (routed.ufrag, routed.candidates) == ("abcd", CANDIDATES)


def check_refusal(error: OfferError, text: str) -> None:
    assert "\n" not in str(error)
    assert 0 <= error.line <= text.count("\n") + 1
