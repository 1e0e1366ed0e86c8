"""Endpoints and secrets."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.types import Endpoint, HttpAddress, Secret, canonical, is_deeper_than

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


@pytest.mark.parametrize(
    ("text", "base_url", "unix_path"),
    [
        ("unix:/run/x.sock", "http://localhost", "/run/x.sock"),
        ("http://10.0.0.5:9000", "http://10.0.0.5:9000", ""),
        ("https://[2001:db8::1]:9/", "https://[2001:db8::1]:9", ""),
    ],
)
def test_an_http_address_is_a_socket_or_an_address(text, base_url, unix_path):
    address = HttpAddress.parse(text)
    assert (address.base_url, address.unix_path) == (base_url, unix_path)
    assert HttpAddress.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", "unix:", "/run/x", "ftp://x", "http://", "http://x/path", "http://u@x"])
def test_what_is_no_http_address_is_refused_with_the_text(text):
    with pytest.raises(ValueError, match=repr(text)):
        HttpAddress.parse(text)


def test_a_secret_shows_nothing():
    secret = Secret(b"hunter2-hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret(b"hunter2-hunter2")
    assert secret != Secret(b"other")
    assert not Secret(b"")
    assert {secret: 1}[Secret(b"hunter2-hunter2")] == 1


def test_how_deep_json_goes():
    assert not is_deeper_than(0, "text")
    assert is_deeper_than(0, {})
    assert not is_deeper_than(2, {"a": [1, "b"], "c": {}})
    assert is_deeper_than(2, {"a": [1, {"b": 2}]})
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert is_deeper_than(64, deep), "and it needs no more stack than that"
