"""Many calls at once by clients of other makes, through gateway, relay and trunk; and one without a relay."""

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyfastpath.tools.ports import free_port
from pyfastpath.tools.selfcall import SelfCall
from tests.support import npm
from tests.support.daemon import running_daemon
from tests.support.edge import Edge, running_edge
from tests.support.edge_inside import (
    TRANSCEIVERS,
    assert_conserved,
    numbers,
    read_numbers,
    sessions,
    wait_until_quiet,
)
from tests.support.wrtc import FOLDER, wrtc_clients

CALL_S = 30
CLIENTS = 20
PACKETS_A_SECOND = 50
STARVED_S = 3  # in so many seconds of a call, clients and server of a busy machine may come too late
DIRECT_CALL_S = 3
PROCESSES = ("relay", *TRANSCEIVERS)
AFTER_THE_END = {"unknown_flow", "unknown_path", "stun_unknown_ufrag", "session_over"}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    npm.install(FOLDER)
    with running_edge(tmp_path) as running:
        yield running


def assert_heard_to_the_end(report: dict[str, Any], seconds: int) -> None:
    """A client of libwebrtc's stack sent and heard its own tone, until now."""
    assert report["state"] == "connected", report
    assert report["first_event"] == "session.created", report
    wanted = PACKETS_A_SECOND * (seconds - STARVED_S)
    assert report["packets_sent"] >= wanted <= report["packets_received"], report
    assert report["packets_lost"] == 0, report
    heard = report["windows"]
    assert heard[-1] == "own", report
    assert heard.count("own") >= seconds - STARVED_S, report


@pytest.mark.slow
async def test_twenty_one_clients_talk_for_half_a_minute_and_no_datagram_is_lost(
    edge: Edge, record_property: Callable[[str, object], None]
) -> None:
    # `up` has called itself, and hung up: what its client still sent then was nobody's.
    await asyncio.to_thread(wait_until_quiet, edge)
    before = {name: dropped(edge, name) for name in PROCESSES}
    call = SelfCall(edge.page, "echo")
    try:
        async with wrtc_clients(edge.page, CLIENTS) as clients:
            await call.place()
            await asyncio.sleep(CALL_S)
            assert sum(len(sessions(edge, name)) for name in TRANSCEIVERS) == CLIENTS + 1
            reports, by_aiortc = await asyncio.gather(clients.report(), call.report())
            while_live = {name: dropped(edge, name) for name in PROCESSES}
            live = [numbers(edge, name).total("transceiver_sessions", state="live") for name in TRANSCEIVERS]
            await asyncio.gather(clients.hang_up(), call.hang_up())
    finally:
        await call.close()
    record_property("connected_ms", sorted(round(report["connected_ms"], 1) for report in reports))
    for report in reports:
        assert_heard_to_the_end(report, CALL_S)
    assert by_aiortc.bursts_heard >= by_aiortc.bursts_sent - 1 >= CALL_S - STARVED_S
    assert by_aiortc.packets_received >= PACKETS_A_SECOND * (CALL_S - STARVED_S)
    assert min(live) >= CLIENTS // 2
    assert while_live == before, "something of theirs was dropped while they lived"
    await asyncio.to_thread(assert_conserved, edge)
    for name in PROCESSES:
        assert dropped(edge, name).keys() <= AFTER_THE_END


def dropped(edge: Edge, name: str) -> dict[str, int]:
    """Datagrams the relay or a transceiver dropped, by reason."""
    metric = "dropped_datagrams" if name == "relay" else "transceiver_dropped_datagrams"
    return numbers(edge, name).by(metric, "reason")


async def test_a_call_without_a_relay(tmp_path: Path) -> None:
    """The gateway names the transceiver's own socket to clients."""
    plain = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    page = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    gateway = {
        "listen": page,
        "token_keys": [f"1:{secrets.token_hex(16)}"],
        "call_key": secrets.token_hex(32),
        "candidates": [plain],
        "admin_socket": str(tmp_path / "gateway.sock"),
    }
    transceiver = {
        "transceiver": 1,
        "plain_listen": plain,
        "control_socket": str(tmp_path / "transceiver.sock"),
        "registry": f"unix:{tmp_path}/gateway.sock",
        "agent": "echo",
    }
    with (
        running_daemon("gateway", tmp_path, until="healthz", **gateway),  # ready once a transceiver is
        running_daemon("transceiver", tmp_path, until="readyz", **transceiver) as health,
    ):
        call = SelfCall(f"http://{page}", "echo")
        try:
            await call.place()
            await call.talk(DIRECT_CALL_S)
            report = await call.report()
            await call.hang_up()
        finally:
            await call.close()
        after = read_numbers(health)
    assert report.remotes == (plain,)
    assert report.first_event == "session.created"
    assert report.bursts_heard >= report.bursts_sent - 1 > 0
    assert report.packets_received >= PACKETS_A_SECOND
    assert after.total("transceiver_sessions_closed", reason="hangup") == 1
    assert after.total("transceiver_conservation_error_datagrams") == 0
    assert after.total("transceiver_used_datagrams", kind="rtp") >= PACKETS_A_SECOND
