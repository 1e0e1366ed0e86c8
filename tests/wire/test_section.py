"""Lines of a session description: numbered, by section, refused with the number of the line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfastpath.wire.section import OFFER_BYTES_MAX, OfferError, integer, numbered_lines, sections_of

TEXT = (
    "v=0\r\n"
    "s=-\r\n"
    "a=group:BUNDLE 0 1\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n"
    "a=mid:0\r\n"
    "a=rtcp-mux\r\n"
    "a=ssrc:1 cname:x\r\n"
    "a=ssrc:2 cname:x\r\n"
    "m=video 0 UDP/TLS/RTP/SAVPF 96\r\n"
    "a=bundle-only\r\n"
    "m=text 0/2 RTP/AVP t140\r\n"
)


def test_sections_know_their_lines() -> None:
    session, audio, video, text = sections_of(TEXT)
    assert (session.line, audio.line, video.line, text.line) == (1, 4, 9, 11)
    assert (audio.kind, audio.port, audio.protocol) == ("audio", 9, "UDP/TLS/RTP/SAVPF")
    assert audio.formats == ("111", "63")
    assert audio.mid == "0"
    assert video.mid == ""
    assert [*audio.values("ssrc")] == [(7, "1 cname:x"), (8, "2 cname:x")]
    assert session.value("group") == (3, "BUNDLE 0 1")
    assert session.value("mid") is None
    assert audio.has("rtcp-mux")
    assert not video.has("rtcp-mux")


def test_port_zero_is_a_refusal_unless_the_section_is_bundle_only() -> None:
    _, audio, video, text = sections_of(TEXT)
    assert (audio.offered, video.offered, text.offered) == (True, True, False)


def test_lines_may_end_by_lf_and_the_text_by_empty_lines() -> None:
    assert sections_of(TEXT.replace("\r\n", "\n") + "\n\r\n \n") == sections_of(TEXT)


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("", 1, "bad_sdp"),
        ("s=-\r\nv=0\r\n", 1, "bad_sdp"),
        ("v=1\r\n", 1, "bad_sdp"),
        ("v=0\r\ns=-\r\n\r\na=x\r\n", 3, "bad_sdp"),
        ("v=0\r\nhello\r\n", 2, "bad_sdp"),
        ("v=0\r\nA=x\r\n", 2, "bad_sdp"),
        ("v=0\r\na=x\rb\r\n", 2, "bad_sdp"),
        ("v=0\r\na=x\x00\r\n", 2, "bad_sdp"),
        ("v=0\r\nm=audio\r\n", 2, "bad_sdp"),
        ("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF\r\n", 2, "bad_sdp"),
        ("v=0\r\nm=audio 65536 UDP/TLS/RTP/SAVPF 0\r\n", 2, "bad_sdp"),
        ("v=0\r\nm=audio -1 UDP/TLS/RTP/SAVPF 0\r\n", 2, "bad_sdp"),
        ("v=0\r\nm=audio ٣ UDP/TLS/RTP/SAVPF 0\r\n", 2, "bad_sdp"),
        ("v=0\r\n" + "m=audio 9 RTP/AVP 0\r\n" * 65, 66, "too_large"),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(text: str, line: int, code: str) -> None:
    with pytest.raises(OfferError) as refused:
        sections_of(text)
    assert (refused.value.line, refused.value.code) == (line, code)
    assert str(refused.value).startswith(f"line {line}: ") is bool(line)


def test_size_is_counted_in_bytes() -> None:
    filling = OFFER_BYTES_MAX - len("v=0\ns=")
    assert len(numbered_lines("v=0\ns=" + "x" * filling)) == 2
    for text in ("v=0\ns=" + "x" * (filling + 1), "v=0\ns=" + "é" * (filling // 2 + 1)):
        with pytest.raises(OfferError, match="65536 are allowed") as refused:
            numbered_lines(text)
        assert (refused.value.code, refused.value.line) == ("too_large", 0)


def test_numbers_have_at_most_ten_digits() -> None:
    assert integer("0123456789") == 123456789
    for text in ("", "-1", "+1", " 1", "1e3", "٣", "12345678901"):
        assert integer(text) is None


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, "v=0\r\n" + text):
        try:
            sections = sections_of(candidate)
        except OfferError as refused:
            assert refused.code == "bad_sdp"
        else:
            assert sum(len(section.lines) for section in sections) >= 1
