"""A real relay for a test: `pyfastpath relay` as a child process, asked as an operator would ask it.

with running_relay(tmp_path, backends=[{"id": "a", "address": "127.0.0.1:5000"}]) as relay:
    relay.install("ufrag", backend="a")
    ...                                     # datagrams to relay.listen
    assert relay.total("forwarded_datagrams", direction="up") == 3
    relay.assert_conservation()
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from pyfastpath.tools.ports import free_port
from tests.support import http

READY_TIMEOUT_S = 60  # generous: a sanitizer build on a busy machine starts slowly
STOP_TIMEOUT_S = 30
PUBLISH_S = 0.3  # workers publish counters once a batch or when idle: a scrape may be this much behind
LOG_TAIL_BYTES = 4000

Address = tuple[str, int]


@dataclass(frozen=True)
class Sample:
    """One line of /metrics."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Relay:
    """A relay that runs. `listen` is where clients send; `admin` the path of its UNIX socket."""

    process: subprocess.Popen[bytes]
    listen: Address
    admin: Path
    health: str
    log: Path

    def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """One request to the admin API: (status, body)."""
        status, said, _ = http.request(self.admin, method, path, body, {"Content-Type": content_type})
        return status, said

    def install(self, ufrag: str, **route: Any) -> dict[str, Any]:
        """PUT /v1/routes; `route` is backend=, and target= for an ip:port of its own."""
        status, body = self.request("PUT", "/v1/routes", json.dumps({"ufrag": ufrag, **route}).encode())
        assert status // 100 == 2, f"PUT /v1/routes: {status} {body.decode()}"
        installed: dict[str, Any] = json.loads(body)
        return installed

    def metrics(self) -> list[Sample]:
        """Everything /metrics says now."""
        with urlopen(f"{self.health}/metrics", timeout=10) as reply:
            families = text_string_to_metric_families(reply.read().decode())
            return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]

    def total(self, name: str, **labels: str) -> int:
        """Sum over shards of the counter fastpath_`name`_total, where the labels are these."""
        return int(
            sum(
                sample.value
                for sample in self.metrics()
                if sample.name == f"fastpath_{name}_total" and labels.items() <= sample.labels.items()
            )
        )

    def drops(self, *directions: str) -> dict[str, int]:
        """Drop reasons that occurred, with their number, in these directions (none: both)."""
        found: dict[str, int] = {}
        for sample in self.metrics():
            if sample.name != "fastpath_dropped_datagrams_total" or not sample.value:
                continue
            if not directions or sample.labels["direction"] in directions:
                reason = sample.labels["reason"]
                found[reason] = found.get(reason, 0) + int(sample.value)
        return found

    def assert_conservation(self) -> None:
        """received = forwarded + punted + dropped for every shard and direction, and no kernel drops."""
        time.sleep(PUBLISH_S)
        samples = self.metrics()
        sums: dict[tuple[str, str], float] = {}
        for sample in samples:
            kind = sample.name.removeprefix("fastpath_").removesuffix("_datagrams_total")
            if kind in ("received", "forwarded", "punted", "dropped"):
                place = (sample.labels["shard"], sample.labels["direction"])
                sign = 1 if kind == "received" else -1
                sums[place] = sums.get(place, 0) + sign * sample.value
        assert sums, "the relay exports no datagram counters"
        assert not any(sums.values()), f"datagrams not accounted for, by (shard, direction): {sums}"
        assert self.total("kernel_dropped_datagrams") == 0, "the kernel dropped datagrams before the relay"


def launched(command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """A child that writes to `log`."""
    return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


@contextmanager
def running_relay(
    directory: Path, *, launch: Callable[[list[str], IO[bytes]], Any] = launched, **config: Any
) -> Iterator[Relay]:
    """Start a relay, wait until it is ready, stop it at the end. Keys of `config` are those of relay.toml.

    launch: starts the command, and gives something like a Popen.
    """
    health = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    settings: dict[str, Any] = {
        "listen": [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"],
        "shards": 2,
        "workers": 1,
        "pin": False,
        "allow_clients": ["127.0.0.0/8"],
        "flows_max": 4096,
        "routes_max": 65_536,
        "targets_max": 1024,
        "plain_ports": 64,
        "receive_buffer_bytes": 1 << 20,
        "admin_socket": str(directory / "admin.sock"),
        "health_listen": health,
    } | config
    path = directory / "relay.toml"
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in settings.items()))
    log = directory / "relay.log"
    command = [sys.executable, "-m", "pyfastpath", "relay", "--config", str(path)]
    with log.open("ab") as out:
        process = launch(command, out)
    first = settings["listen"][0]
    host, _, port = (first if isinstance(first, str) else first["address"]).rpartition(":")
    relay = Relay(
        process, (host.strip("[]"), int(port)), Path(settings["admin_socket"]), f"http://{health}", log
    )
    try:
        _wait_until_ready(relay)
        yield relay
    finally:
        stop(relay)


def stop(relay: Relay) -> int:
    """Stop at once (SIGINT) and return the exit code; a relay that hangs is killed and fails the test."""
    if relay.process.poll() is None:
        relay.process.send_signal(signal.SIGINT)
    try:
        return relay.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        relay.process.kill()
        relay.process.wait()
        raise AssertionError(f"the relay did not stop on SIGINT:\n{_tail(relay.log)}") from None


def _wait_until_ready(relay: Relay) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    reason: object = "not asked yet"
    while time.monotonic() < deadline:
        if relay.process.poll() is not None:
            raise AssertionError(f"the relay ended ({relay.process.returncode}):\n{_tail(relay.log)}")
        try:
            with urlopen(f"{relay.health}/readyz", timeout=2) as reply:
                if reply.status == 200:
                    return
        except OSError as error:
            reason = error
        time.sleep(0.05)
    raise AssertionError(f"the relay was not ready in {READY_TIMEOUT_S} s ({reason}):\n{_tail(relay.log)}")


def _tail(log: Path) -> str:
    return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


def _toml(value: Any) -> str:
    """A value as TOML; a list of tables is written inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
