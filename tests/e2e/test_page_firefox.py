"""The page in Firefox, on a whole edge in a network of its own: Firefox offers no loopback candidate.

The edge has a public address there and a self-signed certificate, as for a browser in the next room.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.edge import Edge, running_edge
from tests.support.firefox import FirefoxCall, call_with_firefox
from tests.support.namespace import Namespace, network_namespace
from tests.support.recording import loudest_hz
from tests.support.require import require
from tests.support.screens import assert_shows_something

TALK_S = 5
MICROPHONE_HZ = 700
PACKETS_MIN = 200  # of the 250 in five seconds: a busy machine may begin late
HERTZ_OFF_MAX = 5
NUMBERS = {"rtt", "jitter", "loss", "buffer", "sent", "received"}


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    require("firefox-esr", "npm", "root", "namespaces")
    with network_namespace() as made:
        yield made


@pytest.fixture(scope="module")
def edge(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    flags = ["--public-ip", namespace.address, "--tls", "self-signed"]
    with running_edge(tmp_path_factory.mktemp("edge"), *flags, prefix=namespace.command()) as running:
        yield running


def call(edge: Edge, namespace: Namespace, agent: str, screenshot: Path) -> FirefoxCall:
    """A call in the namespace; what must hold with any agent is checked."""
    made = call_with_firefox(
        edge.page,
        agent,
        seconds=TALK_S,
        microphone_hz=MICROPHONE_HZ,
        screenshot=screenshot,
        prefix=namespace.command(),
    )
    assert made.failure is None
    assert made.states == ["idle", "live", "ended"]
    assert made.stat("inbound-rtp")["packetsReceived"] >= PACKETS_MIN
    assert made.stat("inbound-rtp")["packetsLost"] == 0
    assert made.stat("outbound-rtp")["packetsSent"] >= PACKETS_MIN
    remotes = {s["address"] for s in made.stats if s["type"] == "remote-candidate"}
    assert remotes == {namespace.address}
    assert set(made.shown) == {f"number-{name}" for name in NUMBERS}
    assert "–" not in made.shown.values(), made.shown
    assert made.levels[1] > 30, "the agent's meter stands still"
    assert_shows_something(screenshot.read_bytes(), "light")
    return made


@pytest.mark.slow
def test_firefox_hears_its_own_tone_from_the_echo(edge: Edge, namespace: Namespace, tmp_path: Path) -> None:
    made = call(edge, namespace, "echo", tmp_path / "echo.png")
    assert abs(loudest_hz(made.heard) - MICROPHONE_HZ) < HERTZ_OFF_MAX


@pytest.mark.slow
def test_firefox_hears_the_tone_of_the_agent(edge: Edge, namespace: Namespace, tmp_path: Path) -> None:
    made = call(edge, namespace, "tone", tmp_path / "tone.png")
    assert abs(loudest_hz(made.heard) - MICROPHONE_HZ) > HERTZ_OFF_MAX, "its own microphone came back"
    assert np.abs(made.heard).max() > 500
