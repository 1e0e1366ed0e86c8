"""One stream of a load: a sink, and a generator with sessions of its own.

A part of a mix of sizes is a stream. The relay sees one crowd of clients, and a backend for each stream.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastpath.load.generator import Generator
from fastpath.load.sink import Sink
from fastpath.load.trunk_sink import TrunkSink

from pyfastpath.errors import SocketError
from pyfastpath.tools.bench.options import Part

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Where the sessions of a load come from: first source address, and over how many ports they spread."""

    first_source: str
    sockets: int


class Stream:
    """A sink, and the generator that fills it once it is known where to send."""

    def __init__(self, part: Part, sessions: int, upstream: str, bind: Address, **trunk: Any) -> None:
        self.part, self.sessions = part, sessions
        self.run = secrets.randbits(31) + 1
        self.acknowledged = bytearray(8)  # what the sink received, for a windowed generator
        self.returned = bytearray(8)  # what the generator received, for a windowed sink
        known = {"flows": sessions, "run": self.run, "acknowledged": self.acknowledged}
        try:
            self.sink = TrunkSink(bind, **known, **trunk) if upstream == "trunk" else Sink(bind, **known)
        except OSError as error:
            raise SocketError(
                f"the sink cannot have {bind[0]}:{bind[1]}: {error.strerror}", "Choose another: --sink."
            ) from None
        self.address = (bind[0], int(self.sink.port))
        self.generator: Any = None

    def aim(self, target: Address, ufrags: Sequence[str], crowd: Crowd, inject: dict[str, Any]) -> None:
        """Make the generator, new or for another target."""
        if self.generator is not None:
            self.generator.close()
        self.generator = Generator(
            target,
            [ufrag.encode() for ufrag in ufrags],
            first_source=crowd.first_source,
            sockets=min(crowd.sockets, self.sessions),
            run=self.run,
            size_bytes=self.part.size_bytes,
            acknowledged=self.acknowledged,
            returned=self.returned,
            **({"size_spread": self.part.spread_bytes} if self.part.spread_bytes else {}),
            **inject,
        )

    def send_down(self, **speed: int) -> None:
        """The sink sends probes to every session's client, as Generator.run does the other way."""
        self.sink.send(
            acknowledged=self.returned,
            size_bytes=self.part.size_bytes,
            size_spread=self.part.spread_bytes,
            **speed,
        )

    def end(self, way: str) -> Any:
        """The arrivals that count: at the sink, or back at the generator."""
        return self.sink.arrivals if way == "up" else self.generator.echoes

    def close(self) -> None:
        """Close every socket."""
        if self.generator is not None:
            self.generator.close()
        self.sink.close()
