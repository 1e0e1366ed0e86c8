"""`pyfastpath doctor`: what this machine grants a relay of the given configuration, and what to fix.

Every check opens or asks for the real thing, closes it again and changes nothing.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import platform
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyfastpath.config import RelayConfig
from pyfastpath.errors import SocketError
from pyfastpath.relay import sockets
from pyfastpath.relay.opening import descriptors_of
from pyfastpath.types import Endpoint

Level = Literal["ok", "warn", "fail"]

UDP_SEGMENT = 103  # linux/udp.h
KERNEL_LEAST = (5, 11)  # epoll_pwait2: waits of microseconds
KERNEL_NAMED = "5.11"
CAP_NET_BIND_SERVICE, CAP_NET_ADMIN = 10, 12  # linux/capability.h
FLOW_BYTES, ROUTE_BYTES = 128, 64  # two slots of each: tables are at most half full
LIBOPUS = "libopus.so.0"
DATAGRAM_BYTES = 832  # what a small datagram takes of a receive buffer


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `fix` says what to do; empty when nothing is to be done."""

    check: str
    level: Level
    text: str
    fix: str = ""


def examine(config: RelayConfig) -> list[Finding]:
    """Every check, in the order in which a relay would need them."""
    return [finding for check in CHECKS for finding in check(config)]


def _kernel(config: RelayConfig) -> Iterator[Finding]:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if platform.system() != "Linux" or numbers < KERNEL_LEAST:
        yield Finding(
            "kernel", "fail", f"{platform.system()} {release}", f"Use Linux {KERNEL_NAMED} or newer."
        )
    else:
        yield Finding("kernel", "ok", f"Linux {release}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, option, gain in (
            ("UDP_GRO", sockets.UDP_GRO, "the trunk receives one datagram at a time"),
            ("UDP_SEGMENT", UDP_SEGMENT, "the trunk sends one datagram at a time"),
        ):
            try:
                sock.setsockopt(socket.SOL_UDP, option, 1)
                yield Finding(name, "ok", "the kernel has it")
            except OSError as error:
                yield Finding(name, "warn", f"{error.strerror}: {gain}", "Use a newer kernel for trunk mode.")


def _cpus(config: RelayConfig) -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0))
    text = f"{usable} usable, {config.workers} workers, {config.shards} shards"
    if config.workers > usable:
        yield Finding("CPUs", "warn", text, f"Lower workers to {usable}: more only take turns.")
    elif usable == 1:
        yield Finding("CPUs", "warn", text, "Give the relay 2 CPUs: the control plane wants one of its own.")
    else:
        yield Finding("CPUs", "ok", text)
    if _cpu_has_aes():
        yield Finding("AES", "ok", "in the CPU")
    elif ctypes.util.find_library("crypto"):
        yield Finding(
            "AES", "warn", "not in the CPU: libcrypto is used, tokens cost more", "Nothing must be done."
        )
    else:
        yield Finding(
            "AES", "fail", "neither in the CPU nor libcrypto", "Install libssl3 (apt-get install libssl3)."
        )


def _cpu_has_aes() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = (
        line.partition(":")[2].split() for line in text.splitlines() if line.startswith(("flags", "Features"))
    )
    return any("aes" in words for words in flags)


def _memory(config: RelayConfig) -> Iterator[Finding]:
    needed_mib = (
        config.shards * config.flows_max * 2 * FLOW_BYTES // 2 + config.routes_max * ROUTE_BYTES
    ) >> 20
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free_mib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) >> 10
        text = f"{needed_mib} MiB of tables, {free_mib} MiB available"
        fix = "" if needed_mib < free_mib else "Lower flows_max, routes_max or shards."
        yield Finding("memory", "fail" if fix else "ok", text, fix)


def _receive_buffers(config: RelayConfig) -> Iterator[Finding]:
    opened = sockets.open_client(
        Endpoint.parse("127.0.0.1:0"), receive_buffer_bytes=config.receive_buffer_bytes
    )
    os.close(opened.fd)
    granted = (
        opened.receive_buffer_bytes // 2
    )  # the kernel reports twice what it grants, for its own overhead
    text = (
        f"{granted >> 10} KiB of {config.receive_buffer_bytes >> 10} KiB granted a socket, "
        f"room for about {opened.receive_buffer_bytes // DATAGRAM_BYTES} small datagrams"
    )
    if granted >= config.receive_buffer_bytes:
        yield Finding("receive buffer", "ok", text)
    else:
        fix = f"sysctl -w net.core.rmem_max={config.receive_buffer_bytes}, or grant CAP_NET_ADMIN."
        yield Finding("receive buffer", "warn", text, fix)


def _open_files(config: RelayConfig) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ports = config.plain_ports + config.plain_ports_ipv6
    needed = descriptors_of(config) + sockets.SPARE_DESCRIPTORS
    text = f"{needed} needed, {ports} of them plain ports, the hard limit is {hard}"
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield Finding("open files", "fail", text, f"LimitNOFILE={needed} (ulimit -n), or lower plain_ports.")
    else:
        yield Finding("open files", "ok", text)


def _port_range(config: RelayConfig) -> Iterator[Finding]:
    if not config.plain_ports + config.plain_ports_ipv6:
        return
    with contextlib.suppress(OSError, ValueError):
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        free, wanted = high - low + 1, max(config.plain_ports, config.plain_ports_ipv6)
        text = f"{wanted} plain ports out of {free} ({low}-{high})"
        if wanted > free * 9 // 10:
            fix = "sysctl -w net.ipv4.ip_local_port_range='1024 65535', or lower plain_ports."
            yield Finding("local ports", "fail" if wanted > free else "warn", text, fix)
        else:
            yield Finding("local ports", "ok", text)


def _privileges(config: RelayConfig) -> Iterator[Finding]:
    effective = _capabilities()
    if effective is None:
        return
    has = {name: bool(effective >> bit & 1) for name, bit in
           (("CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE), ("CAP_NET_ADMIN", CAP_NET_ADMIN))}  # fmt: skip
    held = (
        ", ".join(name for name, held in has.items() if held) or "none of CAP_NET_BIND_SERVICE, CAP_NET_ADMIN"
    )
    if os.geteuid() == 0:
        yield Finding(
            "privileges", "warn", f"root, with {held}", "Run it as a user of its own when in production."
        )
    else:
        yield Finding("privileges", "ok", held)


def _capabilities() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration, ValueError):
        return None


def _ports(config: RelayConfig) -> Iterator[Finding]:
    """Can every configured address be bound? A relay that runs already holds them, and is named."""
    running = _answers(config.admin_socket)
    if running:
        yield Finding(
            "relay", "ok", f"one runs already on {config.admin_socket}: it holds the addresses below"
        )
    wanted: list[tuple[str, str, Callable[[Endpoint], object]]] = [
        ("listen", item.address, sockets.refuse_if_taken) for item in config.listen
    ]
    if config.trunk_port:
        address = f"[{config.trunk_address}]" if ":" in config.trunk_address else config.trunk_address
        wanted += [
            ("trunk", f"{address}:{config.trunk_port + shard}", sockets.refuse_if_taken)
            for shard in range(config.shards)
        ]
    wanted += [
        (name, text, _try_tcp)
        for name, text in (("health", config.health_listen), ("admin TCP", config.admin_tcp))
        if text
    ]
    for name, text, attempt in wanted:
        try:
            attempt(Endpoint.parse(text))
            yield Finding(name, "ok", f"{text} is free")
        except SocketError as error:
            held = running and "in use" in error.message
            yield Finding(name, "ok" if held else "fail", error.message, "" if held else error.hint)


def _try_tcp(endpoint: Endpoint) -> None:
    os.close(sockets.open_tcp(endpoint))


def _answers(path: str) -> bool:
    """Does somebody listen on this UNIX socket?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(path)
        except OSError:
            return False
        return True


def _admin_socket(config: RelayConfig) -> Iterator[Finding]:
    folder = Path(config.admin_socket).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        text = f"{folder} is no directory this user may write"
        yield Finding("admin socket", "fail", text, "Make it (RuntimeDirectory=) or set admin_socket.")
    else:
        yield Finding("admin socket", "ok", config.admin_socket)


def _memfd(config: RelayConfig) -> Iterator[Finding]:
    try:
        os.close(os.memfd_create("fastpath-doctor", os.MFD_CLOEXEC))
    except OSError as error:
        fix = "Allow memfd_create in the container's seccomp profile."
        yield Finding("memfd", "fail", f"memfd_create: {error.strerror}", fix)
    else:
        yield Finding("memfd", "ok", "tables can outlive an engine")


def _opus(config: RelayConfig) -> Iterator[Finding]:
    """Only a transceiver needs it, but it is started from the same installation."""
    try:
        ctypes.CDLL(LIBOPUS)
    except OSError:
        text = f"{LIBOPUS} is missing: the relay does without, a transceiver cannot start"
        yield Finding("libopus", "warn", text, "apt-get install libopus0.")
    else:
        yield Finding("libopus", "ok", f"{LIBOPUS} for transceivers")


CHECKS: tuple[Callable[[RelayConfig], Iterator[Finding]], ...] = (
    _kernel,
    _memfd,
    _cpus,
    _memory,
    _receive_buffers,
    _open_files,
    _port_range,
    _privileges,
    _admin_socket,
    _ports,
    _opus,
)
