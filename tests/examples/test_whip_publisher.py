"""The WHIP publisher against a whole edge whose agent is an example too."""

import subprocess
import sys
import time
from pathlib import Path

from tests.support import http
from tests.support.edge import Edge, running_edge

CONNECT_TIMEOUT_S = 15


def sessions(edge: Edge) -> list[dict[str, object]]:
    """What both transceivers say of their calls."""
    found: list[dict[str, object]] = []
    for name in ("t1", "t2"):
        status, said = http.ask(edge.directory / f"{name}.sock", "GET", "/v1/sessions")
        assert status == 200
        found += said["sessions"]
    return found


def test_it_publishes_to_the_configured_agent_and_leaves_nothing(tmp_path: Path) -> None:
    with running_edge(tmp_path, "--agent", "examples.agents.backwards:Backwards") as edge:
        command = [sys.executable, "-m", "examples.whip_publisher", f"{edge.page}/whip", "--seconds", "3"]
        publisher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not any(one["state"] == "live" for one in sessions(edge)):
            assert time.monotonic() < deadline, "no live session"
            time.sleep(0.1)
        (session,) = sessions(edge)
        assert session["agent"] == "backwards"
        output, _ = publisher.communicate(timeout=30)
        assert publisher.returncode == 0, output
        assert "packets came back" in output
        assert sessions(edge) == []


def test_a_wrong_address_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.whip_publisher", "http://127.0.0.1:9/whip"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("whip_publisher: http://127.0.0.1:9/whip does not answer")
