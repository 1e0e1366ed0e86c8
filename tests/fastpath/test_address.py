"""Addresses: the kernel's form to ours and back, special ranges and networks as `ipaddress` knows them."""

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._testing import leaves
from pyfastpath.types import Endpoint, canonical

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SPECIAL = [  # a flow to one of these needs allow_clients
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3", "::/3", "4000::/2", "8000::/1"),
    )
]
LOCAL = [
    ipaddress.IPv6Address(text) for text in ("::1", "fc00::1", "fdff::1", "fe80::1", "fec0::1", "ff02::1")
]
EDGES = [
    ipaddress.ip_address(int(edge) + step) if edge.version == 4 else ipaddress.IPv6Address(int(edge) + step)
    for network in SPECIAL
    for edge, step in ((network[0], -1), (network[0], 0), (network[-1], 0), (network[-1], 1))
    if 0 <= int(edge) + step < 2**edge.max_prefixlen
]
ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address),
    st.integers(0, 2**32 - 1).map(lambda low: ipaddress.IPv6Address(0xFFFF << 32 | low)),
    st.sampled_from(EDGES + LOCAL),
)
PORTS = st.integers(0, 65535)


def name_of(address: Address, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6."""
    if address.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + address.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + address.packed + bytes(4)


def client_of(address: Address, port: int = 1, ingress: int = 0) -> tuple[bytes, int, int, int]:
    endpoint = Endpoint(address, port)
    return endpoint.address16, port, ingress, endpoint.family


@given(ADDRESSES, PORTS, st.integers(0, 255))
def test_from_the_kernel_and_back(address: Address, port: int, ingress: int) -> None:
    client = leaves.client_of_sockaddr(name_of(address, port), ingress)
    assert client == client_of(canonical(address), port, ingress)
    assert leaves.sockaddr_of_client(client) == name_of(canonical(address), port)
    assert leaves.endpoint_survives_sockaddr(name_of(address, port))


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::5"])
def test_a_name_that_is_cut_off_or_of_another_family(address: str) -> None:
    name = name_of(ipaddress.ip_address(address), 443)
    for length in range(len(name)):
        assert leaves.client_of_sockaddr(name[:length], 0) is None
    assert leaves.client_of_sockaddr(struct.pack("=H", socket.AF_UNIX) + name[2:], 0) is None


@given(ADDRESSES, st.integers(0, 19), st.integers(1, 255))
def test_every_byte_counts_in_equality(address: Address, at: int, change: int) -> None:
    address16, port, ingress, family = client = client_of(address, 443, 7)
    assert leaves.clients_equal(client, client)
    raw = bytearray(address16 + struct.pack("=HBB", port, ingress, family))
    raw[at] ^= change
    other = (bytes(raw[:16]), *struct.unpack("=HBB", raw[16:]))
    assert not leaves.clients_equal(client, other)


@given(ADDRESSES)
def test_special_addresses(address: Address) -> None:
    assert leaves.is_special(client_of(address)) == any(address in network for network in SPECIAL)


@given(ADDRESSES)
def test_nothing_that_ipaddress_calls_private_or_local_passes(address: Address) -> None:
    """Documentation and benchmarking ranges apart: nobody lives there, and tests do."""
    documentation = ("192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24")
    documentation += ("2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16")
    if any(address in ipaddress.ip_network(network) for network in documentation):
        return
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert leaves.is_special(client_of(address))


@given(ADDRESSES, st.data())
def test_networks(address: Address, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network(
        (data.draw(ADDRESSES.filter(lambda a: a.version == address.version)), prefix), False
    )
    near = ipaddress.ip_network((address, prefix), False)
    for each in (network, near):
        start = each.network_address.packed.ljust(16, b"\0")
        assert leaves.holds(start, each.version, prefix, client_of(address)) == (address in each)
        assert not leaves.holds(start, 10 - each.version, prefix, client_of(address))


def test_a_prefix_longer_than_the_address_holds_nothing() -> None:
    client = client_of(ipaddress.ip_address("203.0.113.9"))
    assert not leaves.holds(client[0], 4, 33, client)
