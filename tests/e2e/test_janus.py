"""Debian's Janus behind the relay: the echotest plugin over the HTTP API, a UDP port per session."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from examples.aiortc_echo.addresses import own_networks
from examples.aiortc_echo.call import Exchange, make_call
from examples.aiortc_echo.server import without_candidates
from pyfastpath.tools.ports import free_port
from tests.support.calls import assert_heard, assert_only_relay, relay_for
from tests.support.child import running_child
from tests.support.relay import Relay
from tests.support.require import require

CALL_S = 3


@pytest.fixture
def janus_folder() -> Path:
    """Where the package keeps plugins and transports: Debian puts them below the multiarch folder."""
    require("janus")
    found = sorted(Path("/usr/lib").glob("**/janus/plugins/libjanus_echotest.so"))
    if not found:
        pytest.skip("no libjanus_echotest.so below /usr/lib: apt-get install janus")
    return found[0].parent.parent


def write_configuration(directory: Path, folder: Path, port: int) -> None:
    """Only what the test needs: the HTTP API on 127.0.0.1 and echotest; no other plugin, no STUN server."""
    plugins = [path.name for path in (folder / "plugins").glob("*.so") if "echotest" not in path.name]
    transports = [path.name for path in (folder / "transports").glob("*.so") if "http" not in path.name]
    (directory / "janus.jcfg").write_text(
        f"""general: {{
  configs_folder = "{directory}"
  plugins_folder = "{folder}/plugins"
  transports_folder = "{folder}/transports"
  events_folder = "{folder}/events"
  loggers_folder = "{folder}/loggers"
  interface = "127.0.0.1"
  debug_colors = false
}}
plugins: {{ disable = "{",".join(plugins)}" }}
transports: {{ disable = "{",".join(transports)}" }}
"""
    )
    (directory / "janus.transport.http.jcfg").write_text(
        f"""general: {{ http = true  port = {port}  ip = "127.0.0.1"  base_path = "/janus" }}
admin: {{ admin_http = false }}
"""
    )


@contextmanager
def running_janus(folder: Path, directory: Path) -> Iterator[str]:
    """Janus as our own child; yields the address of its API."""
    port = free_port(socket.SOCK_STREAM)
    write_configuration(directory, folder, port)
    command = [require("janus"), "-F", str(directory)]
    with running_child(command, says="HTTP webserver started", log=directory / "janus.log"):
        yield f"http://127.0.0.1:{port}/janus"


class EchoTest:
    """One handle on the echotest plugin."""

    def __init__(self, http: aiohttp.ClientSession, api: str) -> None:
        self._http = http
        self._session = api
        self._handle = ""

    async def open(self) -> None:
        """Create a session and attach to the plugin."""
        created = await self._post(self._session, janus="create")
        self._session += f"/{created['data']['id']}"
        attached = await self._post(self._session, janus="attach", plugin="janus.plugin.echotest")
        self._handle = f"{self._session}/{attached['data']['id']}"

    async def call(self, offer: str) -> str:
        """Send the offer; returns Janus's own answer."""
        await self._post(
            self._handle, janus="message", body={"audio": True}, jsep={"type": "offer", "sdp": offer}
        )
        while True:
            async with self._http.get(self._session) as reply:
                event = await reply.json()
            if "jsep" in event:
                return str(event["jsep"]["sdp"])
            assert event["janus"] in ("keepalive", "event"), event

    async def _post(self, url: str, **body: Any) -> dict[str, Any]:
        async with self._http.post(url, json=body | {"transaction": secrets.token_hex(4)}) as reply:
            answer: dict[str, Any] = await reply.json()
        assert answer["janus"] in ("success", "ack"), answer
        return answer


def through(echo: EchoTest, relay: Relay) -> Exchange:
    """What an application behind the relay does between its client and Janus."""

    async def exchange(offer: str) -> str:
        answer = await echo.call(without_candidates(offer)[0])
        status, text = relay.request("POST", "/v1/answers?backend=janus", answer.encode(), "application/sdp")
        assert status == 200, text
        assert_only_relay(text.decode(), relay)
        return text.decode()

    return exchange


async def test_echotest_through_the_relay(janus_folder: Path, tmp_path: Path) -> None:
    if own_networks() == ["127.0.0.0/8"]:
        pytest.skip("this machine has no address but 127.0.0.1, and Janus (libnice) never offers that one")
    with relay_for("janus", tmp_path) as relay, running_janus(janus_folder, tmp_path) as api:
        async with aiohttp.ClientSession() as http:
            echo = EchoTest(http, api)
            await echo.open()
            call = await make_call(through(echo, relay), CALL_S)
        assert_heard(call, relay, CALL_S)
