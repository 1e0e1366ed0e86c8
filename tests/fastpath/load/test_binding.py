"""The generator's Binding Request and the sinks' answer to one, with the addresses of RFC 5769."""

import ipaddress
import os
import struct

import pytest
from fastpath._testing.load import RESPONSE_BYTES_MAX, binding_is, binding_success
from fastpath.load.generator import binding_request

REQUEST = binding_request(b"ufrg", bytes.fromhex("b7e7a701bc34d686fa87dfae"), b"password")


@pytest.mark.parametrize(
    ("address", "mapped"),  # RFC 5769 sections 2.2 and 2.3: the same transaction id and port 32853
    [
        ("192.0.2.1", "0001a147e112a643"),
        ("2001:db8:1234:5678:11:2233:4455:6677", "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"),
    ],
)
def test_the_mapped_address_is_that_of_the_rfc(address, mapped):
    packed = ipaddress.ip_address(address).packed
    response = binding_success(REQUEST, packed, 32853)
    assert response[:2] == b"\x01\x01"
    assert struct.unpack_from("!H", response, 2)[0] == len(response) - 20
    assert response[4:20] == REQUEST[4:20]
    assert response[20:22] == b"\x00\x20"
    assert response[24:].hex() == mapped
    assert len(response) <= RESPONSE_BYTES_MAX


def test_requests_and_responses_are_told_apart():
    response = binding_success(REQUEST, bytes(4), 1)
    assert binding_is(REQUEST, 0)
    assert not binding_is(REQUEST, 1)
    assert binding_is(response, 1)
    assert not binding_is(response, 0)


@pytest.mark.parametrize("length", range(20))
def test_less_than_a_header_is_neither(length):
    assert not binding_is(REQUEST[:length], 0)


def test_another_cookie_is_no_stun():
    assert not binding_is(REQUEST[:4] + os.urandom(3) + b"\x00" + REQUEST[8:], 0)


def test_a_request_of_any_ufrag_length_is_padded():
    for length in range(4, 40):
        request = binding_request(b"u" * length, bytes(12), b"password")
        assert len(request) % 4 == 0
        assert struct.unpack_from("!H", request, 2)[0] == len(request) - 20
