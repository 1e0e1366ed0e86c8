"""Opening the sessions of a load: where its clients stand, and what it means when nobody answers."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import Any, Final

from pyfastpath.errors import ConfigError, SocketError, UnreachableError
from pyfastpath.tools.bench.frames import way_out
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.options import Options
from pyfastpath.tools.bench.relays import Path
from pyfastpath.tools.bench.streams import Address, Crowd
from pyfastpath.tools.live_relay import RefusedError, say_drops

TIMEOUT_S: Final = 5.0
SLOWEST_PER_S: Final = 10_000  # a relay that opens fewer sessions a second is given up
PORTS_A_SOURCE: Final = 64
LOOPBACK_CROWD: Final = Crowd("127.1.0.1", 1)  # every client an address of its own, one socket for all


def aim(load: Load, path: Path, options: Options) -> None:
    """Make the generators of a load for a path. ConfigError or SocketError when that cannot be."""
    host = path.targets[0][0]
    crowd = (
        LOOPBACK_CROWD
        if IPv4Address(host).is_loopback and not options.source
        else _crowd(load, path, options)
    )
    inject: dict[str, Any] = {"inject": options.inject}
    if options.inject == "packet":
        inject |= way_out(host)
    try:
        load.aim(path.targets, path.ufrags, crowd, inject)
    except OSError as error:
        raise SocketError(str(error.strerror or error)) from None


def open_sessions(load: Load, path: Path, *, spread_s: float = 0.0) -> None:
    """Confirm every session. UnreachableError when none is, RefusedError when some are not."""
    confirmed = load.open(TIMEOUT_S + load.sessions / SLOWEST_PER_S, spread_s=spread_s)
    check_confirmed(load.sessions, confirmed, path)


def check_confirmed(asked: int, confirmed: int, path: Path) -> None:
    """UnreachableError when no session was confirmed, RefusedError when some were not."""
    if confirmed == asked:
        return
    host, port = path.targets[0]
    dropped = path.drops()
    hint = (
        say_drops(dropped)
        if dropped
        else "See whether it runs there, and whether it serves these clients (allow_clients)."
    )
    if not confirmed:
        raise UnreachableError(f"nobody answers at {host}:{port}: no session was confirmed", hint)
    raise RefusedError(f"only {confirmed:,} of {asked:,} sessions were confirmed through {host}:{port}", hint)


def _crowd(load: Load, path: Path, options: Options) -> Crowd:
    """Clients that are no loopback addresses: up to 64 ports of each."""
    source = options.source or _local_address(path.targets[0])
    sockets = min(PORTS_A_SOURCE, *(stream.sessions for stream in load.streams))
    addresses = sum(-(-stream.sessions // sockets) for stream in load.streams)
    last = str(IPv4Address(source) + addresses - 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        try:
            end.bind((last, 0))
        except OSError:
            raise ConfigError(
                f"{load.sessions:,} sessions take {addresses} source addresses from {source} on, and "
                f"{last} is none of this machine",
                f"Ask for {PORTS_A_SOURCE} sessions at most, or give it a network: ip route add local "
                "10.77.0.0/16 dev lo, and --source 10.77.0.1.",
                key="--sessions",
            ) from None
    return Crowd(source, sockets)


def _local_address(target: Address) -> str:
    """The address this machine uses towards a target; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        try:
            end.connect(target)
        except OSError as error:
            raise UnreachableError(
                f"there is no way to {target[0]}: {error.strerror}", "Look at the routes."
            ) from None
        address: str = end.getsockname()[0]
        return address
