"""Paths: which two are the same client, and what the client's address is."""

from pyfastpath.transceiver.path import client_of, identity_of
from pyfastpath.types import Endpoint

CLIENT = (bytes([192, 0, 2, 1]).ljust(16, b"\0"), 50000, 4)
RELAY = (bytes([10, 0, 0, 1]).ljust(16, b"\0"), 7000, 4)
PATH = (RELAY, 3, CLIENT)


def test_the_relays_port_is_no_part_of_who_it_is() -> None:
    moved = ((RELAY[0], 7001, 4), 3, CLIENT)
    assert identity_of(moved) == identity_of(PATH)
    others = [(None, 3, CLIENT), (RELAY, 4, CLIENT), (RELAY, 3, (CLIENT[0], 50001, 4)), (CLIENT, 3, CLIENT)]
    assert len({identity_of(path) for path in [PATH, *others]}) == 5


def test_the_client_of_a_path() -> None:
    assert client_of(PATH) == Endpoint.parse("192.0.2.1:50000")
    six = (Endpoint.parse("[2001:db8::5]:443").address16, 443, 6)
    assert client_of((None, 0, six)) == Endpoint.parse("[2001:db8::5]:443")
