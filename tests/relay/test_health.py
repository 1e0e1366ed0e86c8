"""/healthz, /readyz and /metrics."""

import socket
import urllib.error
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pyfastpath.relay import sockets
from pyfastpath.relay.relay import Relay
from tests.relay.conftest import MakeConfig
from tests.support.http import ask, request


@pytest.fixture
def relay(make_config: MakeConfig) -> Iterator[Relay]:
    with Relay(make_config(health_listen="127.0.0.1:0", backends=["a=127.0.0.1:9"])) as running:
        yield running


@pytest.fixture
def health(relay: Relay) -> str:
    return str(sockets.local_endpoint(relay.call(lambda control: control.opening.health)))


@pytest.mark.parametrize("path", ["/healthz", "/live"])
def test_health_is_this_process_only(relay: Relay, health: str, path: str) -> None:
    relay.drain()
    relay.backends.drain("a")
    assert ask(health, "GET", path) == (200, {"healthy": True})
    relay.call(lambda control: control.crew.stop())
    assert ask(health, "GET", path) == (503, {"healthy": False})


@pytest.mark.parametrize("path", ["/readyz", "/ready"])
def test_ready_means_that_a_new_session_would_be_routed(relay: Relay, health: str, path: str) -> None:
    assert ask(health, "GET", path) == (200, {"ready": True, "reasons": []})
    relay.drain()
    assert ask(health, "GET", path) == (503, {"ready": False, "reasons": ["draining"]})
    relay.drain(False)
    relay.backends.drain("a")
    assert ask(health, "GET", path) == (503, {"ready": False, "reasons": ["no_backend_up"]})
    relay.backends.drain("a", False)
    relay.call(lambda control: control.crew.stop())
    assert ask(health, "GET", path) == (503, {"ready": False, "reasons": ["worker_ended"]})


def test_readiness_ends_before_the_first_flow_is_refused_and_returns_after_the_last(relay: Relay) -> None:
    """What the workers are told and what a probe would be told, in the order in which it happens."""
    seen: list[tuple[bool, bool]] = []

    def watched(draining: bool) -> None:
        def work(control):  # type: ignore[no-untyped-def]
            publish = control.settings.publish

            class Watching:
                def __getattr__(self, name: str) -> object:
                    return getattr(settings, name)

                def publish(self, **policy: object) -> None:
                    seen.append(("draining" in control.unready(), bool(policy["draining"])))
                    publish(**policy)

            settings, control.settings = control.settings, Watching()
            control.begin_drain() if draining else control.end_drain()
            control.settings = settings

        relay.call(work)

    watched(True)
    watched(False)
    assert seen == [(True, True), (True, False)], "not ready when refusal begins, and until it has ended"


def test_metrics_parse_in_both_formats(health: str) -> None:
    status, said, headers = request(health, "GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert len(list(parse_text(said.decode()))) > 30
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    _, said, headers = request(health, "GET", "/metrics", headers=accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert len(list(parse_openmetrics(said.decode()))) > 30


def test_nothing_else_is_there(health: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/v1/status"), ("PUT", "/v1/routes"), ("POST", "/metrics")):
        assert request(health, method, path)[0] in (404, 405), (method, path)


@pytest.mark.parametrize(
    "nonsense",
    [b"\x16\x03\x01\xff\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 99_999],
)
def test_nonsense_is_answered_and_fills_no_log(
    health: str, nonsense: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = health.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as stranger:
        stranger.sendall(nonsense)
        assert stranger.recv(4096)[:13] in (b"HTTP/1.0 400 ", b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")
    assert ask(health, "GET", "/healthz") == (200, {"healthy": True})
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_it_ends_with_the_relay(relay: Relay, health: str) -> None:
    relay.stop()
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        request(health, "GET", "/healthz")
