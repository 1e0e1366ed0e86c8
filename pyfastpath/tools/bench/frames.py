"""Where raw frames towards an address leave this machine: the interface, and whose Ethernet address is next.

Read from /proc/net: the routes of the main table and the ARP table, after a datagram that fills it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from pyfastpath.errors import SocketError

NET: Final = Path("/proc/net")
SETTINGS: Final = Path("/proc/sys/net/ipv4/conf")
DISCARD_PORT: Final = 9
ASK_TIMEOUT_S: Final = 2.0
INCOMPLETE: Final = "00:00:00:00:00:00"


def way_out(target: str) -> dict[str, Any]:
    """`interface` and `gateway_mac` for the generator. SocketError when the next hop stays unknown."""
    if IPv4Address(target).is_loopback:
        _check_loopback()
        return {"interface": "lo", "gateway_mac": None}
    interface, hop = next_hop((NET / "route").read_text().splitlines()[1:], target)
    if not interface:
        raise SocketError(f"there is no route to {target}", "Add one, or choose --inject mmsg.")
    deadline_s = time.monotonic() + ASK_TIMEOUT_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(b"\0", (hop, DISCARD_PORT))
    while time.monotonic() < deadline_s:
        mac = ethernet_address((NET / "arp").read_text().splitlines()[1:], hop)
        if mac:
            return {"interface": interface, "gateway_mac": mac}
        time.sleep(0.05)
    raise SocketError(f"{hop} on {interface} does not answer ARP", "See whether it is up, or --inject mmsg.")


def _check_loopback() -> None:
    """The kernel drops frames with local addresses that come in by an interface, unless told otherwise."""
    names = ("accept_local", "route_localnet")
    closed = [name for name in names if not any(_setting(where, name) for where in ("lo", "all"))]
    if closed:
        orders = " ".join(f"net.ipv4.conf.lo.{name}=1" for name in closed)
        raise SocketError(
            "the kernel drops raw frames that come over loopback",
            f"Run: sysctl -w {orders}; or --inject mmsg.",
        )


def _setting(where: str, name: str) -> bool:
    return (SETTINGS / where / name).read_text().strip() != "0"


def next_hop(routes: Iterable[str], target: str) -> tuple[str, str]:
    """Of the lines of /proc/net/route, the longest prefix that holds `target`: (interface, address to ask
    ARP for); ("", "") without one."""
    best, found = -1, ("", "")
    for line in routes:
        interface, network, gateway, _flags, _references, _use, _metric, mask = line.split()[:8]
        length = int(mask, 16).bit_count()
        if length > best and IPv4Address(target) in IPv4Network((_address(network), length)):
            hop = target if int(gateway, 16) == 0 else str(_address(gateway))
            best, found = length, (interface, hop)
    return found


def ethernet_address(table: Iterable[str], hop: str) -> bytes:
    """Of the lines of /proc/net/arp, the Ethernet address of `hop`; empty when it is not known."""
    for line in table:
        fields = line.split()
        if fields[0] == hop and fields[3] != INCOMPLETE:
            return bytes.fromhex(fields[3].replace(":", ""))
    return b""


def _address(text: str) -> IPv4Address:
    """Eight hex digits as the kernel prints them: network order read as a little-endian number."""
    return IPv4Address(int.from_bytes(bytes.fromhex(text), "little"))
