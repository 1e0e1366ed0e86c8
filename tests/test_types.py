"""Endpoints and secrets."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.types import Endpoint, Secret, canonical

ADDRESSES = st.ip_addresses()
PORTS = st.integers(0, 65535)


@given(ADDRESSES, PORTS)
def test_endpoint_text_and_bytes_round_trip(address, port):
    endpoint = Endpoint(canonical(address), port)
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert len(endpoint.address16) == 16
    assert Endpoint.from_address16(endpoint.address16, port, endpoint.family) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3:1",
        "::1:5",
        "[::1]",
        "[1.2.3.4]:5",
        "localhost:5",
        "1.2.3.4:-1",
        "1.2.3.4:٣",
        "",
        "[]:1",
    ],
)
def test_what_is_no_endpoint_is_refused_with_the_text(text):
    with pytest.raises(ValueError) as caught:
        Endpoint.parse(text)
    assert repr(text) in str(caught.value)


def test_ipv4_in_ipv6_never_stays_inside():
    assert Endpoint.parse("[::ffff:192.0.2.1]:9").address == ipaddress.ip_address("192.0.2.1")


def test_a_secret_shows_nothing():
    secret = Secret(b"hunter2-hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret(b"hunter2-hunter2")
    assert secret != Secret(b"other")
    assert not Secret(b"")
    assert {secret: 1}[Secret(b"hunter2-hunter2")] == 1
