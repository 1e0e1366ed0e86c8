"""The relay between generator and sink: one of our own, one that runs, or one that knows our tokens.

Each way yields a Path: where to send, under which ufrags, and what can be read of the relay. From a relay
that runs our backends are taken away again; our routes end by themselves.
"""

from __future__ import annotations

import os
import resource
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from pyfastpath.errors import FastpathError, SocketError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.bench.cpu import Division, is_visible, used_ns
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.options import Options, Transceiver
from pyfastpath.tools.bench.streams import Address
from pyfastpath.tools.live_relay import add_backend, drops, install_routes, ipv4_listener
from pyfastpath.tools.own_relay import own_relay
from pyfastpath.wire import token

BUFFER_BYTES: Final = 16 << 20
ROUTES_SPARE: Final = 1024
ROUTE_LIFE_S: Final = 600  # beyond the run: a relay that is asked again and again forgets by itself
UFRAG_BYTES: Final = 8  # as hex digits; ICE allows 4 to 256 characters


@dataclass(frozen=True, slots=True)
class Path:
    """name: for the table. targets: one a stream. cpu_ns: CPU time of the relay so far, None when it cannot
    be seen. drops: what it dropped so far, by reason."""

    name: str
    targets: Sequence[Address]
    ufrags: Sequence[str]
    cpu_ns: Callable[[], int] | None = None
    drops: Callable[[], dict[str, int]] = dict


def no_relay(load: Load) -> Path:
    """The generator straight to its sink."""
    return Path("no relay", load.backends, _ufrags(load.sessions))


@contextmanager
def of_our_own(load: Load, upstream: str, division: Division) -> Iterator[Path]:
    """A relay started for this run, on its own CPU where there is one."""
    ufrags = _ufrags(load.sessions)
    trunk: dict[str, Any] = {"mode": "trunk", "assume_up": True} if upstream == "trunk" else {}
    backends = [
        {"id": f"sink-{number}", "address": f"{host}:{port}", **trunk}
        for number, (host, port) in enumerate(load.backends)
    ]
    settings = {
        "flows_max": max(1024, load.sessions * 2),
        "routes_max": load.sessions + ROUTES_SPARE,
        "plain_ports": 0 if trunk else max(stream.sessions for stream in load.streams) + 64,
        "receive_buffer_bytes": BUFFER_BYTES,
    }
    if not trunk:
        allow_files(load.sessions + 1024)
    with own_relay(backends=backends, settings=settings, cpu=division.relay) as relay:
        relay.install_many(_routes(load, ufrags, [str(backend["id"]) for backend in backends]))
        yield Path(
            upstream,
            [relay.listen] * len(load.streams),
            ufrags,
            lambda: used_ns(relay.pid),
            lambda: drops(relay.admin),
        )


@contextmanager
def with_admin(load: Load, options: Options, seconds: float) -> Iterator[Path]:
    """A relay that runs here: our sinks become backends of it, our sessions routes, for as long as we run."""
    admin = AdminClient(options.socket)
    status = admin.get("status")
    target = options.target or ipv4_listener(status)
    names = [f"bench-{os.getpid()}-{number}" for number in range(len(load.streams))]
    ufrags = _ufrags(load.sessions)
    added: list[str] = []
    try:
        for name, (host, port) in zip(names, load.backends, strict=True):
            add_backend(admin, name, f"{host}:{port}", options.upstream)
            added.append(name)
        life_s = int(seconds) + ROUTE_LIFE_S
        routes = _routes(load, ufrags, names).items()
        install_routes(admin, ({"ufrag": ufrag, "backend": name, "ttl_s": life_s} for ufrag, name in routes))
        pid = int(status["pid"])
        yield Path(
            str(target),
            [(str(target.address), target.port)] * len(load.streams),
            ufrags,
            (lambda: used_ns(pid)) if is_visible(pid) else None,
            lambda: drops(admin),
        )
    finally:
        for name in added:
            with suppress(FastpathError):  # it may be gone, and that is another message
                admin.request("DELETE", ("backends", name))


def with_tokens(load: Load, options: Options, seconds: float) -> Path:
    """A relay we only know the address and a token key of; the sink stands where a transceiver would."""
    assert options.transceiver is not None
    assert options.target is not None
    expires_s = int(time.time() + min(seconds + ROUTE_LIFE_S, token.EXPIRY_AHEAD_MAX_S))
    target = (str(options.target.address), options.target.port)
    ufrags = [_mint(options.transceiver, expires_s, serial) for serial in range(load.sessions)]
    return Path(str(options.target), [target] * len(load.streams), ufrags)


def allow_files(wanted: int) -> None:
    """Raise this process's limit of open files, which a relay it starts inherits; SocketError beyond."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise SocketError(
            f"so many sessions in plain mode take {wanted:,} open files, and {hard:,} are allowed",
            f"Raise the limit (ulimit -n {wanted}), ask for fewer --sessions, or --upstream trunk.",
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _mint(to: Transceiver, expires_s: int, serial: int) -> str:
    """The serial number in the session makes two equal tokens impossible."""
    session = secrets.randbits(token.SESSION_BITS - 20) << 20 | serial
    return token.mint(
        to.key,
        to.kid,
        expires_s=expires_s,
        cluster=to.cluster,
        xcvr=to.number,
        incarnation=to.incarnation,
        session=session,
    )


def _ufrags(sessions: int) -> list[str]:
    """Names nobody else has: a run's own beginning, then a number."""
    run = secrets.token_hex(UFRAG_BYTES)
    return [f"{run}{serial:06x}" for serial in range(sessions)]


def _routes(load: Load, ufrags: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    routes: dict[str, str] = {}
    first = 0
    for stream, name in zip(load.streams, names, strict=True):
        routes |= dict.fromkeys(ufrags[first : first + stream.sessions], name)
        first += stream.sessions
    return routes
