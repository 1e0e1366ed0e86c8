"""A relay that runs, as load tools ask it: where it listens, what it dropped; and routes for a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from pyfastpath.errors import AdminError, ConfigError, FastpathError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.flag_values import TRUNK_KEY_HINT
from pyfastpath.types import DIRECTIONS, Endpoint

ROUTES_A_REQUEST: Final = 50_000  # well below the admin API's limits
KERNEL: Final = "full_socket_buffer"  # before the relay saw it: the kernel counts that, not the relay
# Why a relay takes no backend of one of the two modes, by the setting that its refusal names.
NO_ROOM: Final = {
    "plain_ports": (
        "this relay has no upstream ports (plain_ports), so it serves no plain backend",
        "Add --upstream trunk; --trunk-key too, if its trunk has one.",
    ),
    "trunk_port": (
        "this relay has no trunk (trunk_port)",
        "Add --upstream plain.",
    ),
}


class RefusedError(FastpathError):
    """The relay does not take what a run needs: no gate failed, but there is nothing to judge."""

    exit_code = 4


def add_backend(admin: AdminClient, name: str, address: str, mode: str) -> None:
    """Tell the relay of an end of ours, for a run. address: ip:port. mode: plain or trunk.

    ConfigError: it serves no such backend; RefusedError: it says no for another reason.
    """
    body = {"address": address, "mode": mode} | ({"assume_up": True} if mode == "trunk" else {})
    try:
        admin.request("PUT", ("backends", name), body=body)
    except AdminError as error:
        for missing, (why, hint) in NO_ROOM.items():
            if missing in str(error):
                raise ConfigError(why, hint, key="--upstream") from None
        raise RefusedError(error.message, error.hint) from None


def install_routes(admin: AdminClient, rows: Iterable[Mapping[str, Any]]) -> None:
    """Install session routes; a row has ufrag, backend and what else POST /v1/routes knows. RefusedError."""
    waiting = iter(rows)
    while several := [json.dumps(row) for row in islice(waiting, ROUTES_A_REQUEST)]:
        said = admin.request("POST", ("routes",), body=("\n".join(several) + "\n").encode())
        if said["refused"]:
            first = (said.get("errors") or ["no reason given"])[0]
            why = first.get("message", first) if isinstance(first, dict) else first
            raise RefusedError(f"the relay refused {said['refused']} of {len(several)} routes: {why}")


def ipv4_listener(status: Mapping[str, Any]) -> Endpoint:
    """The relay's first IPv4 listener; for one on every address, loopback. ConfigError without any."""
    for text in status["listeners"]:
        found = Endpoint.parse(text)
        if found.family == 4:
            return Endpoint.parse(f"127.0.0.1:{found.port}") if found.address.is_unspecified else found
    raise ConfigError(
        "this relay listens on no IPv4 address",
        "Name one that leads to it: --target IP:PORT.",
        key="--socket",
    )


def say_drops(dropped: Mapping[str, int]) -> str:
    """Why nothing came through, by drop reason; and what to do about it, where that is known."""
    said = f"The relay dropped: {', '.join(f'{count:,} {reason}' for reason, count in dropped.items())}."
    return f"{said} {TRUNK_KEY_HINT}" if dropped.get("bad_tag") else said


def drops(admin: AdminClient) -> Counter[str]:
    """Drops so far by reason, of all shards and both directions; those of the kernel too."""
    found: Counter[str] = Counter()
    for shard in admin.get("counters")["shards"]:
        found.update({KERNEL: shard["kernel_dropped"]})
        for direction in DIRECTIONS:
            found.update(shard[direction]["dropped"])
    return +found
