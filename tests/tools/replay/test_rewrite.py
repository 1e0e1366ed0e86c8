"""A captured STUN message made a session's: what changes, what stays, and that it is protected again."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.tools.pcap import read_pcap
from pyfastpath.tools.replay.rewrite import MASK_MAX, Identity, Template
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from pyfastpath.wire.demux import Kind, demux
from tests.vectors import stun as vectors

PCAPS = Path(__file__).parents[2] / "pcaps"
SAME = Identity({}, 0)
OWN = Identity({b"serv": b"aLongerOne"}, 0x0102030405060708090A0B0C)
PASSWORD = b"the password of the server"


def captured(name: str) -> Iterator[bytes]:
    for item in read_pcap(PCAPS / f"{name}.pcap").datagrams:
        if demux(item.payload) == Kind.STUN:
            yield item.payload


def passwords(name: str) -> list[bytes]:
    lines = (PCAPS / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line)[key].encode() for line in lines for key in ("server_pwd", "client_pwd")]


@pytest.mark.parametrize("name", ["chromium-dtls12", "chromium-dtls13-sped", "wrtc-12-clients"])
@pytest.mark.parametrize("known", [True, False], ids=["signed", "kept"])
def test_a_session_that_changes_nothing_gives_the_capture(name: str, known: bool) -> None:
    keys = passwords(name) if known else []
    for payload in captured(name):
        template = Template(payload, keys)
        assert template.build(SAME) == payload
        assert template.signed is known


@pytest.mark.parametrize("name", ["chromium-dtls12", "chromium-dtls13-sped", "wrtc-12-clients"])
def test_every_message_of_a_session_is_well_formed_and_protected(name: str) -> None:
    keys = passwords(name)
    for payload in captured(name):
        before = stun.parse_message(payload)
        ufrag = before.ufrag or b"none"
        identity = Identity({ufrag: b"fresh/ufrag+of+the+session"}, MASK_MAX - 1)
        built = Template(payload, keys).build(identity)
        after = stun.parse_message(built)
        assert stun.fingerprint_holds(built)
        assert any(stun.integrity_holds(built, key) for key in keys)
        assert after.transaction == identity.transaction(before.transaction) != before.transaction
        changed = {stun.Attribute.USERNAME, stun.Attribute.MESSAGE_INTEGRITY}
        assert [item for item in after.attributes if item[0] not in changed] == [
            item for item in before.attributes if item[0] not in changed
        ]
        if before.ufrag:
            assert after.ufrag == b"fresh/ufrag+of+the+session"


def test_both_directions_of_a_request() -> None:
    up = stun.build_binding_request(bytes(12), b"serv:clnt")
    down = stun.build_binding_request(bytes(12), b"clnt:serv")
    assert stun.parse_message(Template(up).build(OWN)).value(6) == b"aLongerOne:clnt"
    assert stun.parse_message(Template(down).build(OWN)).value(6) == b"clnt:aLongerOne"


def test_without_the_password_the_old_integrity_stays_and_the_fingerprint_is_right() -> None:
    payload = stun.build_binding_request(bytes(12), b"serv:clnt", key=PASSWORD)
    template = Template(payload, [b"some other password"])
    built = template.build(OWN)
    assert template.signed is False
    assert stun.fingerprint_holds(built)
    mine = stun.Attribute.MESSAGE_INTEGRITY
    assert stun.parse_message(built).value(mine) == stun.parse_message(payload).value(mine)
    assert not stun.integrity_holds(built, PASSWORD)


def test_no_protection_is_invented() -> None:
    payload = stun.build_binding_request(bytes(12), b"serv:clnt", fingerprint=False)
    template = Template(payload, [PASSWORD])
    built = stun.parse_message(template.build(OWN))
    assert template.signed is None
    assert not built.has_fingerprint
    assert built.value(stun.Attribute.MESSAGE_INTEGRITY) is None


@pytest.mark.parametrize("text", ["192.0.2.1:32853", "[2001:db8::7]:1"])
def test_the_mapped_address_stays_the_same_address(text: str) -> None:
    payload = stun.build_binding_success(bytes(range(12)), Endpoint.parse(text), key=PASSWORD)
    built = Template(payload, [PASSWORD]).build(OWN)
    assert stun.mapped_address(stun.parse_message(built)) == Endpoint.parse(text)
    assert stun.integrity_holds(built, PASSWORD)


@pytest.mark.parametrize("sample", [vectors.REQUEST, vectors.RESPONSE_IPV4, vectors.RESPONSE_IPV6])
def test_the_samples_of_rfc5769(sample: bytes) -> None:
    """Their padding is of spaces, which integrity covers: it must stay."""
    template = Template(sample, [vectors.PASSWORD])
    assert template.signed
    assert stun.integrity_holds(template.build(OWN), vectors.PASSWORD)


@pytest.mark.parametrize(("kind", "name", "size"), [(0x001C, "sha256", 32), (0xC060, "sha1", 4)])
def test_other_integrities(kind: int, name: str, size: int) -> None:
    """SHA-256, and the four bytes of libwebrtc's pings."""
    import hmac

    def sealed(payload: bytes) -> bytes:
        length = (len(payload) - 20 + 4 + size).to_bytes(2, "big")
        payload = payload[:2] + length + payload[4:]
        value = hmac.digest(PASSWORD, payload, name)[:size]
        return payload + kind.to_bytes(2, "big") + size.to_bytes(2, "big") + value

    plain = stun.build_message(0x0200, bytes(12), fingerprint=False)
    template = Template(sealed(plain), [b"wrong", PASSWORD])
    assert template.signed
    mask = OWN.mask.to_bytes(12, "big")
    assert template.build(OWN) == sealed(stun.build_message(0x0200, mask, fingerprint=False))


def test_what_stands_behind_the_fingerprint_stays() -> None:
    payload = stun.build_binding_request(bytes(12), b"serv:clnt") + b"\x80\x22\xff\xff"
    payload = payload[:2] + (len(payload) - 20).to_bytes(2, "big") + payload[4:]
    built = Template(payload).build(SAME)
    assert built.endswith(b"\x80\x22\xff\xff")
    assert len(built) == len(payload)


@given(
    transaction=st.binary(min_size=12, max_size=12),
    mask=st.integers(0, MASK_MAX - 1),
    attributes=st.lists(st.tuples(st.integers(0x8030, 0xC000), st.binary(max_size=40)), max_size=6),
    key=st.none() | st.binary(min_size=1, max_size=30),
)
def test_any_message_can_be_made_anothers_and_back(
    transaction: bytes, mask: int, attributes: list[tuple[int, bytes]], key: bytes | None
) -> None:
    payload = stun.build_message(stun.BINDING_SUCCESS, transaction, attributes, key=key)
    keys = [key] if key else []
    built = Template(payload, keys).build(Identity({}, mask))
    assert stun.fingerprint_holds(built)
    assert key is None or stun.integrity_holds(built, key)
    assert Template(built, keys).build(Identity({}, mask)) == payload
    assert int.from_bytes(built[-4:], "big") == zlib.crc32(built[:-8]) ^ 0x5354554E
