"""Another version takes over: every call goes on, and one that does not work is refused.

Real processes of real (copied) versions. On the debug build one of them has tables of another layout.
"""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyfastpath
from pyfastpath.cli import run
from pyfastpath.relay.succession import MISFIT
from tests.support.installed import Installed
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.relay import Relay
from tests.support.rig import until

OLD = pyfastpath.__version__
LAYOUTS = [0, 1] if os.environ.get("FASTPATH_PROFILE") == "debug" else [0]  # fastpath/bump.pxd
UPGRADE_S = 90.0
CALLS = 4


def stand_by(relay: Relay) -> int:
    """How many engines have stood by: one that still imports would import what is installed meanwhile."""
    return relay.log.read_text().count(" stands by\n")


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with udp_end() as end:
        yield end


@pytest.fixture
def relay(installed: Installed, server: socket.socket) -> Iterator[Relay]:
    with installed.running(backends=[{"id": "a", "address": endpoint_text(server)}]) as running:
        until(lambda: stand_by(running) == 1, "an engine stands by", seconds=UPGRADE_S)
        yield running


@pytest.fixture
def calls(relay: Relay, server: socket.socket) -> Iterator[list[PlainCall]]:
    made = []
    for number in range(CALLS):
        relay.install(f"ufrag{number}", backend="a", session=f"call-{number}")
        made.append(PlainCall(relay.listen, server, f"ufrag{number}"))
        made[-1].confirm()
        made[-1].exchange()
    yield made
    for call in made:
        call.close()


def ask(relay: Relay, method: str, path: str) -> Any:
    status, said = relay.request(method, path, b"")
    assert status < 300, said.decode()
    return json.loads(said)


def ended(relay: Relay) -> dict[str, Any]:
    """How the upgrade under way ends."""
    found: dict[str, Any] = {}

    def has_ended() -> bool:
        try:
            found.update(ask(relay, "GET", "/v1/upgrade"))
        except OSError:  # one engine goes, the other comes
            return False
        return found["state"] in ("done", "failed")

    until(has_ended, "the end of the upgrade", seconds=UPGRADE_S)
    return found


def tables_open(pid: int) -> int:
    """Descriptors of tables: memory of old ones is given back only when nobody has them open."""
    found = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a connection that has just ended
            found += "memfd:fastpath-sha" in os.readlink(path)  # noqa: PTH115
    return found


def flows(relay: Relay) -> list[Any]:
    fixed = ("client", "backend", "upstream", "state", "class", "session")
    rows = ask(relay, "GET", "/v1/flows")["flows"]
    return sorted([str(flow.get(key)) for key in fixed] for flow in rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(
    installed: Installed, relay: Relay, calls: list[PlainCall], layout: int, server: socket.socket
) -> None:
    installed.version("2.0", layout=layout)
    before, old = flows(relay), ask(relay, "GET", "/v1/status")["pid"]
    held = tables_open(old)
    for target in ("2.0", OLD):
        installed.switch(target)
        so_far = stand_by(relay)
        assert run(["ctl", "--socket", str(relay.admin), "upgrade"]) == 0
        status = ask(relay, "GET", "/v1/status")
        assert status["version"] == target
        assert status["pid"] != old
        assert tables_open(status["pid"]) == held
        assert flows(relay) == before
        for call in calls:
            call.exchange()
        os.kill(status["pid"], signal.SIGKILL)  # whoever stands by works on the same tables
        for call in calls:
            call.exchange()
        until(lambda: stand_by(relay) >= so_far + 1, "another one stands by", seconds=UPGRADE_S)  # noqa: B023
    relay.install("late", backend="a")
    with PlainCall(relay.listen, server, "late") as late:
        late.confirm()
        late.exchange()
    relay.assert_conservation()


def test_a_signal_does_it_too(installed: Installed, relay: Relay, calls: list[PlainCall]) -> None:
    installed.version("2.0")
    installed.switch("2.0")
    relay.process.send_signal(signal.SIGUSR2)
    late = [bytes([0x80, 96, number]) + bytes(40) for number in range(50)]
    for datagram in late:  # before, while or after one engine goes on for the other
        calls[0].client.sendto(datagram, relay.listen)
    assert [calls[0].server.recvfrom(2048)[0] for _ in late] == late
    assert ended(relay) == {"version": "2.0", "state": "done", "text": "version 2.0 serves"}
    for call in calls:
        call.exchange()
    relay.assert_conservation()


def test_a_version_that_cannot_be_imported_is_refused(
    installed: Installed, relay: Relay, calls: list[PlainCall]
) -> None:
    pid = ask(relay, "GET", "/v1/status")["pid"]
    installed.broken_import("2.0")
    installed.switch("2.0")
    assert run(["ctl", "--socket", str(relay.admin), "upgrade"]) == 1
    said = ended(relay)
    assert (said["version"], said["state"]) == (OLD, "failed")
    assert "before it could take over: the running one goes on" in said["text"]
    assert ask(relay, "GET", "/v1/status")["pid"] == pid
    assert "a file is missing" in relay.log.read_text()
    for call in calls:
        call.exchange()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_version_that_crashes_at_its_start_gives_way_to_the_old_one(
    installed: Installed, relay: Relay, calls: list[PlainCall], layout: int
) -> None:
    before = flows(relay)
    installed.crash_at_start("2.0", layout=layout)
    installed.switch("2.0")
    assert run(["ctl", "--socket", str(relay.admin), "upgrade"]) == 1
    said = ended(relay)
    assert said["version"] == OLD
    assert said["text"] == "version 2.0 ended at its start (SIGSEGV): the old version goes on"
    assert flows(relay) == before
    for call in calls:
        call.exchange()
    relay.assert_conservation()


if len(LAYOUTS) > 1:

    def test_another_layout_installed_without_an_upgrade_ends_the_relay_once_nobody_is_left(
        installed: Installed, relay: Relay
    ) -> None:
        installed.version("2.0", layout=1)
        installed.switch("2.0")
        for warning in ("nobody stands by until an upgrade", "flows are lost, the relay ends"):
            os.kill(ask(relay, "GET", "/v1/status")["pid"], signal.SIGKILL)
            until(lambda: warning in relay.log.read_text(), warning, seconds=UPGRADE_S)  # noqa: B023
        assert relay.process.wait(UPGRADE_S) == MISFIT
        assert "version 2.0, installed meanwhile, has tables of another layout" in relay.log.read_text()
        assert "Traceback" not in relay.log.read_text()


def test_while_one_is_under_way_another_is_refused(installed: Installed, relay: Relay) -> None:
    installed.version("2.0")
    installed.switch("2.0")
    assert relay.request("POST", "/v1/upgrade", b"")[0] == 202
    status, said = relay.request("POST", "/v1/upgrade", b"")
    assert (status, json.loads(said)["error"]["code"]) == (409, "conflict")
    assert ended(relay)["state"] == "done"
