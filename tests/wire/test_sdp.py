"""Session descriptions: the ufrag is found, candidates are replaced, everything else stays byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import WireError
from pyfastpath.wire import sdp

AIORTC = (
    "v=0\r\n"
    "o=- 3945823 3945823 IN IP4 0.0.0.0\r\n"
    "s=-\r\n"
    "t=0 0\r\n"
    "a=group:BUNDLE 0 1\r\n"
    "a=msid-semantic:WMS *\r\n"
    "m=audio 50123 UDP/TLS/RTP/SAVPF 96\r\n"
    "c=IN IP4 192.0.2.10\r\n"
    "a=sendrecv\r\n"
    "a=mid:0\r\n"
    "a=rtcp:9 IN IP4 0.0.0.0\r\n"
    "a=rtcp-mux\r\n"
    "a=rtpmap:96 opus/48000/2\r\n"
    "a=candidate:aaa 1 udp 2130706431 192.0.2.10 50123 typ host\r\n"
    "a=candidate:bbb 1 udp 1694498815 198.51.100.9 50123 typ srflx raddr 192.0.2.10 rport 50123\r\n"
    "a=end-of-candidates\r\n"
    "a=ice-ufrag:vR4q\r\n"
    "a=ice-pwd:8Ymv6dR3dVZJpLwnVYyyFd\r\n"
    "a=fingerprint:sha-256 AA:BB\r\n"
    "a=setup:active\r\n"
    "m=video 0 UDP/TLS/RTP/SAVPF 97\r\n"
    "c=IN IP4 0.0.0.0\r\n"
    "a=inactive\r\n"
    "a=mid:1\r\n"
    "a=candidate:aaa 1 udp 2130706431 192.0.2.10 50123 typ host\r\n"
)
RELAY = sdp.host_candidates([("203.0.113.7", 3478), ("2001:db8::7", 3478)])


def test_host_candidates_fall_in_priority_and_parse_back() -> None:
    assert [c.priority for c in RELAY] == [2130706431, 2130706175]
    assert RELAY[0].line() == "a=candidate:1 1 udp 2130706431 203.0.113.7 3478 typ host"
    assert tuple(map(sdp.parse_candidate, (c.line() for c in RELAY))) == RELAY


def test_the_ufrag_and_the_candidates_of_an_answer_are_found() -> None:
    (media,) = sdp.media_ice(AIORTC)
    assert (media.mid, media.ufrag) == ("0", "vR4q")
    assert [(c.address, c.port, c.kind) for c in media.candidates] == [
        ("192.0.2.10", 50123, "host"),
        ("198.51.100.9", 50123, "srflx"),
    ]


def test_an_answer_is_rewritten_exactly() -> None:
    want = AIORTC.replace("m=audio 50123", "m=audio 3478", 1)
    want = want.replace("c=IN IP4 192.0.2.10", "c=IN IP4 203.0.113.7", 1)
    want = want.replace("a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp:3478 IN IP4 203.0.113.7")
    old, rest = want.index("a=candidate:aaa"), want.index("a=ice-ufrag")
    new = "".join(c.line() + "\r\n" for c in RELAY) + "a=end-of-candidates\r\n"
    want = want[:old] + new + want[rest:]
    want = want.removesuffix("a=candidate:aaa 1 udp 2130706431 192.0.2.10 50123 typ host\r\n")
    assert sdp.replace_candidates(AIORTC, RELAY) == want


def test_an_ipv6_relay_changes_the_family_of_the_default_destination() -> None:
    rewritten = sdp.replace_candidates(AIORTC, RELAY[1:])
    assert "c=IN IP6 2001:db8::7\r\n" in rewritten
    assert "192.0.2.10" not in rewritten


def test_candidates_are_added_where_there_were_none_and_a_missing_last_line_end_is_made() -> None:
    trickle = "v=0\nm=audio 9 UDP/TLS/RTP/SAVPF 96\nc=IN IP4 0.0.0.0\na=ice-ufrag:abcd\na=mid:0"
    rewritten = sdp.replace_candidates(trickle, RELAY[:1])
    assert rewritten.endswith(f"a=mid:0\n{RELAY[0].line()}\na=end-of-candidates\n")
    assert "\r" not in rewritten
    assert rewritten.startswith("v=0\nm=audio 3478 UDP/TLS/RTP/SAVPF 96\nc=IN IP4 203.0.113.7\n")


def test_session_level_ufrag_and_connection_line_count() -> None:
    text = "v=0\r\nc=IN IP4 192.0.2.1\r\na=ice-ufrag:sess\r\nm=audio 9 X 0\r\na=mid:a\r\n"
    assert [m.ufrag for m in sdp.media_ice(text)] == ["sess"]
    assert "c=IN IP4 203.0.113.7\r\n" in sdp.replace_candidates(text, RELAY)


def test_bundle_repeats_one_ufrag_but_two_transports_are_two_routes() -> None:
    section = (
        "m=audio 9 X 0\r\na=mid:{0}\r\na=ice-ufrag:{1}\r\na=candidate:1 1 udp 5 192.0.2.1 {2} typ host\r\n"
    )
    bundled = "v=0\r\n" + section.format("a", "same", 1000) + section.format("b", "same", 1000)
    apart = "v=0\r\n" + section.format("a", "one1", 1000) + section.format("b", "two2", 2000)
    assert [(m.ufrag, len(m.candidates)) for m in sdp.media_ice(bundled)] == [("same", 1)]
    assert [(m.ufrag, m.candidates[0].port) for m in sdp.media_ice(apart)] == [("one1", 1000), ("two2", 2000)]


def test_a_bundle_only_section_with_port_0_is_not_rejected() -> None:
    text = "v=0\r\nm=audio 0 X 0\r\na=bundle-only\r\na=ice-ufrag:abcd\r\n"
    assert sdp.media_ice(text)[0].ufrag == "abcd"
    assert "m=audio 0 X 0\r\n" in sdp.replace_candidates(text, RELAY)


def test_stripping_an_offer_leaves_no_candidate_and_touches_nothing_else() -> None:
    stripped = sdp.strip_candidates(AIORTC)
    assert stripped.splitlines() == [line for line in AIORTC.splitlines() if "candidate" not in line]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must begin with v=0"),
        ('{"sdp": "v=0"}', "must begin with v=0"),
        ("v=0\r\n", "accepts no media section"),
        ("v=0\r\nm=audio 0 X 0\r\na=ice-ufrag:abcd\r\n", "accepts no media section"),
        ("v=0\r\nm=audio 9 X 0\r\n", "no a=ice-ufrag"),
        ("v=0\r\nm=audio 9 X 0\r\na=ice-ufrag:a b\r\n", "not 4 to 256 characters"),
        ("v=0\r\nm=audio 9 X 0\r\na=ice-ufrag:abc\r\n", "not 4 to 256 characters"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_reason(text: str, says: str) -> None:
    with pytest.raises(WireError, match=says):
        sdp.media_ice(text)


@pytest.mark.parametrize(
    "line",
    [
        "a=candidate:",
        "a=candidate:1 1 udp 1 192.0.2.1 9",
        "a=candidate:1 x udp 1 192.0.2.1 9 typ host",
        "a=candidate:1 1 udp 1 192.0.2.1 9 kind host",
        "a=fingerprint:sha-256 AA",
    ],
)
def test_a_broken_candidate_is_none(line: str) -> None:
    assert sdp.parse_candidate(line) is None


LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40), max_size=30)
OURS = ("a=candidate:", "a=end-of-candidates", "a=remote-candidates:", "c=", "a=rtcp:", "m=")


@given(lines=LINES, end=st.sampled_from(["\r\n", "\n"]))
def test_every_other_line_stays_byte_for_byte(lines: list[str], end: str) -> None:
    body = end.join(["v=0", *lines, "m=audio 9 X 0", "a=ice-ufrag:abcd", *lines, ""])
    rewritten = sdp.replace_candidates(body, RELAY)

    def others(text: str) -> list[str]:
        return [line for line in text.split("\n") if not line.startswith(OURS)]

    assert others(rewritten) == others(body)
    assert rewritten.count(RELAY[0].line() + end) >= 1


def test_aiortc_reads_the_rewritten_answer() -> None:
    aiortc_sdp = pytest.importorskip("aiortc.sdp", reason="the transceiver extra is not installed")
    text = AIORTC.replace("a=fingerprint:sha-256 AA:BB", "a=fingerprint:sha-256 " + ":".join(["AB"] * 32))
    parsed = aiortc_sdp.SessionDescription.parse(sdp.replace_candidates(text, RELAY))
    audio = parsed.media[0]
    assert (audio.host, audio.port) == ("203.0.113.7", 3478)
    assert [(c.ip, c.port) for c in audio.ice_candidates] == [("203.0.113.7", 3478), ("2001:db8::7", 3478)]
    assert audio.ice_candidates_complete


@pytest.mark.parametrize(
    "line", ["m=", "m=audio", "m=audio 9", "m=audio 9 RTP/SAVPF", "m=audio x RTP/SAVPF 0"]
)
def test_a_media_line_that_is_cut_off_is_refused(line: str) -> None:
    """Fuzzing found it: replace_candidates failed on it."""
    text = f"v=0\r\n{line}\r\na=ice-ufrag:abcd\r\n"
    with pytest.raises(WireError, match="is not m=kind port protocol formats: pass a WebRTC answer"):
        sdp.media_ice(text)
    with pytest.raises(WireError, match="is not m=kind"):
        sdp.replace_candidates(text, ())
