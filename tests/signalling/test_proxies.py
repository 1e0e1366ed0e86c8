"""Who is behind a proxy: believed of trusted proxies alone, and of what they added."""

from __future__ import annotations

import random

import pytest
from multidict import CIMultiDict

from pyfastpath.signalling.proxies import HOPS_MAX, Proxies

PROXIES = Proxies(["10.0.0.0/8", "127.0.0.1", "2001:db8:0:1::/64"])
PROXY = "10.0.0.1"


def client(*headers: tuple[str, str], address: str = PROXY) -> str:
    return PROXIES.client_of(address, CIMultiDict(headers))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db8:9::7", "2001:db8:9::7"),
        ("[2001:db8:9::7]:4711", "2001:db8:9::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        (" 198.51.100.1 ,\t203.0.113.7 ", "203.0.113.7"),  # the first was written by the client
        ("203.0.113.7, 10.1.1.1, 10.2.2.2", "203.0.113.7"),  # two of our own behind it
        ("198.51.100.1, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
        ("10.9.9.9, 10.1.1.1", "10.9.9.9"),  # a client inside
        ("nonsense, 10.1.1.1", "10.1.1.1"),
        ("203.0.113.7, unknown", PROXY),
        ("203.0.113.7,", PROXY),
        ("", PROXY),
        ("203.0.113.7\0", PROXY),
        ("203.0.113.7, " + "10.1.1.1, " * HOPS_MAX + "10.1.1.1", "10.1.1.1"),
    ],
)
def test_x_forwarded_for(value: str, expected: str) -> None:
    assert client(("X-Forwarded-For", value)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ('For="203.0.113.7:4711";proto=https', "203.0.113.7"),
        ('proto=https;host=x;for="[2001:db8:9::7]:4711"', "2001:db8:9::7"),
        ("for=198.51.100.1, for=203.0.113.7, for=10.1.1.1", "203.0.113.7"),
        ("for=203.0.113.7, for=unknown", PROXY),
        ("for=203.0.113.7, for=_hidden", PROXY),
        ("by=203.0.113.7", PROXY),
    ],
)
def test_forwarded(value: str, expected: str) -> None:
    assert client(("Forwarded", value)) == expected


def test_headers_given_twice_are_one_list() -> None:
    twice = ("X-Forwarded-For", "198.51.100.1"), ("x-forwarded-for", "203.0.113.7, 10.1.1.1")
    assert client(*twice) == "203.0.113.7"


def test_nobody_else_is_believed() -> None:
    said = ("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=203.0.113.7")
    for address in ("198.51.100.1", "2001:db8:0:2::1", "", "unknown"):
        assert client(*said, address=address) == address
        assert Proxies().client_of(address, CIMultiDict(said)) == address
    assert client(*said, address="2001:db8:0:1::9") == "203.0.113.7"
    assert client(*said, address="::ffff:10.0.0.1") == "203.0.113.7"


def test_what_a_client_writes_into_the_other_header_helps_it_to_nothing() -> None:
    """A proxy sets one of the two and passes the other on as it came."""
    true, false = "203.0.113.7", "198.51.100.1"
    assert client(("X-Forwarded-For", true), ("Forwarded", f"for={false}")) == PROXY
    assert client(("X-Forwarded-For", false), ("Forwarded", f"for={true}")) == PROXY
    assert client(("X-Forwarded-For", true), ("Forwarded", f'for="{true}:9"')) == true
    assert client(("X-Forwarded-For", true), ("Forwarded", "for=unknown")) == true


def test_a_client_chooses_nothing_but_the_addresses_before_its_own() -> None:
    draw, own = random.Random(5), "203.0.113.7"
    alphabet = ["198.51.100.1", "10.1.1.1", "::1", "for=10.1.1.1", "x", "", '"', "[", ";", "\0", "%", own]
    for _ in range(2000):
        written = "".join(draw.choices([*alphabet, ",", ", "], k=draw.randrange(12)))
        assert client(("X-Forwarded-For", f"{written}, {own}")) == own
        assert client(("X-Forwarded-For", f"{written}, {own}, 10.3.3.3")) == own
        found = client(("X-Forwarded-For", own), ("Forwarded", written))
        assert found in (own, PROXY)
