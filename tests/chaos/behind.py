"""A backend of a test's own behind the relay of a rig: it hears what the relay forwards, and answers as told.

with Behind(rig, "chatty", 7, answers) as chatty:
    ...
    assert chatty.heard == 1000
"""

from __future__ import annotations

import select
import socket
import threading
import tomllib
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from tests.chaos.courtesy import step_back
from tests.chaos.rig import ChaosRig
from tests.support.player import PlainBackend
from tests.support.trunk_backend import TrunkBackend, relay_ends

EPOCH: Final = 5
WAIT_MS: Final = 20
BUFFER_BYTES: Final = 16 << 20
Answers = Callable[[bytes], Iterable[bytes]]


def settings(rig: ChaosRig) -> dict[str, Any]:
    """The keys of the relay's relay.toml."""
    return tomllib.loads((rig.directory / "relay.toml").read_text())


def trunk_key(rig: ChaosRig) -> tuple[int, bytes] | None:
    """The trunk's key with its id; None when it has none."""
    rows = settings(rig).get("trunk_keys", [])
    return next(((int(row["id"]), bytes.fromhex(row["key"])) for row in rows), None)


def open_end(rig: ChaosRig) -> PlainBackend | TrunkBackend:
    """An end of the rig's upstream mode; it has the trunk's key, whose id must be 0."""
    made: PlainBackend | TrunkBackend
    if rig.upstream == "plain":
        made = PlainBackend()
    else:
        known, key = settings(rig), trunk_key(rig)
        ends = relay_ends("127.0.0.1", known["trunk_port"], known["shards"])
        made = TrunkBackend(ends, keys=dict([key] if key else []), epoch=EPOCH)
    made.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    return made


class Behind:
    """Registered under `name`, and under the number by which tokens name it. answers: what it sends back for
    each datagram that reached it; by default nothing. yields: takes the CPU only when nobody else wants it,
    beside calls whose latency is measured on the same CPU."""

    def __init__(
        self,
        rig: ChaosRig,
        name: str,
        number: int,
        answers: Answers = lambda _: (),
        *,
        yields: bool = False,
    ) -> None:
        self.name, self.number, self._answers, self._yields = name, number, answers, yields
        self.heard = self.said = 0
        self._end = open_end(rig)
        mode = {"mode": "trunk", "assume_up": True} if rig.upstream == "trunk" else {}
        address = "{}:{}".format(*self._end.address)
        rig.ask("PUT", f"/v1/backends/{name}", {"address": address, "transceiver": number, **mode})
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._end.close()

    def _run(self) -> None:
        if self._yields:
            step_back()
        waiting = select.poll()
        waiting.register(self._end.fileno(), select.POLLIN)
        while not self._over.is_set():
            if not waiting.poll(WAIT_MS):
                continue
            for way, payload in self._end.receive():
                self.heard += 1
                for answer in self._answers(payload):
                    self._end.send(way, answer)
                    self.said += 1
