"""RFC 9725's session resource: which PATCH trickles, which restarts, and whose entity tag it holds."""

import pytest

from pyfastpath.signalling.callid import CallName
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.whip import FRAGMENT, EntityTags, parse_patch

KEY = bytes(range(32))
NAME = CallName(1, 2, 3, 4)
# RFC 9725, section 4.3.3: what a client sends to restart ICE.
RESTART = (
    b"a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    b"a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n"
    b"a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n"
)


def refused(content_type: str, if_match: str | None, body: bytes) -> CallError:
    with pytest.raises(CallError) as error:
        parse_patch(content_type, if_match, body)
    return error.value


def test_a_tag_is_quoted_and_of_one_generation() -> None:
    tags = EntityTags(KEY)
    first, second = tags.build(NAME, 4), tags.build(NAME, 5)
    assert first != second
    assert first[0] == first[-1] == '"'
    assert '"' not in first[1:-1]


def test_a_tag_matches_its_call_only() -> None:
    tags = EntityTags(KEY)
    mine, other = tags.build(NAME, 4), tags.build(CallName(1, 2, 3, 5), 4)
    for good in (mine, tags.build(NAME, 77), f"{other}, {mine}", "*", " * ", f"W/{mine}"):
        assert tags.matches(good, NAME), good
    for wrong in (
        other,
        mine[:-2] + '"',
        mine.strip('"'),
        '""',
        "",
        '"*"',
        EntityTags(KEY[::-1]).build(NAME, 4),
    ):
        assert not tags.matches(wrong, NAME), wrong


def test_a_fragment_with_a_star_restarts() -> None:
    patch = parse_patch(f"{FRAGMENT}; charset=utf-8", "*", RESTART)
    assert (patch.kind, patch.content_type) == ("restart", FRAGMENT)
    assert patch.text == RESTART.decode()


def test_a_fragment_with_a_tag_trickles() -> None:
    assert parse_patch(FRAGMENT, '"tag"', RESTART).kind == "trickle"
    end = b"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=end-of-candidates\r\n"
    assert parse_patch(FRAGMENT, '"tag"', end).kind == "trickle"


def test_an_offer_restarts_with_or_without_a_tag() -> None:
    for if_match in (None, "*", '"tag"'):
        patch = parse_patch("application/sdp", if_match, b"v=0\r\n")
        assert (patch.kind, patch.content_type) == ("restart", "application/sdp")


def test_what_is_refused() -> None:
    assert refused(FRAGMENT, None, RESTART).status == 428
    assert refused("application/json", "*", b"{}").status == 415
    assert refused("", "*", RESTART).status == 415
    no_credentials = refused(FRAGMENT, "*", b"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=end-of-candidates\r\n")
    assert (no_credentials.status, no_credentials.code) == (400, "bad_sdp")
    for body in (b"", b"hello", b"a=ice-ufrag:a\r\n", b"a=ice-ufrag:ysXw\r\na=ice-pwd:short\r\n", b"\xff"):
        assert refused(FRAGMENT, "*", body).status == 400, body
    short = refused(FRAGMENT, "*", b"a=mid:0\r\na=ice-ufrag:ysXw\r\na=ice-pwd:short\r\n")
    assert short.line == 3
