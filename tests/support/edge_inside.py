"""What an operator sees inside an edge that runs: numbers, sessions, pids; and what must add up."""

import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.support import http
from tests.support.edge import Edge
from tests.support.relay import PUBLISH_S, Sample

TRANSCEIVERS = ("t1", "t2")
WAIT_S = 20
LOOK_EVERY_S = 0.02
SUFFIX = "_total"


@dataclass(frozen=True)
class Numbers:
    """One look at the /metrics of one process. Names are given without `fastpath_` and `_total`."""

    samples: tuple[Sample, ...]

    def of(self, name: str, **labels: str) -> list[Sample]:
        """The samples of one metric, where the labels are these."""
        full = f"fastpath_{name}"
        return [
            sample
            for sample in self.samples
            if sample.name.removesuffix(SUFFIX) == full and labels.items() <= sample.labels.items()
        ]

    def total(self, name: str, **labels: str) -> int:
        """Their sum. AssertionError when the process exports no such metric."""
        found = self.of(name)
        assert found, f"no metric fastpath_{name}"
        return int(sum(sample.value for sample in self.of(name, **labels)))

    def by(self, name: str, label: str, **labels: str) -> dict[str, int]:
        """What is not zero, summed up by one label."""
        found: dict[str, int] = {}
        for sample in self.of(name, **labels):
            if sample.value:
                key = sample.labels[label]
                found[key] = found.get(key, 0) + int(sample.value)
        return found


def read_numbers(health: str) -> Numbers:
    """What the process whose health is at this URL says now."""
    with urlopen(f"{health}/metrics", timeout=10) as reply:
        families = text_string_to_metric_families(reply.read().decode())
        return Numbers(tuple(Sample(s.name, s.labels, s.value) for f in families for s in f.samples))


def numbers(edge: Edge, name: str) -> Numbers:
    """What relay, gateway, t1 or t2 says now."""
    return read_numbers(f"http://{settings(edge, name)['health_listen']}")


def settings(edge: Edge, name: str) -> dict[str, Any]:
    """The configuration a process was started with."""
    return tomllib.loads((edge.directory / f"{name}.toml").read_text())


def relay_address(edge: Edge) -> tuple[str, int]:
    """Where clients on this machine send."""
    host, _, port = settings(edge, "relay")["listen"][0].rpartition(":")
    return host, int(port)


def control(edge: Edge, name: str) -> Path:
    """The socket of a transceiver's control API."""
    return edge.directory / f"{name}.sock"


def sessions(edge: Edge, name: str) -> list[dict[str, Any]]:
    """What a transceiver says of its sessions."""
    status, said = http.ask(control(edge, name), "GET", "/v1/sessions")
    assert status == 200, said
    found: list[dict[str, Any]] = said["sessions"]
    return found


def holder(edge: Edge, call_id: str) -> str:
    """Which transceiver has this call."""
    (found,) = (
        name for name in TRANSCEIVERS if call_id in {session["call"] for session in sessions(edge, name)}
    )
    return found


def records(edge: Edge) -> dict[str, dict[str, Any]]:
    """What the gateway knows of the transceivers that live, by their names."""
    status, said = http.ask(edge.directory / "gateway.sock", "GET", "/v1/transceivers")
    assert status == 200, said
    return {row["record"]["id"]: row["record"] for row in said["transceivers"]}


def engine(edge: Edge) -> int:
    """The pid of the relay's engine that serves: of its keeper's children the oldest, the other stands by."""
    keeper = edge.process("relay")
    serving, *_ = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return int(serving)


def wait_until(done: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> float:
    """Ask until it is so; gives the seconds it took. What cannot be asked yet is not so yet."""
    began_s, why = time.monotonic(), ""
    while True:
        try:
            if done():
                return time.monotonic() - began_s
        except (OSError, ValueError, KeyError, AssertionError) as error:
            why = f" ({error!r})"
        assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s} s: {what}{why}"
        time.sleep(LOOK_EVERY_S)


def wait_until_whole(edge: Edge) -> None:
    """Until both transceivers take calls."""

    def is_whole() -> bool:
        found = records(edge)
        ready = (numbers(edge, name).total("transceiver_ready") for name in TRANSCEIVERS)
        return all(found[name]["state"] == "up" for name in TRANSCEIVERS) and all(ready)

    wait_until(is_whole, "both transceivers take calls")


def wait_until_quiet(edge: Edge) -> None:
    """Until no session is left and the last datagrams are counted."""
    wait_until(lambda: not any(sessions(edge, name) for name in TRANSCEIVERS), "all sessions have ended")
    time.sleep(PUBLISH_S)


def assert_conserved(edge: Edge) -> None:
    """Nothing is on its way, and nobody was killed: every datagram that one process sent to another arrived.

    Within each: received = what became of it, by name. Between them: what the relay forwarded up is what the
    transceivers received, what those sent is what the relay received down, but for the control records of the
    trunk, which are the relay's own.
    """
    wait_until_quiet(edge)
    relay = numbers(edge, "relay")
    transceivers = [numbers(edge, name) for name in TRANSCEIVERS]
    assert list(_unaccounted(relay)) == []
    assert relay.total("kernel_dropped_datagrams") == 0
    for one in transceivers:
        assert one.total("transceiver_received_datagrams") == sum(
            (
                one.total("transceiver_used_datagrams"),
                one.total("transceiver_dropped_datagrams"),
            )
        )
        assert one.by("transceiver_trunk_dropped", "reason") == {}
    up = sum(one.total("transceiver_received_datagrams") for one in transceivers)
    assert relay.total("forwarded_datagrams", direction="up") == up > 0
    down = sum(one.total("transceiver_sent_datagrams") for one in transceivers)
    control_records = relay.total("punted_datagrams", direction="down")
    assert relay.total("received_datagrams", direction="down") - control_records == down > 0


def _unaccounted(relay: Numbers) -> Iterator[tuple[dict[str, str], int]]:
    """received - forwarded - punted - dropped, for every shard and direction where it is not zero."""
    for received in relay.of("received_datagrams"):
        place = received.labels
        fates = (relay.total(f"{fate}_datagrams", **place) for fate in ("forwarded", "punted", "dropped"))
        difference = int(received.value) - sum(fates)
        if difference:
            yield place, difference
