"""Flows as people read them: filtered rows of the tables as JSON values. Pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastpath.relay import layout
from pyfastpath.types import Endpoint

Rows = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Names:
    """What numbers in the tables are called.

    ids: configured backend's index -> id. backends: fp_backend of every index. routes: fp_route of every
    slot. ports: plain pool index -> the relay's own upstream address.
    """

    ids: dict[int, str]
    backends: Rows
    routes: Rows
    ports: dict[int, Endpoint]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which flows to show; None and empty mean all. session: 32-bit hash of the session's name."""

    upstream: Endpoint | None = None
    backend: str = ""
    client: Endpoint | None = None
    session: int | None = None
    limit: int = 1000


def select(rows: Rows, wanted: Filter, names: Names) -> Rows:
    """The rows (fp_flow or fp_provisional) a filter asks for."""
    keep = rows["backend"] < len(names.backends)
    rows = rows[keep]
    keep = np.ones(len(rows), bool)
    if wanted.backend:
        indices = [index for index, name in names.ids.items() if name == wanted.backend]
        keep &= np.isin(names.backends["parent"][rows["backend"]], indices)
    if wanted.upstream is not None:
        keep &= np.isin(rows["upstream_port"], _pool_indices(wanted.upstream, names))
    if wanted.client is not None:
        address = np.frombuffer(wanted.client.address16, np.uint8)
        keep &= (rows["client"]["address"] == address).all(axis=1)
        keep &= rows["client"]["port"] == wanted.client.port
    if wanted.session is not None:
        slots = rows["route"]
        routed = slots < len(names.routes)
        sessions = np.zeros(len(rows), np.uint32)
        sessions[routed] = names.routes["session"][slots[routed]]
        keep &= sessions == wanted.session
    return rows[keep]


def _pool_indices(upstream: Endpoint, names: Names) -> list[int]:
    """Plain ports a backend sees as this address; one bound to the wildcard may be any of the machine's."""
    return [
        index
        for index, own in names.ports.items()
        if own.port == upstream.port
        and own.family == upstream.family
        and (own.address.is_unspecified or own.address == upstream.address)
    ]


def flow_json(row: Any, names: Names, now_ms: int) -> dict[str, Any]:
    """One confirmed or taught flow (fp_flow)."""
    return {
        **_common(row, names, now_ms),
        "state": layout.FLOW_STATES.get(int(row["state"]), "unknown"),
        "ufrag_idle_ms": layout.age_ms(int(row["ufrag_seen_ms"]), now_ms),
        "datagrams_up": int(row["datagrams_up"]),
        "datagrams_down": int(row["datagrams_down"]),
    }


def provisional_json(row: Any, names: Names, now_ms: int) -> dict[str, Any]:
    """One flow that its backend has not confirmed, or a shadow (fp_provisional)."""
    return {
        **_common(row, names, now_ms),
        "state": layout.PROVISIONAL_STATES.get(int(row["state"]), "unknown"),
        "bytes_up": int(row["bytes_up"]),
        "bytes_down": int(row["bytes_down"]),
    }


def _common(row: Any, names: Names, now_ms: int) -> dict[str, Any]:
    client, index = row["client"], int(row["backend"])
    parent = int(names.backends["parent"][index])
    upstream = names.ports.get(int(row["upstream_port"]))
    return {
        "client": str(endpoint_of(client)),
        "ingress": int(client["ingress"]),
        "backend": names.ids.get(parent),
        "target": str(endpoint_of(names.backends["address"][index])) if parent != index else None,
        "upstream": str(upstream) if upstream else None,
        "class": layout.TRAFFIC_CLASSES[int(row["traffic_class"]) % len(layout.TRAFFIC_CLASSES)],
        "idle_ms": layout.age_ms(int(row["last_seen_ms"]), now_ms),
    }


def endpoint_of(row: Any) -> Endpoint:
    """The transport address of an fp_endpoint or fp_client row."""
    return Endpoint.from_address16(row["address"].tobytes(), int(row["port"]), int(row["family"]))
