"""The networks a relay is measured in: loopback, and two made of namespaces and veth pairs, gone afterwards.

    clients' namespace ──veth── relay's namespace ──veth── backend's namespace
    10.64.0.0/10 (AnyIP)  10.200.1.0/24   10.200.2.0/24       10.200.2.2

loopback  the sender's CPU does the receiver's softirq, and UDP segments stay together: flatters GSO
inline    the same across veth: still the sender's CPU, but routing and a device between
rps       as on real machines: each end's receive softirq runs on the core of its owner (receive packet
          steering), so the relay's core pays for what the relay receives. Charged is the whole core
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Literal

from bench.cpu import LOAD_CPU, RELAY_CPU
from bench.place import Network, Place

Clock = Literal["process", "core"]  # whose nanoseconds are counted: the relay's threads, or its whole core
NAMES = ("loopback", "inline", "rps")
CLIENTS = IPv4Network("10.64.0.0/10")
CLIENT_IP, RELAY_IP, UPSTREAM_IP, SINK_IP = "10.200.1.2", "10.200.1.1", "10.200.2.1", "10.200.2.2"
MACS = {
    "c0": "02:00:00:00:01:02",
    "r0": "02:00:00:00:01:01",
    "r1": "02:00:00:00:02:01",
    "s0": "02:00:00:00:02:02",
}
IP_TIMEOUT_S = 10
# For everybody alike, while a run lasts. Some relays cannot ask for a receive buffer (nginx, rtpengine), and
# a schedule has no window: a core that is away for 10 ms must find its datagrams in a queue, not lost.
SYSCTLS = {"rmem_default": 16 << 20, "rmem_max": 16 << 20, "wmem_max": 16 << 20, "netdev_max_backlog": 16_384}
CORE = Path("/proc/sys/net/core")


@dataclass(frozen=True)
class Topology:
    """One network. `clients` and `backend` are where generator and sink make their sockets."""

    name: str
    place: Place = field(default_factory=Place)
    clients: Network = field(default_factory=Network)
    backend: Network = field(default_factory=Network)
    clock: Clock = "process"
    generator: dict[str, Any] = field(default_factory=dict)  # further arguments of the Generator


@contextmanager
def topology(name: str) -> Iterator[Topology]:
    """One of NAMES. The namespaces need root; PermissionError or RuntimeError says so."""
    if name == "loopback":
        yield Topology(name)
        return
    with ExitStack() as stack:
        clients, relay, backend = (
            stack.enter_context(_namespace(f"{name}-{who}")) for who in ("c", "r", "s")
        )
        _connect(clients, relay, backend)
        if name == "rps":
            for namespace, device in ((clients, "c0"), (backend, "s0")):
                _steer(namespace, device, LOAD_CPU)
            for device in ("r0", "r1"):
                _steer(relay, device, RELAY_CPU)
        place = Place(
            RELAY_IP, UPSTREAM_IP, SINK_IP, str(CLIENTS), str(CLIENTS[0x101]), RELAY_CPU, Network(relay)
        )
        clock: Clock = "core" if name == "rps" else "process"
        # Frames spare the sender route and socket look-ups: it costs 40 % less, and the relay the same.
        frames = {
            "inject": "packet",
            "interface": "c0",
            "gateway_mac": bytes.fromhex(MACS["r0"].replace(":", "")),
        }
        yield Topology(name, place, Network(clients), Network(backend), clock, frames)


@contextmanager
def raised_buffers() -> Iterator[list[str]]:
    """net.core of the machine as SYSCTLS says, and as before afterwards; yields what could not be set."""
    before: dict[str, str] = {}
    refused: list[str] = []
    try:
        for name, value in SYSCTLS.items():
            was = (CORE / name).read_text()
            if int(was) >= value:
                continue
            try:
                (CORE / name).write_text(str(value))
                before[name] = was
            except OSError as error:
                refused.append(f"net.core.{name} stays {was.strip()} ({error.strerror}): run as root")
        yield refused
    finally:
        for name, was in before.items():
            (CORE / name).write_text(was)


@contextmanager
def _namespace(who: str) -> Iterator[str]:
    name = f"fastpath-{who}-{os.getpid()}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "dev", "lo", "up")
        with Network(name).inside():
            for device in ("all", "default"):
                Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("0")
        yield name
    finally:
        _ip("netns", "delete", name)


def _connect(clients: str, relay: str, backend: str) -> None:
    """The two cables, with neighbours written down: no ARP in the middle of a measurement."""
    ends = {
        "c0": (clients, CLIENT_IP, "r0", RELAY_IP),
        "r0": (relay, RELAY_IP, "c0", CLIENT_IP),
        "r1": (relay, UPSTREAM_IP, "s0", SINK_IP),
        "s0": (backend, SINK_IP, "r1", UPSTREAM_IP),
    }
    for near, far in (("c0", "r0"), ("s0", "r1")):
        _ip(
            *("link", "add", "name", near, "netns", ends[near][0], "address", MACS[near], "type", "veth"),
            *("peer", "name", far, "netns", ends[far][0], "address", MACS[far]),
        )
    for device, (namespace, ip, *_) in ends.items():
        _ip("-n", namespace, "address", "add", f"{ip}/24", "dev", device)
        _ip("-n", namespace, "link", "set", "dev", device, "up")
    for device, (namespace, _, other, other_ip) in ends.items():
        _ip("-n", namespace, "neigh", "replace", other_ip, "lladdr", MACS[other], "dev", device)
    _ip("-n", clients, "route", "add", "local", str(CLIENTS), "dev", "lo")
    _ip("-n", relay, "route", "add", str(CLIENTS), "via", CLIENT_IP, "dev", "r0")


def _steer(namespace: str, device: str, cpu: int) -> None:
    """Receive packet steering of a device to one CPU. `ip netns exec` mounts the /sys of that namespace."""
    file = f"/sys/class/net/{device}/queues/rx-0/rps_cpus"
    _ip("netns", "exec", namespace, "sh", "-c", f"echo {1 << cpu:x} > {file}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=IP_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()} (namespaces need root)")
