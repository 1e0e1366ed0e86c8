"""Calls that come and go: a backend joins, sessions open, talk, move to other addresses, and leave.

    wave = Wave(rig, number=3, upstream="trunk", flows=100, pps=2_000)
    wave.talk(2.0)
    wave.rebind()
    wave.talk(2.0)
    books = wave.leave()

Every wave has a sink and clients of its own, and books of its own. It asks the relay patiently: an engine may
die at any moment.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, Final

from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.options import Part
from pyfastpath.tools.bench.streams import Crowd
from pyfastpath.tools.bench.threads import in_threads, sinks_serve, stop_generator
from tests.chaos.books import Totals, totals_of
from tests.chaos.rig import SIZE_BYTES, ChaosRig, Upstream
from tests.chaos.sessions import installed, patiently

FIRST_SOURCE: Final = IPv4Address("127.32.0.1")
SOURCES_A_WAVE: Final = 4096  # a wave number's addresses are its own
OPEN_S: Final = 30.0
STILL: Final = 20  # tenths of a second without an arrival: what is missing is lost


class Wave:
    """One group of calls to one backend of its own."""

    def __init__(self, rig: ChaosRig, *, number: int, upstream: Upstream, flows: int, pps: int) -> None:
        self._rig, self._name = rig, f"wave-{number}"
        self._upstream, self._flows, self._pps = upstream, flows, pps
        self._source = FIRST_SOURCE + number % 1024 * SOURCES_A_WAVE
        self._books = Totals()
        self._load = self._begin(0)
        mode: dict[str, Any] = {"mode": upstream} | ({"assume_up": True} if upstream == "trunk" else {})
        host, port = self._load.backends[0]
        body = {"address": f"{host}:{port}", **mode}
        patiently(lambda: rig.ask("PUT", f"/v1/backends/{self._name}", body))
        self._ufrags = installed(rig.relay, [self._name] * flows)
        self._open()

    def talk(self, seconds: float) -> None:
        """Everybody sends; returns when all has arrived or nothing moves any more."""
        speed = {"rate_pps": self._pps, "duration_ms": int(seconds * 1000), "drain_ms": 0, "echo": True}
        with sinks_serve(self._load.streams, seconds, echo=True, nap=False):
            in_threads(self._load.streams, lambda stream: stream.generator.run(**speed), stop_generator)
            self._settle()

    def rebind(self) -> None:
        """Everybody comes from another address, with a new check under the old name (RFC 8445 section 9)."""
        self._end()
        self._source += self._flows
        self._load = self._begin(self._load.backends[0][1])
        self._open()

    def leave(self) -> Totals:
        """The backend goes; what was sent and what arrived in the whole life of the wave."""
        self._end()
        patiently(self._remove)
        return self._books

    def _begin(self, port: int) -> Load:
        """A sink at this port (0: any), which knows nothing of what came before."""
        return Load([Part(SIZE_BYTES)], self._flows, self._upstream, ("127.0.0.1", port))

    def _open(self) -> None:
        crowd = Crowd(str(self._source), 1)
        self._load.aim([self._rig.relay.listen], self._ufrags, crowd, {"inject": "mmsg"})
        confirmed = self._load.open(OPEN_S)
        assert confirmed == self._flows, f"{self._name}: {confirmed} of {self._flows} calls were set up"

    def _settle(self) -> None:
        """Take echoes until nothing is missing, or nothing came for two seconds."""
        arrived, still = -1, 0
        while (now := totals_of(self._load, "echo")).lost > 0 and still < STILL:
            still = still + 1 if now.arrived == arrived else 0
            arrived = now.arrived
            in_threads(
                self._load.streams, lambda stream: stream.generator.receive(duration_ms=100), stop_generator
            )

    def _end(self) -> None:
        self._books = self._books.plus(totals_of(self._load, "echo"))
        self._load.close()

    def _remove(self) -> None:
        """Gone already is gone: the answer to a first request may have died with an engine."""
        status, said = self._rig.relay.request("DELETE", f"/v1/backends/{self._name}")
        assert status in (204, 404), said.decode()
