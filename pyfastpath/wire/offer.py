"""A client's session description as the transceiver reads it: one audio stream of Opus, one data channel.

What is refused is refused with the number of the line and the reason, because whoever reads the error
wrote the offer. Candidates are not read: the client's address is learnt from its Binding Requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pyfastpath.wire.section import OfferError, Section, integer, numbered_lines, sections_of

__all__ = [
    "AUDIO_LEVEL",
    "MID",
    "TRANSPORT_CC",
    "AudioOffer",
    "DataOffer",
    "Direction",
    "Offer",
    "OfferError",
    "OfferedMedia",
    "Setup",
    "parse_credentials",
    "parse_offer",
]

AUDIO_LEVEL: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"  # RFC 6464
MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"  # RFC 9143, section 15.2
TRANSPORT_CC: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

Setup = Literal["actpass", "active", "passive"]
Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

_DIRECTIONS: Final[tuple[Direction, ...]] = ("sendrecv", "sendonly", "recvonly", "inactive")
_RTP: Final = {"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP"}  # RFC 8829, section 5.1.2
_SCTP: Final = {"UDP/DTLS/SCTP", "TCP/DTLS/SCTP"}  # RFC 8841, section 4
_TOKEN: Final = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")  # RFC 8866, section 9
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/]{4,256}")  # RFC 8839, section 5.4
_PWD: Final = re.compile(r"[A-Za-z0-9+/]{22,256}")
# Those that certificate.py can check; SHA-1 and MD5 prove nothing.
_HASH_BYTES: Final = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_EXTENSION_IDS: Final = frozenset(range(1, 256)) - {15}  # RFC 8285, section 4.2: 15 is reserved
_MESSAGE_BYTES: Final = 65_536  # RFC 8841, section 6.1: when the attribute is absent


@dataclass(frozen=True, slots=True)
class OfferedMedia:
    """One m= line, in the order of the offer. What is not accepted is answered with port 0."""

    mid: str  # empty when the section has none
    kind: str
    accepted: bool
    line: int
    protocol: str
    formats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AudioOffer:
    """The audio section that is accepted. Payload types are the client's, used in both directions."""

    mid: str
    direction: Direction
    opus_payload_type: int
    opus_parameters: Mapping[str, str]
    red_payload_type: int | None  # RFC 2198 carrying Opus
    telephone_event: Mapping[int, int]  # payload type -> clock rate, RFC 4733
    extensions: Mapping[str, int]  # those both may send: uri -> id, RFC 8285
    nack: bool
    transport_cc: bool
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DataOffer:
    """The data channel section that is accepted (RFC 8841)."""

    mid: str
    sctp_port: int
    max_message_size: int  # bytes; 0: no limit


@dataclass(frozen=True, slots=True)
class Offer:
    """What the transceiver needs of an offer."""

    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, bytes], ...]  # ("sha-256", 32 bytes), …: one of them must match
    setup: Setup
    media: tuple[OfferedMedia, ...]
    audio: AudioOffer
    data: DataOffer | None


def parse_offer(sdp: str) -> Offer:
    """Read an offer. Raises OfferError, whose sentence names line and reason."""
    session, *media = sections_of(sdp)
    _check_mids(media)
    audio = next((one for one in media if one.kind == "audio" and one.offered), None)
    if audio is None:
        kinds = ", ".join(one.kind for one in media) or "nothing"
        raise OfferError(
            "no_audio", 0, f"the offer has no audio section, only {kinds}", "Add a microphone track."
        )
    if audio.protocol not in _RTP:
        raise OfferError(
            "no_audio", audio.line, f"audio over {audio.protocol} is not WebRTC", "Offer UDP/TLS/RTP/SAVPF."
        )
    bundle = _bundle_of(session, audio)
    if not audio.has("rtcp-mux"):
        raise OfferError(
            "no_rtcp_mux",
            audio.line,
            "the audio section has no a=rtcp-mux",
            "RTP and RTCP share one port here.",
        )
    data = next((one for one in media if one.mid in bundle and _carries_data(one)), None)
    if session.has("ice-lite"):
        raise OfferError(
            "bad_ice", 0, "the client is ICE-lite, and so is this server", "One side must send checks."
        )
    ufrag, pwd = _credentials(audio, session)
    return Offer(
        ice_ufrag=ufrag,
        ice_pwd=pwd,
        fingerprints=_fingerprints(audio, session),
        setup=_setup(audio, session),
        media=tuple(
            OfferedMedia(one.mid, one.kind, one is audio or one is data, one.line, one.protocol, one.formats)
            for one in media
        ),
        audio=_audio(audio, session),
        data=None if data is None else _data(data),
    )


def parse_credentials(text: str) -> tuple[str, str] | None:
    """ufrag and password of a fragment (RFC 8840, section 9), or None when it carries none.

    A fragment's lines are those of a description without its beginning. Raises OfferError.
    """
    lines = numbered_lines(text)
    fragment = Section(0, lines)
    if fragment.value("ice-ufrag") is None and fragment.value("ice-pwd") is None:
        return None
    return _credentials(fragment, fragment)


def _check_mids(media: list[Section]) -> None:
    """Identifiers are repeated in the answer and tell sections apart: tokens, each once (RFC 5888)."""
    seen: set[str] = set()
    for section in media:
        for number, mid in section.values("mid"):
            if _TOKEN.fullmatch(mid) is None:
                raise OfferError("bad_sdp", number, f"a=mid:{mid[:64]} is not a token of 1 to 64 characters")
            if mid in seen:
                raise OfferError("bad_sdp", number, f"a=mid:{mid} stands twice")
            seen.add(mid)


def _bundle_of(session: Section, audio: Section) -> set[str]:
    """The identifiers that share the audio section's transport."""
    for _, group in session.values("group"):
        semantics, *mids = group.split() or [""]
        if semantics == "BUNDLE" and audio.mid and audio.mid in mids:
            return set(mids)
    name = f"a=mid:{audio.mid}" if audio.mid else "its a=mid, which is missing"
    raise OfferError(
        "no_bundle",
        audio.line,
        f"no a=group:BUNDLE names the audio section by {name}",
        "Everything of a call shares one transport here: use bundlePolicy balanced or max-bundle.",
    )


def _carries_data(section: Section) -> bool:
    return (
        section.kind == "application"
        and section.offered
        and section.protocol in _SCTP
        and "webrtc-datachannel" in section.formats
    )


def _credentials(section: Section, session: Section) -> tuple[str, str]:
    """The section's ufrag and password, else the session's (RFC 8839, section 5.4)."""
    found = []
    for name, shape, says in (("ice-ufrag", _UFRAG, "4 to 256"), ("ice-pwd", _PWD, "22 to 256")):
        line, text = section.value(name) or session.value(name) or (0, "")
        if not line:
            raise OfferError("bad_ice", section.line, f"the section has no a={name}")
        if shape.fullmatch(text) is None:  # the value is not repeated: one of the two is a password
            raise OfferError("bad_ice", line, f"a={name} is not {says} characters of A-Z a-z 0-9 + /")
        found.append(text)
    return found[0], found[1]


def _fingerprints(section: Section, session: Section) -> tuple[tuple[str, bytes], ...]:
    """Digests of the client's certificate by hashes that still prove something (RFC 8122, section 5)."""
    found = []
    last = section.line
    for line, text in [*section.values("fingerprint")] or [*session.values("fingerprint")]:
        last = line
        algorithm, _, digits = text.partition(" ")
        size = _HASH_BYTES.get(algorithm.lower())
        if size is None:
            continue
        if re.fullmatch(rf"(?:[0-9A-Fa-f]{{2}}:){{{size - 1}}}[0-9A-Fa-f]{{2}}", digits.strip()) is None:
            raise OfferError("bad_fingerprint", line, f"{algorithm} needs {size} bytes as XX:XX:…")
        found.append((algorithm.lower(), bytes.fromhex(digits.strip().replace(":", ""))))
    if not found:
        known = ", ".join(_HASH_BYTES)
        raise OfferError("bad_fingerprint", last, f"no a=fingerprint by one of {known}", "Offer sha-256.")
    return tuple(found)


def _setup(section: Section, session: Section) -> Setup:
    line, text = section.value("setup") or session.value("setup") or (0, "active")  # RFC 4145, section 4
    if text == "actpass":
        return "actpass"
    if text == "active":
        return "active"
    if text == "passive":
        return "passive"
    raise OfferError("bad_sdp", line, f"a=setup:{text[:20]} is not actpass, active or passive")


def _direction(section: Section, session: Section) -> Direction:
    """RFC 8866, section 6.7: sendrecv unless said otherwise."""
    for where in (section, session):
        for direction in _DIRECTIONS:
            if where.has(direction):
                return direction
    return "sendrecv"


def _audio(section: Section, session: Section) -> AudioOffer:
    codecs = _codecs(section)
    opus = next((number for number, name in codecs.items() if name == ("opus", 48_000, "2")), None)
    if opus is None:
        raise OfferError("no_opus", section.line, "the audio section has no opus/48000/2 (RFC 7587)")
    feedback = {text for _, text in section.values("rtcp-fb")}
    wanted = {
        text.split(" ", 1)[1].strip()
        for text in feedback
        if text.split(" ")[0] in {str(opus), "*"} and " " in text
    }
    extensions = _extensions(section)
    return AudioOffer(
        mid=section.mid,
        direction=_direction(section, session),
        opus_payload_type=opus,
        opus_parameters=_parameters(section, opus),
        red_payload_type=_red(section, codecs, opus),
        telephone_event={pt: rate for pt, (name, rate, _) in codecs.items() if name == "telephone-event"},
        extensions=extensions,
        nack="nack" in wanted,
        transport_cc="transport-cc" in wanted and TRANSPORT_CC in extensions,
        ssrcs=_ssrcs(section),
    )


def _codecs(section: Section) -> dict[int, tuple[str, int, str]]:
    """Payload type -> (name, clock rate, parameters) in the order of the m= line, which is preference."""
    said: dict[str, tuple[int, str]] = {}
    for line, text in section.values("rtpmap"):
        number, _, codec = text.partition(" ")
        said.setdefault(number, (line, codec.strip()))
    found: dict[int, tuple[str, int, str]] = {}
    for number in section.formats:
        payload_type = integer(number)
        if payload_type is None or payload_type > 127:
            raise OfferError("bad_sdp", section.line, f"{number[:20]!r} is not a payload type 0 to 127")
        if number not in said:
            continue
        line, codec = said[number]
        name, rate, parameters = ([*codec.split("/"), "1", "1"])[:3]
        clock = integer(rate)
        if clock is None:
            raise OfferError("bad_sdp", line, f"a=rtpmap:{number} has no clock rate: {codec[:40]!r}")
        found[payload_type] = (name.lower(), clock, parameters)
    return found


def _parameters(section: Section, payload_type: int) -> dict[str, str]:
    """a=fmtp as a dict; a value without a key keeps the empty one."""
    found = {}
    for _, text in section.values("fmtp"):
        number, _, rest = text.partition(" ")
        if number != str(payload_type):
            continue
        for item in rest.split(";"):
            key, equals, value = item.strip().partition("=")
            if key:
                found[key.lower() if equals else ""] = value if equals else key
    return found


def _red(section: Section, codecs: dict[int, tuple[str, int, str]], opus: int) -> int | None:
    """Redundancy whose blocks are all Opus; a=fmtp lists their payload types (RFC 2198, section 5)."""
    for number, (name, rate, _) in codecs.items():
        if name == "red" and rate == 48_000:
            blocks = _parameters(section, number).get("", str(opus)).split("/")
            if set(blocks) == {str(opus)}:
                return number
    return None


def _extensions(section: Section) -> dict[str, int]:
    """Header extensions open to both directions; ids of one byte on the wire, 15 being reserved."""
    found: dict[str, int] = {}
    for _, text in section.values("extmap"):
        head, *rest = text.split() or [""]
        digits, _, direction = head.partition("/")
        number = integer(digits)
        if rest and number is not None and direction in {"", "sendrecv"} and number in _EXTENSION_IDS:
            found.setdefault(rest[0], number)
    return found


def _ssrcs(section: Section) -> tuple[int, ...]:
    """a=ssrc in order, each once (RFC 5576)."""
    numbers = (integer(text.split(" ", 1)[0]) for _, text in section.values("ssrc"))
    return tuple(dict.fromkeys(one for one in numbers if one is not None and one < 1 << 32))


def _data(section: Section) -> DataOffer:
    port = _number(section, "sctp-port", 5000)
    if not 1 <= port <= 65535:
        raise OfferError("bad_sdp", section.line, f"a=sctp-port:{port} is not 1 to 65535")
    return DataOffer(section.mid, port, _number(section, "max-message-size", _MESSAGE_BYTES))


def _number(section: Section, name: str, otherwise: int) -> int:
    found = section.value(name)
    if found is None:
        return otherwise
    line, text = found
    number = integer(text)
    if number is None:
        raise OfferError("bad_sdp", line, f"a={name}:{text[:20]} is not a number")
    return number
