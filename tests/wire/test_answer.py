"""The answer: what is accepted and what is not, and real clients that take it."""

from pathlib import Path

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack

from pyfastpath.wire.answer import build_answer, build_fragment, parse_fragment, setup_for
from pyfastpath.wire.offer import parse_offer
from pyfastpath.wire.sdp import Candidate, host_candidates, media_ice
from pyfastpath.wire.section import sections_of
from tests.support.browser import browser_page, write_tone
from tests.support.require import require

VECTORS = Path(__file__).parent.parent / "vectors" / "sdp"
UFRAG = "JZPEZz1QHaAakSfP7nGpci"
PWD = "ysXw9vZtqvkMqQbNEWYhaA3j"
INGRESS = host_candidates([("203.0.113.7", 3478), ("2001:db8::7", 3478)])


def text_of(name: str) -> str:
    return (VECTORS / f"{name}.sdp").read_bytes().decode()


def answer(sdp: str, candidates: tuple[Candidate, ...] = INGRESS, version: int = 1) -> str:
    offer = parse_offer(sdp)
    return build_answer(
        offer,
        ufrag=UFRAG,
        pwd=PWD,
        fingerprint=("sha-256", bytes(range(32))),
        setup=setup_for(offer.setup),
        candidates=candidates,
        ssrc=1_234_567_890,
        session_id=(1 << 63) - 1,
        version=version,
    )


def test_the_whole_answer_to_chromium() -> None:
    transport = (
        f"a=ice-ufrag:{UFRAG}\r\n"
        f"a=ice-pwd:{PWD}\r\n"
        f"a=fingerprint:sha-256 {bytes(range(32)).hex(':').upper()}\r\n"
        "a=setup:passive\r\n"
    )
    assert answer(text_of("chromium-audio-data")) == (
        "v=0\r\n"
        "o=- 9223372036854775807 1 IN IP4 127.0.0.1\r\n"
        "s=-\r\n"
        "t=0 0\r\n"
        "a=ice-lite\r\n"
        "a=group:BUNDLE 0 1\r\n"
        "a=msid-semantic: WMS *\r\n"
        "m=audio 3478 UDP/TLS/RTP/SAVPF 111 63 110 126\r\n"
        "c=IN IP4 203.0.113.7\r\n"
        f"{transport}"
        "a=mid:0\r\n"
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
        "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n"
        "a=sendrecv\r\n"
        "a=msid:fastpath agent\r\n"
        "a=rtcp-mux\r\n"
        "a=rtpmap:111 opus/48000/2\r\n"
        "a=fmtp:111 useinbandfec=1;minptime=10\r\n"
        "a=rtcp-fb:111 transport-cc\r\n"
        "a=rtpmap:63 red/48000/2\r\n"
        "a=fmtp:63 111/111\r\n"
        "a=rtpmap:110 telephone-event/48000\r\n"
        "a=fmtp:110 0-15\r\n"
        "a=rtpmap:126 telephone-event/8000\r\n"
        "a=fmtp:126 0-15\r\n"
        "a=ssrc:1234567890 cname:fastpath\r\n"
        "a=ssrc:1234567890 msid:fastpath agent\r\n"
        "a=candidate:1 1 udp 2130706431 203.0.113.7 3478 typ host\r\n"
        "a=candidate:2 1 udp 2130706175 2001:db8::7 3478 typ host\r\n"
        "a=end-of-candidates\r\n"
        "m=application 3478 UDP/DTLS/SCTP webrtc-datachannel\r\n"
        "c=IN IP4 203.0.113.7\r\n"
        f"{transport}"
        "a=mid:1\r\n"
        "a=sctp-port:5000\r\n"
        "a=max-message-size:262144\r\n"
    )


WITH_AUDIO = sorted(path.stem for path in VECTORS.glob("*.sdp") if b"m=audio" in path.read_bytes())


@pytest.mark.parametrize("name", WITH_AUDIO)
def test_every_section_of_the_offer_is_answered_in_its_place(name: str) -> None:
    sdp = text_of(name)
    offer = parse_offer(sdp)
    session, *sections = sections_of(answer(sdp))
    assert [(one.kind, one.mid, one.protocol) for one in sections] == [
        (one.kind, one.mid, one.protocol) for one in offer.media
    ]
    accepted = [one.mid for one in offer.media if one.accepted]
    assert session.value("group") is not None
    assert session.value("group")[1] == " ".join(["BUNDLE", *accepted])
    for section, offered in zip(sections, offer.media, strict=True):
        assert (section.port != 0) is offered.accepted
        assert [*section.values("candidate")] == [] or section.mid == accepted[0]
        assert set(section.formats) <= set(offered.formats)
    (ice,) = media_ice(answer(sdp))
    assert (ice.ufrag, ice.candidates) == (UFRAG, INGRESS)


@pytest.mark.parametrize(
    ("name", "direction", "sends"),
    [
        ("chromium-audio", "sendrecv", True),
        ("chromium-recvonly", "sendonly", True),
        ("chromium-sendonly", "recvonly", False),
    ],
)
def test_directions_are_mirrored_and_a_stream_is_named_only_if_we_send(
    name: str, direction: str, sends: bool
) -> None:
    _, audio = sections_of(answer(text_of(name)))
    assert audio.has(direction)
    assert (audio.value("msid") is not None) is sends
    assert (audio.value("ssrc") is not None) is sends


def test_what_was_not_offered_is_not_answered() -> None:
    _, audio, _ = sections_of(answer(text_of("aiortc-audio-data")))
    assert audio.formats == ("96",)
    assert [*audio.values("rtcp-fb")] == []
    assert len([*audio.values("extmap")]) == 2
    without_feedback = text_of("chromium-audio").replace("a=rtcp-fb:111 transport-cc\r\n", "")
    assert "transport-wide-cc" not in answer(without_feedback)
    with_nack = text_of("chromium-audio").replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack")
    assert "a=rtcp-fb:111 nack\r\n" in answer(with_nack)


def test_the_order_of_formats_is_the_clients() -> None:
    _, audio = sections_of(answer(text_of("chromium-red-first")))
    assert audio.formats[:2] == ("63", "111")


def test_our_role_in_dtls() -> None:
    assert [setup_for("actpass"), setup_for("active"), setup_for("passive")] == [
        "passive",
        "passive",
        "active",
    ]


def test_without_candidates_the_default_destination_is_none() -> None:
    _, audio = sections_of(answer(text_of("chromium-audio"), candidates=()))
    assert audio.port == 9
    assert any(line == "c=IN IP4 0.0.0.0" for _, line in audio.lines)
    six = host_candidates([("2001:db8::7", 3478)])
    assert "c=IN IP6 2001:db8::7\r\n" in answer(text_of("chromium-audio"), candidates=six)


def test_a_later_answer_of_the_session_has_a_later_version() -> None:
    assert "o=- 9223372036854775807 2 IN" in answer(text_of("chromium-audio"), version=2)


def test_fragments() -> None:
    offer = parse_offer(text_of("chromium-audio-data"))
    text = build_fragment(offer, ufrag=UFRAG, pwd=PWD, candidates=INGRESS)
    assert parse_fragment(text) == (UFRAG, PWD)
    assert text.startswith(
        "a=ice-lite\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    )
    assert text.endswith(INGRESS[1].line() + "\r\na=end-of-candidates\r\n")
    assert parse_fragment("a=mid:0\r\na=end-of-candidates\r\n") is None


@pytest.mark.parametrize("data", [False, True])
async def test_aiortc_takes_it(data: bool) -> None:
    client = RTCPeerConnection()
    try:
        client.addTrack(AudioStreamTrack())
        if data:
            client.createDataChannel("oai-events")
        await client.setLocalDescription(await client.createOffer())
        ours = answer(client.localDescription.sdp, host_candidates([("127.0.0.1", 9)]))
        await client.setRemoteDescription(RTCSessionDescription(ours, "answer"))
        assert client.signalingState == "stable"
        assert client.getTransceivers()[0].currentDirection == "sendrecv"
    finally:
        await client.close()


OFFER = """async ([audio, video, data, red, policy]) => {
  const call = window.call = new RTCPeerConnection({ bundlePolicy: policy });
  const line = audio.map((direction) => call.addTransceiver("audio", { direction }))[0];
  if (red) {
    const rank = (codec) => (codec.mimeType === "audio/red" ? 0 : 1);
    const codecs = RTCRtpSender.getCapabilities("audio").codecs;
    line.setCodecPreferences(codecs.sort((a, b) => rank(a) - rank(b)));
  }
  if (video) call.addTransceiver("video");
  if (data) call.createDataChannel("oai-events");
  await call.setLocalDescription();
  return call.localDescription.sdp;
}"""
VIDEO_FIRST = """async () => {
  const call = window.call = new RTCPeerConnection();
  call.addTransceiver("video");
  call.addTransceiver("audio");
  await call.setLocalDescription();
  return call.localDescription.sdp;
}"""
ANSWER = """async (sdp) => {
  const call = window.call;
  await call.setRemoteDescription({ type: "answer", sdp });
  const audio = call.getTransceivers().find((line) => line.currentDirection);
  const codecs = (audio.sender.getParameters().codecs ?? []).map((codec) => codec.mimeType);
  return { state: call.signalingState, direction: audio.currentDirection, codecs };
}"""


def test_chromium_takes_it(tmp_path: Path) -> None:
    """Audio alone, with data, with video (refused), two audios (one refused), RED first, video first."""
    shapes = [
        (["sendrecv"], False, False, False, "balanced"),
        (["sendrecv"], False, True, False, "balanced"),
        (["sendrecv"], True, True, False, "max-bundle"),
        (["sendrecv"], True, True, False, "max-compat"),
        (["sendrecv", "sendrecv"], False, True, False, "balanced"),
        (["recvonly"], False, False, False, "balanced"),
        (["sendonly"], False, False, False, "balanced"),
        (["sendrecv"], False, False, True, "balanced"),
    ]
    with browser_page(require("chromium"), write_tone(tmp_path / "microphone.wav", 440)) as page:
        for shape in shapes:
            said = page.evaluate(ANSWER, answer(page.evaluate(OFFER, list(shape))))
            assert (said["state"], said["direction"]) == ("stable", shape[0][0])
            if shape[0][0] != "recvonly":
                assert said["codecs"][0] == ("audio/red" if shape[3] else "audio/opus")
        said = page.evaluate(ANSWER, answer(page.evaluate(VIDEO_FIRST)))
        assert (said["state"], said["direction"]) == ("stable", "sendrecv")
