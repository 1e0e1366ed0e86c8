"""The engine's state as JSON values, for the admin API. Reads, never writes."""

import dataclasses
import os
import time
from typing import Any

from fastpath.counters import DROP_REASONS

from pyfastpath import __version__
from pyfastpath.relay import sockets
from pyfastpath.relay.backends import Entry
from pyfastpath.relay.control import Control, monotonic_ms
from pyfastpath.relay.layout import DIRECTIONS, residence_ends_s
from pyfastpath.relay.listing import Filter, Names, flow_json, provisional_json, select
from pyfastpath.relay.tables import conservation_error


def status(control: Control) -> dict[str, Any]:
    """/v1/status: everything at a glance."""
    counters, headers = control.tables.counters(), control.tables.headers()
    error = conservation_error(counters)
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - control.started_s, 1),
        "engine_starts": int(headers["attached"].max()),
        "config": control.config.digest(),
        "ready": not control.unready(),
        "reasons": control.unready(),
        "draining": control.draining,
        "listeners": list(control.opening.listeners),
        "candidates": candidates(control),
        "shards": len(control.shards),
        "workers": len(control.crew.members),
        "flows": {
            "confirmed": int(headers["flows_count"].sum()),
            "provisional": int(headers["provisional_count"].sum()),
            "max": int(headers["flows_max"].sum()),
        },
        "routes": {"installed": len(control.shared.routes), "max": control.config.routes_max},
        "backends": [backend(control, entry) for entry in control.registry.entries.values()],
        "datagrams": {
            name: {
                "received": int(counters["received"][:, direction].sum()),
                "forwarded": int(counters["forwarded"][:, direction].sum()),
                "punted": int(counters["punted"][:, direction].sum()),
                "dropped": int(counters["dropped"][:, direction].sum()),
                "conservation_error": int(abs(error[:, direction]).sum()),
            }
            for direction, name in enumerate(DIRECTIONS)
        },
        "kernel_dropped": sum(kernel_drops(control)),
    }


def candidates(control: Control) -> list[dict[str, Any]]:
    """The relay's ICE candidates, in the form mediasoup-client takes them."""
    return [
        {
            "foundation": one.foundation,
            "component": one.component,
            "protocol": one.transport,
            "priority": one.priority,
            "ip": one.address,
            "address": one.address,
            "port": one.port,
            "type": one.kind,
        }
        for one in control.routing.candidates
    ]


def backend(control: Control, entry: Entry) -> dict[str, Any]:
    """One backend: what was configured, and what is known of it."""
    finding = control.findings.get(entry.index)
    identity = entry.identity(control.registry.cluster)
    trunk = finding if entry.spec.mode == "trunk" else None
    return {
        "id": entry.spec.id,
        "address": entry.spec.address,
        "mode": entry.spec.mode,
        "state": entry.state,
        "draining": entry.draining,
        "source": entry.source,
        "allow": list(entry.spec.allow),
        "probe": entry.spec.probe,
        "assume_up": entry.spec.assume_up,
        "identity": dict(zip(("cluster", "transceiver", "incarnation"), identity, strict=True))
        if identity
        else None,
        "trunk": dataclasses.asdict(trunk) if trunk else None,
    }


def upgrade(control: Control) -> dict[str, Any]:
    """/v1/upgrade: the version that serves, and how the last upgrade went as far as this engine knows."""
    state, text = control.upgrade
    return {"version": __version__, "state": state, "text": text}


def retiring(control: Control) -> list[dict[str, Any]]:
    """Backends that were taken away and still have flows or routes."""
    return [{"id": entry.spec.id, "address": entry.spec.address} for entry in control.registry.retired]


def counters(control: Control) -> dict[str, Any]:
    """/v1/counters: what every shard counted, a row of one moment each; only drop reasons that occurred."""
    rows, headers, kernel = control.tables.counters(), control.tables.headers(), kernel_drops(control)
    worker_of = {shard: member["worker"] for member in control.crew.rows() for shard in member["shards"]}
    return {
        "time_s": time.monotonic(),
        "residence_ends_s": residence_ends_s(),
        "shards": [
            {
                "shard": shard,
                "worker": worker_of.get(shard),
                "flows": int(headers[shard]["flows_count"]),
                "kernel_dropped": kernel[shard],
                **{name: int(row[name]) for name in ("loops", "naps", "blocks")},
                **{name: _direction(row, number) for number, name in enumerate(DIRECTIONS)},
            }
            for shard, row in enumerate(rows)
        ],
    }


def _direction(row: Any, number: int) -> dict[str, Any]:
    names = ("received", "received_bytes", "forwarded", "forwarded_bytes", "punted")
    dropped = row["dropped"][number]
    return {
        **{name: int(row[name][number]) for name in names},
        "dropped": {name: int(dropped[i]) for i, (name, _) in enumerate(DROP_REASONS) if dropped[i]},
        "batches": row["batches"][number].tolist(),
        "residence": row["residence"][number].tolist(),
    }


def drain(control: Control) -> dict[str, Any]:
    """/v1/drain: how far a drain is. done: no live flow is left; over: done, or nobody waits any longer."""
    live, now_s, drain = control.live_flows(), time.monotonic(), control.drain
    left_s = drain.left_s(now_s) if drain else None
    return {
        "draining": drain is not None,
        "refusing": drain is not None and drain.refuses(now_s),
        "live_flows": live,
        "deadline_left_s": None if left_s is None else round(left_s, 1),
        "done": drain is not None and drain.is_done(now_s, live),
        "over": drain is not None and drain.is_over(now_s, live),
        "ends": drain is not None and drain.ends,
    }


def flows(control: Control, wanted: Filter) -> dict[str, Any]:
    """/v1/flows: the first `limit` flows that match, confirmed ones first, and how many match in all."""
    names = Names(
        ids={index: entry.spec.id for index, entry in control.registry.by_index().items()},
        backends=control.tables.backends,
        routes=control.tables.routes,
        ports=control.ports,
    )
    now_ms = monotonic_ms()
    confirmed = select(control.tables.flows(), wanted, names)
    waiting = select(control.tables.provisional(), wanted, names)
    rows = [flow_json(row, names, now_ms) for row in confirmed[: wanted.limit]]
    rows += [provisional_json(row, names, now_ms) for row in waiting[: wanted.limit - len(rows)]]
    return {"flows": rows, "matching": len(confirmed) + len(waiting)}


def kernel_drops(control: Control) -> list[int]:
    """Datagrams the kernel dropped before the relay saw them, by shard."""
    return [sum(map(sockets.kernel_drops, shard.all())) for shard in control.opening.shards]


def receive_buffers(control: Control) -> list[int]:
    """The smallest receive buffer granted to a client or trunk socket, in bytes, by shard."""
    return [
        min(sockets.granted_bytes(fd) for fd in (*shard.clients, shard.trunk) if fd >= 0)
        for shard in control.opening.shards
    ]
