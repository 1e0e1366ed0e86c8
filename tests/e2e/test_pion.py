"""Pion behind the relay: one UDP port for all sessions (ICEUDPMux), and its default, a port per session."""

import os
import socket
import subprocess
from pathlib import Path

import aiohttp
import pytest

from examples.aiortc_echo.call import CallError, Exchange, make_call
from pyfastpath.tools.ports import free_port
from tests.support.calls import assert_heard, assert_only_relay, relay_for
from tests.support.child import running_child
from tests.support.relay import Relay
from tests.support.require import require

SOURCE = Path(__file__).parent / "pion"
BUILD_TIMEOUT_S = 100  # the first build fetches and compiles Pion
CALL_S = 3


@pytest.fixture(scope="module")
def pion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server of tests/e2e/pion, built with the modules that go.sum pins."""
    go = require("go")
    program = tmp_path_factory.mktemp("pion") / "pion"
    environment = os.environ | {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
    built = subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=SOURCE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if "dial tcp" in built.stderr or "proxyconnect" in built.stderr:
        pytest.skip(f"Go cannot fetch Pion: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return program


def through(url: str, relay: Relay) -> Exchange:
    """The signalling of the Pion server: the bare SDP at /offer."""

    async def exchange(offer: str) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/offer", data=offer, headers={"Content-Type": "application/sdp"}) as reply,
        ):
            text = await reply.text()
        if not reply.ok:
            raise CallError(text)
        assert_only_relay(text, relay)
        return text

    return exchange


@pytest.mark.parametrize("one_port", [True, False], ids=["mux", "port-per-session"])
async def test_echo_through_the_relay(pion: Path, tmp_path: Path, one_port: bool) -> None:
    address = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    with relay_for("pion", tmp_path, address=address) as relay:
        command = [str(pion), "-relay-admin", str(relay.admin), *(("-mux", address) if one_port else ())]
        with running_child(command, says="pion: ", log=tmp_path / "pion.log") as url:
            call = await make_call(through(url, relay), CALL_S)
        assert_heard(call, relay, CALL_S)
