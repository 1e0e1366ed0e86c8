"""Tables that one engine exported and another made anew: calls go on, and the books agree."""

import asyncio
import gc
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastpath.counters import DROP_REASONS

from pyfastpath.config import RelayConfig
from pyfastpath.errors import LayoutError
from pyfastpath.relay import layout, orders
from pyfastpath.relay.engine import Engine, exported
from pyfastpath.relay.export import read_export
from pyfastpath.relay.opening import Opening, open_relay
from pyfastpath.relay.sessions import RouteRequest, checked
from pyfastpath.types import Endpoint
from pyfastpath.wire.stun import build_message
from tests.relay.conftest import MakeConfig
from tests.support.plain_call import SUCCESS, PlainCall, endpoint_text
from tests.support.rig import until

CALLS = 12
UNUSED = 300  # routes without a flow


@pytest.fixture
def config(make_config: MakeConfig, server: socket.socket) -> RelayConfig:
    return make_config(backends=[f"a={endpoint_text(server)}"], plain_ports="32")


@pytest.fixture
def opening(config: RelayConfig) -> Iterator[Opening]:
    made = open_relay(config)
    yield made
    made.close()


async def running(opening: Opening, config: RelayConfig) -> tuple[Engine, "asyncio.Task[int]"]:
    engine, ready = Engine(opening, config), asyncio.Event()
    task = asyncio.create_task(engine.run(ready.set))
    await ready.wait()
    return engine, task


async def released(engine: Engine, task: "asyncio.Task[int]") -> int:
    engine.let_go(orders.Release(export=True))
    assert await task == 0
    return exported(engine.control)


def saved(arrays: dict[str, Any]) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return file


def open_descriptors() -> int:
    """Without those that only wait for the collector: another test's may be among them."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def install(engine: Engine, ufrag: str) -> None:
    engine.control.routing.put(checked(RouteRequest(ufrag=ufrag, backend="a", session=ufrag)))


def named(route: Any) -> tuple[Any, ...]:
    return (*route["hash"].tolist(), int(route["backend"]), int(route["session"]))


def state_of(engine: Engine) -> dict[str, Any]:
    """What must be the same afterwards, in an order of its own."""
    control = engine.control
    flows, routes = control.tables.flows(), control.tables.routes
    keys = [name for name in layout.FLOW.names or () if name not in ("sequence", "route", "last_seen_ms")]
    return {
        "flows": sorted(b"".join(row[name].tobytes() for name in keys) for row in flows),
        "routes of flows": sorted((row["client"].tobytes(), named(routes[row["route"]])) for row in flows),
        "routes": sorted(map(named, routes[routes["backend"] > 1])),
        "count": len(control.shared.routes),
        "provisional": len(control.tables.provisional()),
        **{name: control.tables.counters()[name].tolist() for name in ("received", "forwarded", "confirmed")},
        "starts": control.tables.headers()["attached"].tolist(),
        "ports": control.tables.upstream_ports(),
        "seed": control.shared.seed,
    }


async def test_calls_go_on_over_tables_made_anew(
    opening: Opening, config: RelayConfig, server: socket.socket
) -> None:
    engine, task = await running(opening, config)
    listen = Endpoint.parse(opening.listeners[0])
    names = [f"ufrag{number}" for number in range(CALLS)]
    for name in [*names, *(f"unused{number}" for number in range(UNUSED))]:
        install(engine, name)
    calls = [PlainCall((str(listen.address), listen.port), server, name) for name in names]
    for call in calls[:-1]:
        call.confirm()
        call.exchange()
    transaction = calls[-1].ask()
    _, upstream = server.recvfrom(2048)  # and does not answer yet: the flow is provisional
    until(lambda: len(engine.control.tables.provisional()) == 1, "the last flow is provisional")
    until(lambda: engine.control.tables.counters()["received"].sum() == 4 * (CALLS - 1) + 1, "all is counted")
    before = state_of(engine)
    export = await released(engine, task)
    with os.fdopen(export, "rb") as file:
        file.seek(0)
        made = read_export(file, opening.memory.note)
    engine, task = await running(opening.over(made), config)
    after = state_of(engine)
    assert after.pop("starts") == [count + 1 for count in before.pop("starts")]
    assert after == before
    for call in calls[:-1]:
        call.exchange()
    response = build_message(SUCCESS, transaction, [])
    server.sendto(response, upstream)
    assert calls[-1].client.recv(2048) == response
    until(lambda: len(engine.control.tables.flows()) == CALLS, "what was asked before the move confirms")
    for call in calls:
        call.close()
    engine.stop()
    await task
    for fd in (made.shared, *made.shards):
        os.close(fd)


async def test_another_layout_and_other_reasons(opening: Opening, config: RelayConfig) -> None:
    """Fields in another order, some missing, some unknown; counters whose reasons were others."""
    engine, task = await running(opening, config)
    install(engine, "ufrag0")
    export = await released(engine, task)
    with os.fdopen(export, "rb") as file:
        file.seek(0)
        arrays = dict(np.load(file))
    old = arrays["shared.routes"]
    kept = [("later", np.uint64), ("session", np.uint32), ("hash", np.uint64, 2), ("backend", np.uint16)]
    arrays["shared.routes"] = np.zeros(old.shape, kept)
    for name in ("session", "hash", "backend"):
        arrays["shared.routes"][name] = old[name]
    reasons = [*reversed(arrays["names.dropped"].tolist()), "of_old"]
    counters = arrays["0.counters"].dtype
    shapes = {name: counters[name].shape for name in counters.names or ()} | {"dropped": (2, len(reasons))}
    for shard in "01":
        arrays[f"{shard}.counters"] = np.zeros(1, [(name, np.uint64, shapes[name]) for name in shapes])
    row = arrays["0.counters"][0]
    row["dropped"][0, reasons.index("not_webrtc")] = 5
    row["dropped"][0, reasons.index("of_old")] = 7
    row["received"][0] = 12
    arrays["names.dropped"] = np.array(reasons)
    made = read_export(saved(arrays), opening.memory.note)
    engine, task = await running(opening.over(made), config)
    assert engine.control.shared.routes.lookup(b"ufrag0") is not None
    row = engine.control.tables.counters()[0]
    assert row["dropped"].sum() == row["received"].sum() == 12
    assert row["dropped"][0, [name for name, _ in DROP_REASONS].index("not_webrtc")] == 5
    engine.stop()
    await task


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "cannot be read"),
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: b"PK" + bytes(100), "cannot be read"),
    ],
)
async def test_what_is_no_export_is_refused(
    opening: Opening, config: RelayConfig, damage: Any, said: str
) -> None:
    engine, task = await running(opening, config)
    export = await released(engine, task)
    with os.fdopen(export, "rb") as file:
        file.seek(0)
        data = file.read()
    with pytest.raises(LayoutError, match=said):
        read_export(io.BytesIO(damage(data)), opening.memory.note)


async def test_what_does_not_fit_is_refused_in_one_sentence(opening: Opening, config: RelayConfig) -> None:
    """An index that leads out of its table would be followed; what is missing must not be a traceback."""
    engine, task = await running(opening, config)
    install(engine, "ufrag0")
    with os.fdopen(await released(engine, task), "rb") as file:
        file.seek(0)
        whole = dict(np.load(file))
    row = {name: np.zeros(1, whole[f"0.{name}"].dtype) for name in ("flows", "provisional", "ports")}
    damages: list[tuple[str, Any, str]] = []
    for name, rows in row.items():
        rows["backend"] = 1 << 20
        damages.append((f"0.{name}", rows, "backend 1048576 where 0.."))
    for name in ("flows", "provisional"):
        for field, said in (
            ("state", "flow's state 9 where"),
            ("traffic_class", "traffic class 9 where 0..3"),
        ):
            damages.append((f"0.{name}", np.zeros(1, row[name].dtype), said))
            damages[-1][1]["state"], damages[-1][1][field] = 2, 9
    for name, field, said in (
        ("shared.backends", "state", "backend's state 4294967295 where 1..4"),
        ("shared.backends", "mode", "backend's mode 255 where 1..2"),
        ("shared.routes", "backend", "route's backend 4294967295 where 2.."),
        ("shared.backends", "parent", "parent 4294967295 where 0..255"),
        ("shared.header", "shards", "cannot be read"),
    ):
        damages.append((name, whole[name].copy(), said))
        damages[-1][1][field] = layout.NONE & np.iinfo(damages[-1][1][field].dtype).max
    damages += [
        ("shared.routes.index", whole["shared.routes.index"] + (1 << 40), "cannot be read"),
        ("shared.header", np.array(1), "cannot be read"),
        ("format", np.zeros(2), "cannot be read"),
    ]
    open_before = open_descriptors()
    for name, damaged, said in damages:
        with pytest.raises(LayoutError, match=said):
            read_export(saved(whole | {name: damaged}), opening.memory.note)
    assert open_descriptors() == open_before


async def test_a_format_of_tomorrow_is_refused(opening: Opening) -> None:
    with pytest.raises(LayoutError, match="format 2, this version reads 1"):
        read_export(saved({"format": np.array(2)}), opening.memory.note)
