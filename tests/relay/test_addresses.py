"""The machine's addresses, compared with what iproute2 says, and a new one in a namespace of its own."""

import json
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from pyfastpath.relay.addresses import machine_addresses
from tests.support.require import require


@pytest.mark.parametrize("family", [4, 6])
def test_the_addresses_are_those_iproute2_lists(family: int) -> None:
    require("ip")
    listed = json.loads(subprocess.check_output(["ip", "-j", "addr"]))
    wanted = {
        ip_address(entry["local"])
        for link in listed
        for entry in link["addr_info"]
        if entry["family"] == {4: "inet", 6: "inet6"}[family] and entry.get("scope") != "link"
    }
    assert set(machine_addresses(family)) == wanted


def test_loopback_is_there() -> None:
    assert IPv4Address("127.0.0.1") in machine_addresses(4)


def test_many_addresses_and_a_point_to_point_link() -> None:
    """More than one netlink message holds, and on a tunnel our end, not the other's."""
    require("namespaces")
    script = (
        "set -e; ip link set lo up; ip tuntap add dev tun0 mode tun; ip link set tun0 up;"
        "ip addr add 10.9.0.1 peer 10.9.0.2 dev tun0; ip addr add 2001:db8::1/64 dev lo nodad;"
        "for n in $(seq 0 249); do ip addr add 10.1.0.$n/8 dev lo; done;"
        f"exec {sys.executable} -c 'from pyfastpath.relay.addresses import machine_addresses as m;"
        "print(*m(4), *m(6))'"
    )
    said = subprocess.check_output(["unshare", "--net", "sh", "-c", script], text=True)
    found = {ip_address(word) for word in said.split()}
    assert {IPv4Address(f"10.1.0.{n}") for n in range(250)} <= found
    assert IPv4Address("10.9.0.1") in found
    assert IPv4Address("10.9.0.2") not in found
    assert IPv6Address("2001:db8::1") in found
    assert not any(address.is_link_local for address in found)
