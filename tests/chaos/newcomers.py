"""New sessions that come while something is done to the relay: each asks until it is answered.

with Newcomers(rig, installed(rig.relay, ["sink-0"] * 200), per_s=100) as newcomers:
    ...
assert newcomers.missed == 0
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

from fastpath.load.generator import Generator

from tests.chaos.rig import ChaosRig
from tests.support.rig import until

FIRST_SOURCES: Final = ("127.3.0.1", "127.4.0.1", "127.5.0.1", "127.6.0.1")
LIMIT_S: Final = 600
ASK_AGAIN_MS: Final = 250
PATIENCE_S: Final = 20  # an ICE agent gives up later (RFC 8445 section 14.3, RFC 8489 section 6.2.1: 39.5 s)


class Newcomers:
    """Binding Requests of sessions nobody has heard of, per_s a second, each again every quarter of a second
    until the answer comes. The sinks of the rig answer. crowd: which addresses they come from, 0 to 3."""

    def __init__(self, rig: ChaosRig, ufrags: Sequence[str], *, per_s: int, crowd: int = 0) -> None:
        self._per_s, self._count = per_s, len(ufrags)
        self._generator = Generator(
            rig.relay.listen, [ufrag.encode() for ufrag in ufrags], first_source=FIRST_SOURCES[crowd]
        )
        self._pool = ThreadPoolExecutor(1)
        self._counters: dict[str, int] = {}
        self._p99_ms = 0.0

    def __enter__(self) -> Self:
        self._opening = self._pool.submit(
            self._generator.open_at,
            rate_pps=self._per_s,
            retry_ms=ASK_AGAIN_MS,
            duration_ms=LIMIT_S * 1000,
            drain_ms=PATIENCE_S * 1000,
        )
        until(lambda: self._look()["sent"] > 0, "the first newcomer", seconds=20)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self._opening.result()
        finally:
            self._generator.stop()
            self._pool.shutdown()
            self._counters = self._look()
            self._p99_ms = self._generator.setup_latency_ns(0.99) / 1e6
            self._generator.close()

    def give_up(self) -> None:
        """Wait until all have asked, and for no answer: what is expected is a refusal."""
        until(
            lambda: self._look()["sent"] == self._count and self._look()["retried"] > 0, "all ask", seconds=20
        )
        self._generator.stop()

    @property
    def confirmed(self) -> int:
        """How many were answered so far."""
        return (self._counters or self._look())["confirmed"]

    @property
    def missed(self) -> int:
        """How many asked and were never answered."""
        counters = self._counters or self._look()
        return counters["sent"] - counters["confirmed"]

    @property
    def words(self) -> str:
        """For a note."""
        counters = self._counters
        again = f", {counters['retried']:,} requests repeated" if counters["retried"] else ""
        confirmed = f"{counters['confirmed']:,} of {counters['sent']:,} new sessions confirmed meanwhile"
        return f"{confirmed}, p99 after {self._p99_ms:,.1f} ms{again}"

    def _look(self) -> dict[str, int]:
        counters: dict[str, int] = self._generator.setup_counters()
        return counters
