"""Offers of real clients are read; what cannot be served is refused by name, with the line.

tests/vectors/sdp holds offers as Chromium 156, Firefox 153, aiortc 1.16 and @roamhq/wrtc made them.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfastpath.wire.offer import (
    AUDIO_LEVEL,
    MID,
    TRANSPORT_CC,
    Offer,
    OfferError,
    parse_credentials,
    parse_offer,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "sdp"
CHROMIUM = (VECTORS / "chromium-audio-data.sdp").read_bytes().decode()
FIREFOX = (VECTORS / "firefox-audio-data.sdp").read_bytes().decode()


def offer(name: str) -> Offer:
    return parse_offer((VECTORS / f"{name}.sdp").read_bytes().decode())


def refused(text: str) -> OfferError:
    with pytest.raises(OfferError) as caught:
        parse_offer(text)
    return caught.value


def without(text: str, *prefixes: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(prefixes))


def line_of(text: str, prefix: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), start=1) if line.startswith(prefix))


def test_chromium() -> None:
    read = offer("chromium-audio-data")
    assert (read.ice_ufrag, read.ice_pwd) == ("U/1w", "rYM9M7NedHEj1xRhdebJYpQ7")
    assert read.setup == "actpass"
    ((algorithm, digest),) = read.fingerprints
    assert (algorithm, len(digest), digest[:3]) == ("sha-256", 32, bytes.fromhex("1D693B"))
    audio = read.audio
    assert (audio.mid, audio.direction) == ("0", "sendrecv")
    assert audio.opus_payload_type == 111
    assert audio.opus_parameters == {"minptime": "10", "useinbandfec": "1"}
    assert audio.red_payload_type == 63
    assert audio.telephone_event == {110: 48_000, 126: 8_000}
    assert {uri: audio.extensions[uri] for uri in (AUDIO_LEVEL, TRANSPORT_CC, MID)} == {
        AUDIO_LEVEL: 1,
        TRANSPORT_CC: 3,
        MID: 4,
    }
    assert (audio.nack, audio.transport_cc) == (False, True)
    assert audio.ssrcs == (2435500470,)
    assert read.data is not None
    assert (read.data.mid, read.data.sctp_port, read.data.max_message_size) == ("1", 5000, 262_144)


def test_firefox_says_fingerprint_and_direction_for_the_whole_session() -> None:
    read = offer("firefox-audio-data")
    assert read.fingerprints[0][1][:2] == bytes.fromhex("61B6")
    assert (read.audio.opus_payload_type, read.audio.red_payload_type) == (109, None)
    assert read.audio.opus_parameters["stereo"] == "1"
    assert read.audio.telephone_event == {101: 8_000}
    assert "urn:ietf:params:rtp-hdrext:csrc-audio-level" not in read.audio.extensions  # /recvonly: never sent


def test_aiortc_offers_three_fingerprints() -> None:
    read = offer("aiortc-audio-data")
    assert [(name, len(digest)) for name, digest in read.fingerprints] == [
        ("sha-256", 32),
        ("sha-384", 48),
        ("sha-512", 64),
    ]
    assert not read.audio.transport_cc


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("aiortc-audio", [("0", "audio", True)]),
        (
            "aiortc-audio-video-data",
            [("0", "audio", True), ("1", "video", False), ("2", "application", True)],
        ),
        ("chromium-audio", [("0", "audio", True)]),
        ("chromium-max-bundle", [("0", "audio", True), ("1", "video", False), ("2", "application", True)]),
        (
            "chromium-video-first-two-audios",
            [("0", "video", False), ("1", "audio", True), ("2", "audio", False)],
        ),
        (
            "firefox-audio-video-data",
            [("0", "audio", True), ("1", "video", False), ("2", "application", True)],
        ),
        ("wrtc-audio-data", [("0", "audio", True), ("1", "application", True)]),
    ],
)
def test_one_audio_and_one_data_section_are_accepted(
    name: str, accepted: list[tuple[str, str, bool]]
) -> None:
    read = offer(name)
    assert [(media.mid, media.kind, media.accepted) for media in read.media] == accepted
    assert (read.data is not None) is any(kind == "application" for _, kind, _ in accepted)


def test_directions() -> None:
    assert offer("chromium-recvonly").audio.direction == "recvonly"
    assert offer("chromium-recvonly").audio.ssrcs == ()
    assert offer("chromium-sendonly").audio.direction == "sendonly"
    assert parse_offer(without(CHROMIUM, "a=sendrecv")).audio.direction == "sendrecv"
    whole = without(FIREFOX, "a=sendrecv").replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n")
    assert parse_offer(whole).audio.direction == "inactive"


def test_red_of_something_else_is_no_red() -> None:
    assert (
        parse_offer(CHROMIUM.replace("a=fmtp:63 111/111", "a=fmtp:63 0/111")).audio.red_payload_type is None
    )
    assert parse_offer(without(CHROMIUM, "a=fmtp:63")).audio.red_payload_type == 63


def test_feedback_may_be_said_for_all_formats() -> None:
    text = CHROMIUM.replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:* transport-cc\r\na=rtcp-fb:111 nack")
    assert (parse_offer(text).audio.nack, parse_offer(text).audio.transport_cc) == (True, True)
    assert not parse_offer(without(text, "a=extmap:3")).audio.transport_cc
    assert not parse_offer(text.replace("nack", "nack pli")).audio.nack


def test_a_section_outside_the_bundle_is_not_accepted() -> None:
    read = parse_offer(CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0"))
    assert read.data is None
    assert [media.accepted for media in read.media] == [True, False]


def test_data_that_is_no_data_channel_is_not_accepted() -> None:
    assert parse_offer(CHROMIUM.replace("UDP/DTLS/SCTP webrtc-datachannel", "UDP/BFCP *")).data is None
    assert parse_offer(CHROMIUM.replace("m=application 46919", "m=application 0")).data is None
    read = parse_offer(without(CHROMIUM, "a=sctp-port", "a=max-message-size"))
    assert read.data is not None
    assert (read.data.sctp_port, read.data.max_message_size) == (5000, 65_536)


def test_an_audio_section_that_the_client_refused_is_passed_over() -> None:
    text = (VECTORS / "chromium-video-first-two-audios.sdp").read_bytes().decode()
    first = line_of(text, "m=audio")
    lines = text.splitlines(keepends=True)
    lines[first - 1] = lines[first - 1].replace("m=audio 58815", "m=audio 0")
    assert parse_offer("".join(lines)).audio.mid == "2"


def test_setup_is_active_when_nothing_is_said() -> None:
    assert parse_offer(without(CHROMIUM, "a=setup")).setup == "active"
    assert parse_offer(CHROMIUM.replace("actpass", "passive")).setup == "passive"


def at(prefix: str) -> int:
    """The line of Chromium's offer that begins so."""
    return line_of(CHROMIUM, prefix)


AUDIO_LINE = at("m=audio")


@pytest.mark.parametrize(
    ("text", "code", "line", "says"),
    [
        (without(CHROMIUM, "a=group"), "no_bundle", AUDIO_LINE - 1, "BUNDLE"),
        (CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 1"), "no_bundle", AUDIO_LINE, "a=mid:0"),
        (without(CHROMIUM, "a=mid:0"), "no_bundle", AUDIO_LINE, "missing"),
        (without(CHROMIUM, "a=rtcp-mux"), "no_rtcp_mux", AUDIO_LINE, "rtcp-mux"),
        (without(CHROMIUM, "a=rtpmap:111"), "no_opus", AUDIO_LINE, "opus/48000/2"),
        (CHROMIUM.replace("opus/48000/2", "opus/16000/1"), "no_opus", AUDIO_LINE, "opus/48000/2"),
        (CHROMIUM.replace("opus/48000/2", "opus"), "no_opus", AUDIO_LINE, "opus/48000/2"),
        (CHROMIUM.replace("opus/48000/2", "opus/x/2"), "bad_sdp", at("a=rtpmap:111"), "clock rate"),
        (CHROMIUM.replace("SAVPF 111 63", "SAVPF 128 63"), "bad_sdp", AUDIO_LINE, "payload type"),
        (CHROMIUM.replace("m=audio 55290", "m=audio 0"), "no_audio", 0, "only audio, application"),
        (CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "no_audio", AUDIO_LINE, "RTP/AVP"),
        (without(CHROMIUM, "a=ice-ufrag"), "bad_ice", AUDIO_LINE, "no a=ice-ufrag"),
        (without(CHROMIUM, "a=ice-pwd"), "bad_ice", AUDIO_LINE, "no a=ice-pwd"),
        (CHROMIUM.replace("U/1w", "U/1"), "bad_ice", at("a=ice-ufrag"), "4 to 256"),
        (CHROMIUM.replace("U/1w", "U:1w"), "bad_ice", at("a=ice-ufrag"), "4 to 256"),
        (CHROMIUM.replace("rYM9M7NedHEj1xRhdebJYpQ7", "short"), "bad_ice", at("a=ice-pwd"), "22"),
        (CHROMIUM.replace("t=0 0", "t=0 0\r\na=ice-lite"), "bad_ice", 0, "ICE-lite"),
        (without(CHROMIUM, "a=fingerprint"), "bad_fingerprint", AUDIO_LINE, "sha-256"),
        (CHROMIUM.replace("sha-256", "sha-1"), "bad_fingerprint", at("a=fingerprint"), "sha-256"),
        (CHROMIUM.replace("sha-256", "sha-224"), "bad_fingerprint", at("a=fingerprint"), "sha-256"),
        (CHROMIUM.replace("sha-256 1D:", "sha-256 "), "bad_fingerprint", at("a=finger"), "32 bytes"),
        (CHROMIUM.replace("sha-256 1D:", "sha-256 XX:"), "bad_fingerprint", at("a=finger"), "32"),
        (CHROMIUM.replace("actpass", "holdconn"), "bad_sdp", at("a=setup"), "holdconn"),
        (CHROMIUM.replace("a=mid:1", "a=mid:0"), "bad_sdp", at("a=mid:1"), "twice"),
        (CHROMIUM.replace("a=mid:1", "a=mid:a b"), "bad_sdp", at("a=mid:1"), "token"),
        (CHROMIUM.replace("sctp-port:5000", "sctp-port:x"), "bad_sdp", at("a=sctp-port"), "number"),
        (CHROMIUM.replace("sctp-port:5000", "sctp-port:0"), "bad_sdp", at("m=appl"), "sctp-port:0"),
        ("hello", "bad_sdp", 1, "'hello'"),
        (CHROMIUM + "a=x" * 30_000, "too_large", 0, "65536"),
    ],
)  # fmt: skip
def test_refusals_name_the_line_and_the_reason(text: str, code: str, line: int, says: str) -> None:
    error = refused(text)
    assert (error.code, error.line) == (code, line)
    assert says in error.message


@pytest.mark.parametrize("name", ["chromium-video", "aiortc-video", "chromium-data"])
def test_an_offer_without_audio_is_refused(name: str) -> None:
    error = refused((VECTORS / f"{name}.sdp").read_bytes().decode())
    assert error.code == "no_audio"
    assert "microphone" in str(error)


def test_an_error_does_not_repeat_the_password() -> None:
    assert "secret" not in str(refused(CHROMIUM.replace("rYM9M7NedHEj1xRhdebJYpQ7", "secret")))


def test_credentials_of_a_fragment() -> None:
    text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
    assert parse_credentials(text) == ("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")
    assert parse_credentials("a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n") is None
    with pytest.raises(OfferError) as caught:
        parse_credentials("a=ice-ufrag:EsAw\r\n")
    assert caught.value.code == "bad_ice"


LINES = CHROMIUM.splitlines(keepends=True)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutilated_offers_are_read_or_refused(data: st.DataObject) -> None:
    """Lines lost, doubled, moved, cut, and characters replaced: an Offer or an OfferError, nothing else."""
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["lose", "double", "move", "cut", "replace"]))
        if kind == "lose":
            del lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "move":
            lines.insert(data.draw(st.integers(0, len(lines) - 1)), lines.pop(at))
        elif kind == "cut":
            lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
        else:
            place = data.draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + data.draw(st.text(max_size=3)) + lines[at][place + 1 :]
    try:
        read = parse_offer("".join(lines))
    except OfferError as error:
        assert error.message
    else:
        assert sum(media.accepted for media in read.media) == 1 + (read.data is not None)
