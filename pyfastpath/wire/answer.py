"""The transceiver's answer to an offer: one audio section, one data channel, everything else refused.

RFC 8829 (JSEP), RFC 9143 (BUNDLE), RFC 8839 (ICE). Chromium, Firefox, aiortc and libwebrtc for Node take it:
credentials and fingerprint stand in every accepted section, candidates in the first, whose transport it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from pyfastpath.wire.offer import (
    AUDIO_LEVEL,
    MID,
    TRANSPORT_CC,
    AudioOffer,
    DataOffer,
    Direction,
    Offer,
    OfferedMedia,
    Setup,
    parse_credentials,
)
from pyfastpath.wire.sdp import Candidate

CNAME: Final = "fastpath"  # of our source, in RTCP too (RFC 7022)
SCTP_PORT: Final = 5000
MESSAGE_BYTES_MAX: Final = 262_144  # what our end of the data channel takes in one message

_MIRROR: Final[dict[Direction, Direction]] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
_OPUS: Final = "useinbandfec=1;minptime=10"  # RFC 7587: mono, as stereo=1 is not said
_SAME_EXTENSIONS: Final = (AUDIO_LEVEL, MID, TRANSPORT_CC)
_STREAM, _TRACK = "fastpath", "agent"


def setup_for(offered: Setup) -> Literal["active", "passive"]:
    """Our role in DTLS: the server, unless the client insists on being it (RFC 8842, section 5.3)."""
    return "active" if offered == "passive" else "passive"


def build_answer(
    offer: Offer,
    *,
    ufrag: str,
    pwd: str,
    fingerprint: tuple[str, bytes],
    setup: Literal["active", "passive"],
    candidates: Iterable[Candidate],
    ssrc: int,
    session_id: int,
    version: int = 1,
) -> str:
    """The answer, lines ended by CRLF. `candidates`: best first, the first is the default destination.

    session_id: a number below 2**63 (RFC 8829, section 5.2.1); `version` rises with each new answer of a
    session, ICE restarts that is. ssrc: of the audio we send.
    """
    offered = tuple(candidates)
    transport = (
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{pwd}",
        f"a=fingerprint:{fingerprint[0]} {fingerprint[1].hex(':').upper()}",
        f"a=setup:{setup}",
    )
    lines = [*_session(offer, session_id, version)]
    trail = [*_candidate_lines(offered)]
    for media in offer.media:
        if media.accepted:
            lines += _accepted(media, offer, transport, _default(offered), ssrc)
            lines += trail
            trail = []  # the accepted sections that follow share the first one's transport
        else:
            lines += _refused(media)
    return "\r\n".join(lines) + "\r\n"


def parse_fragment(text: str) -> tuple[str, str] | None:
    """(ufrag, password) of an application/trickle-ice-sdpfrag (RFC 8840); None when it has none.

    Another ufrag than the one in force asks for an ICE restart (RFC 9725, section 4.3.3). Raises OfferError.
    """
    return parse_credentials(text)


def build_fragment(offer: Offer, *, ufrag: str, pwd: str, candidates: Iterable[Candidate]) -> str:
    """Our side of an ICE restart, as a fragment for the session that `offer` began."""
    first = next(media for media in offer.media if media.accepted)
    lines = [
        "a=ice-lite",
        f"a=group:BUNDLE {_bundle(offer)}",
        f"m={first.kind} 9 {first.protocol} {first.formats[0]}",
        f"a=mid:{first.mid}",
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{pwd}",
        *_candidate_lines(tuple(candidates)),
    ]
    return "\r\n".join(lines) + "\r\n"


def _session(offer: Offer, session_id: int, version: int) -> Iterator[str]:
    yield "v=0"
    yield f"o=- {session_id} {version} IN IP4 127.0.0.1"
    yield "s=-"
    yield "t=0 0"
    yield "a=ice-lite"
    yield f"a=group:BUNDLE {_bundle(offer)}"
    yield "a=msid-semantic: WMS *"


def _accepted(
    media: OfferedMedia, offer: Offer, transport: tuple[str, ...], default: tuple[int, str], ssrc: int
) -> Iterator[str]:
    port, destination = default
    if offer.data is not None and media.mid == offer.data.mid:
        first, rest = f"m=application {port} {media.protocol} webrtc-datachannel", _data(offer.data)
    else:
        first, rest = _audio_line(media, offer.audio, port), _audio(offer.audio, ssrc)
    yield from (first, destination, *transport, *rest)


def _bundle(offer: Offer) -> str:
    """The accepted sections' identifiers; the first names the transport (RFC 9143, section 7.3.1)."""
    return " ".join(media.mid for media in offer.media if media.accepted)


def _default(candidates: tuple[Candidate, ...]) -> tuple[int, str]:
    """Port and c= line of the default destination (RFC 8839, section 4.2.1.2); 9 and 0.0.0.0 for none."""
    if not candidates:
        return 9, "c=IN IP4 0.0.0.0"
    best = candidates[0]
    return best.port, f"c=IN IP{6 if ':' in best.address else 4} {best.address}"


def _candidate_lines(candidates: tuple[Candidate, ...]) -> Iterator[str]:
    yield from (candidate.line() for candidate in candidates)
    yield "a=end-of-candidates"


def _refused(media: OfferedMedia) -> Iterator[str]:
    """Port 0 says no (RFC 3264, section 6); a format must stand there all the same."""
    yield f"m={media.kind} 0 {media.protocol} {media.formats[0]}"
    yield "c=IN IP4 0.0.0.0"
    yield "a=inactive"
    if media.mid:
        yield f"a=mid:{media.mid}"


def _audio_line(media: OfferedMedia, audio: AudioOffer, port: int) -> str:
    """Payload types in the client's order, which is its preference: it sends RED if RED stands first."""
    ours = {audio.opus_payload_type, audio.red_payload_type, *audio.telephone_event}
    formats = dict.fromkeys(int(text) for text in media.formats if int(text) in ours)
    return f"m=audio {port} {media.protocol} {' '.join(map(str, formats))}"


def _audio(audio: AudioOffer, ssrc: int) -> Iterator[str]:
    opus = audio.opus_payload_type
    direction = _MIRROR[audio.direction]
    yield f"a=mid:{audio.mid}"
    for uri in _SAME_EXTENSIONS:
        if uri in audio.extensions and (uri != TRANSPORT_CC or audio.transport_cc):
            yield f"a=extmap:{audio.extensions[uri]} {uri}"
    yield f"a={direction}"
    sends = direction in {"sendrecv", "sendonly"}
    if sends:
        yield f"a=msid:{_STREAM} {_TRACK}"
    yield "a=rtcp-mux"
    yield f"a=rtpmap:{opus} opus/48000/2"
    yield f"a=fmtp:{opus} {_OPUS}"
    if audio.transport_cc:
        yield f"a=rtcp-fb:{opus} transport-cc"
    if audio.nack:
        yield f"a=rtcp-fb:{opus} nack"
    if audio.red_payload_type is not None:
        yield f"a=rtpmap:{audio.red_payload_type} red/48000/2"
        yield f"a=fmtp:{audio.red_payload_type} {opus}/{opus}"
    for payload_type, clock in audio.telephone_event.items():
        yield f"a=rtpmap:{payload_type} telephone-event/{clock}"
        yield f"a=fmtp:{payload_type} 0-15"
    if sends:
        yield f"a=ssrc:{ssrc} cname:{CNAME}"
        yield f"a=ssrc:{ssrc} msid:{_STREAM} {_TRACK}"


def _data(data: DataOffer) -> Iterator[str]:
    yield f"a=mid:{data.mid}"
    yield f"a=sctp-port:{SCTP_PORT}"
    yield f"a=max-message-size:{MESSAGE_BYTES_MAX}"
