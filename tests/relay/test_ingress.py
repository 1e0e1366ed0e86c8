"""Ingress ids: stable for the keeper's life, one for each address of a wildcard."""

import mmap
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from fastpath.shard import Shared, format_shared, shared_bytes

from pyfastpath.errors import ConfigError
from pyfastpath.relay import ingress
from pyfastpath.relay.addresses import machine_addresses
from pyfastpath.types import Endpoint
from tests.relay.conftest import MakeConfig


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    region = mmap.mmap(-1, shared_bytes(1, 16, 16))
    format_shared(region, seed=bytes(16), shards=1, routes_max=16, targets_max=16, trunk_epoch=1)
    return region


def where(text: str) -> Endpoint:
    return Endpoint.parse(text)


def test_a_bound_address_has_its_configured_id_and_tells_what_it_advertises(make_config: MakeConfig) -> None:
    config = make_config(
        listen=[
            {"address": "10.0.0.1:3478", "ingress": 7, "advertise": "203.0.113.9"},
            {"address": "[2001:db8::1]:3478"},
        ]
    )
    first, second = ingress.find(config, ("10.0.0.1:3478", "[2001:db8::1]:3478"), {})
    assert (first.id, first.listener, first.wildcard) == (7, 0, False)
    assert first.advertised == where("203.0.113.9:3478")
    assert (second.id, second.listener) == (0, 1)
    assert second.advertised == second.local == where("[2001:db8::1]:3478")


def test_port_0_advertises_the_port_the_kernel_chose(make_config: MakeConfig) -> None:
    config = make_config(listen=[{"address": "127.0.0.1:0", "advertise": "203.0.113.9"}])
    (one,) = ingress.find(config, ("127.0.0.1:40001",), {})
    assert one.advertised == where("203.0.113.9:40001")


def test_a_wildcard_is_every_address_of_the_machine(make_config: MakeConfig) -> None:
    config = make_config(
        listen=[{"address": "0.0.0.0:3478", "ingress": 1}, {"address": "127.0.0.9:9", "ingress": 2}]
    )
    *wild, single = ingress.find(config, ("0.0.0.0:3478", "127.0.0.9:9"), {})
    assert [one.local.address for one in wild] == machine_addresses(4)
    assert all(one.wildcard and one.listener == 0 and one.local.port == 3478 for one in wild)
    assert wild[0].id == 1
    assert (single.id, single.wildcard) == (2, False)
    assert len({one.id for one in (*wild, single)}) == len(wild) + 1


def test_what_was_published_keeps_its_id(make_config: MakeConfig, memory: mmap.mmap) -> None:
    shared = Shared(memory)
    config = make_config(listen=[{"address": "0.0.0.0:3478", "ingress": 5}])
    found = ingress.find(config, ("0.0.0.0:3478",), ingress.published(memory))
    gone = ingress.Ingress(9, 0, where("192.0.2.77:3478"), where("192.0.2.77:3478"), True)
    ingress.publish(shared, [gone, *found])
    known = ingress.published(memory)
    assert known == {(one.listener, one.local): one.id for one in [gone, *found]}
    again = ingress.find(config, ("0.0.0.0:3478",), known)
    assert again == found
    # An address that appears gets an id nobody has, also not one whose address is gone.
    before = {key: number for key, number in known.items() if key[1] != found[-1].local}
    assert ingress.find(config, ("0.0.0.0:3478",), before)[-1].id not in before.values()


def test_published_addresses_are_canonical(make_config: MakeConfig, memory: mmap.mmap) -> None:
    config = make_config(listen=["[::1]:3478"])
    found = ingress.find(config, ("[::1]:3478",), {})
    ingress.publish(Shared(memory), found)
    assert ingress.published(memory) == {(0, Endpoint(ip_address("::1"), 3478)): 0}


def test_more_addresses_than_ids(make_config: MakeConfig) -> None:
    listen = [{"address": "0.0.0.0:3478", "ingress": 0}]
    taken = {(1, Endpoint(ip_address(f"10.0.0.{n}"), 1)): n for n in range(256)}
    with pytest.raises(ConfigError, match="more than 256 addresses"):
        ingress.find(make_config(listen=listen), ("0.0.0.0:3478",), taken)
