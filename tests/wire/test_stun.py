"""STUN in plain Python: RFC 5769's samples, what is built can be read, each defect has its refusal."""

import hashlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import WireError
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from tests.vectors import stun as vectors

TRANSACTIONS = st.binary(min_size=12, max_size=12)
UFRAGS = st.from_regex(r"\A[A-Za-z0-9+/]{4,64}\Z")
ENDPOINTS = st.builds(
    Endpoint,
    st.one_of(
        st.integers(0, 2**32 - 1).map(IPv4Address),
        st.integers(0, 2**128 - 1).map(IPv6Address).filter(lambda address: not address.ipv4_mapped),
    ),
    st.integers(0, 65535),
)


def test_rfc5769_request() -> None:
    message = stun.parse_message(vectors.REQUEST)
    assert message.type == stun.BINDING_REQUEST
    assert message.transaction == vectors.TRANSACTION
    assert message.ufrag == b"evtj"
    assert message.value(stun.Attribute.SOFTWARE) == b"STUN test client"
    assert message.value(stun.Attribute.PRIORITY) == bytes.fromhex("6e0001ff")
    assert message.has_fingerprint


@pytest.mark.parametrize(
    ("sample", "address"),
    [
        (vectors.RESPONSE_IPV4, "192.0.2.1:32853"),
        (vectors.RESPONSE_IPV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ],
)
def test_rfc5769_responses(sample: bytes, address: str) -> None:
    message = stun.parse_message(sample)
    assert message.type == stun.BINDING_SUCCESS
    assert stun.mapped_address(message) == Endpoint.parse(address)


@pytest.mark.parametrize("sample", [vectors.REQUEST, vectors.RESPONSE_IPV4, vectors.RESPONSE_IPV6])
def test_rfc5769_integrity_and_fingerprint(sample: bytes) -> None:
    assert stun.integrity_holds(sample, vectors.PASSWORD)
    assert stun.fingerprint_holds(sample)
    assert not stun.integrity_holds(sample, vectors.PASSWORD + b"x")


def test_rfc5769_long_term_request_is_intact_but_no_ice_check() -> None:
    key = hashlib.md5("\u30de\u30c8\u30ea\u30c3\u30af\u30b9:example.org:TheMatrIX".encode()).digest()
    assert stun.integrity_holds(vectors.REQUEST_LONG_TERM, key)
    with pytest.raises(WireError, match="USERNAME"):
        stun.parse_message(vectors.REQUEST_LONG_TERM)


@pytest.mark.parametrize("name", vectors.GOOD)
def test_good(name: str) -> None:
    message = stun.parse_message(vectors.GOOD[name])
    assert message.type != stun.BINDING_REQUEST or message.ufrag in {b"serv", b"x" * 256}


@pytest.mark.parametrize("name", vectors.BAD)
def test_each_defect_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        stun.parse_message(vectors.BAD[name])


def test_any_change_of_a_byte_breaks_the_fingerprint() -> None:
    """All but the padding, which RFC 8489 leaves open, are in the CRC: so is it."""
    for at in range(8, len(vectors.REQUEST)):
        changed = bytearray(vectors.REQUEST)
        changed[at] ^= 1
        try:
            stun.parse_message(bytes(changed))
        except WireError:
            continue
        if at not in range(len(changed) - 8, len(changed) - 6):  # its own type: then there is none
            assert not stun.fingerprint_holds(bytes(changed)), at


def test_a_fingerprint_that_is_not_last_does_not_hold() -> None:
    trailing = vectors.attribute(0x8022, b"more")
    inside = stun.build_binding_request(vectors.TRANSACTION, b"serv:clnt")
    length = len(inside) - 20 + len(trailing)
    assert not stun.fingerprint_holds(inside[:2] + length.to_bytes(2, "big") + inside[4:] + trailing)


@given(TRANSACTIONS, UFRAGS, UFRAGS, st.binary(min_size=1, max_size=40), st.booleans())
def test_a_built_request_is_read_back(
    transaction: bytes, server: str, client: str, key: bytes, fingerprint: bool
) -> None:
    username = f"{server}:{client}".encode()
    priority = (stun.Attribute.PRIORITY, bytes(4))
    datagram = stun.build_binding_request(
        transaction, username, key=key, attributes=[priority], fingerprint=fingerprint
    )
    message = stun.parse_message(datagram)
    assert (message.type, message.transaction) == (stun.BINDING_REQUEST, transaction)
    assert message.ufrag == server.encode()
    assert message.attributes[:2] == ((stun.Attribute.USERNAME, username), priority)
    assert message.has_fingerprint == fingerprint
    assert stun.integrity_holds(datagram, key)
    assert stun.fingerprint_holds(datagram)


@given(TRANSACTIONS, ENDPOINTS)
def test_a_built_response_is_read_back(transaction: bytes, mapped: Endpoint) -> None:
    datagram = stun.build_binding_success(transaction, mapped, key=b"password")
    message = stun.parse_message(datagram)
    assert message.type == stun.BINDING_SUCCESS
    assert stun.mapped_address(message) == mapped
    assert stun.integrity_holds(datagram, b"password")


def test_no_mapped_address_and_a_malformed_one() -> None:
    assert stun.mapped_address(stun.Message(stun.BINDING_SUCCESS, bytes(12))) is None
    for value in (b"", b"\0\1\0\0\1\2\3", b"\0\2\0\0\1\2\3\4", b"\0\3\0\0\1\2\3\4"):
        message = stun.Message(stun.BINDING_SUCCESS, bytes(12), ((stun.Attribute.XOR_MAPPED_ADDRESS, value),))
        with pytest.raises(WireError, match="XOR-MAPPED-ADDRESS"):
            stun.mapped_address(message)


@pytest.mark.parametrize(
    ("code", "unknown"), [(400, ()), (401, ()), (420, (0x0002, 0x7FFF)), (487, ()), (300, ()), (699, ())]
)
def test_a_built_refusal_is_read_back(code: int, unknown: tuple[int, ...]) -> None:
    datagram = stun.build_binding_error(bytes(12), code, "No", key=b"password", unknown=unknown)
    message = stun.parse_message(datagram)
    assert message.type == stun.BINDING_ERROR
    assert stun.error_code(message) == code
    assert message.value(stun.Attribute.ERROR_CODE) == bytes([0, 0, code // 100, code % 100]) + b"No"
    types = b"".join(kind.to_bytes(2, "big") for kind in unknown)
    assert message.value(stun.Attribute.UNKNOWN_ATTRIBUTES) == (types or None)
    assert stun.integrity_holds(datagram, b"password")
    assert stun.fingerprint_holds(datagram)


def test_an_error_code_that_is_none() -> None:
    assert stun.error_code(stun.Message(stun.BINDING_ERROR, bytes(12))) is None
    for value in (b"", b"\0\0\4", b"\0\0\2\1", b"\0\0\7\1", b"\0\0\4\x64"):
        message = stun.Message(stun.BINDING_ERROR, bytes(12), ((stun.Attribute.ERROR_CODE, value),))
        assert stun.error_code(message) is None, value


def test_only_what_must_be_understood_is_unknown() -> None:
    attributes = [(kind, b"") for kind in (0x0002, *stun.Attribute, 0x7FFF, 0x8000, 0xC057, 0xC070)]
    message = stun.Message(stun.BINDING_REQUEST, bytes(12), tuple(attributes))
    assert stun.unknown_attributes(message) == (0x0002, 0x7FFF)


def test_integrity_needs_the_attribute() -> None:
    assert not stun.integrity_holds(stun.build_binding_request(bytes(12), b"serv:clnt"), b"key")


def test_a_transaction_id_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        stun.build_message(stun.BINDING_INDICATION, bytes(11))
