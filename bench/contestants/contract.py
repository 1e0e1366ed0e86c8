"""What a benchmark knows of every relay: name, what stands behind it, how to start it, how to open flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.place import Place

Address = tuple[str, int]
Upstream = Literal["plain", "trunk"]
OpenFlows = Callable[[Any, Any, int], int]


def ask_bindings(generator: Any, _sink: Any, timeout_ms: int) -> int:
    """The set-up of every relay that routes by ufrag: a Binding Request a flow, answered by the sink."""
    confirmed: int = generator.setup(timeout_ms=timeout_ms)
    return confirmed


@dataclass(frozen=True)
class Running:
    """A relay that serves.

    listen      where clients send: one address, or one a flow
    pid         its process; with its descendants it is what CPU is counted of
    open_flows  (generator, sink, timeout_ms) -> how many flows were confirmed; the sink must be running
    generator   further arguments of the Generator that speaks to it
    """

    listen: Address | list[Address]
    pid: int
    open_flows: OpenFlows = ask_bindings
    generator: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """One relay, with its settings.

    upstream   what the sink must be: a plain server or a transceiver on a trunk
    launch     what `start` does once the flows have room
    flows_max  more than these it cannot hold against one backend address
    needs      programs without which it cannot be built or started, each with its Debian package
    """

    name: str
    upstream: Upstream
    launch: Callable[[Place, Address, Sequence[str]], AbstractContextManager[Running]]
    flows_max: int = 1_000_000
    needs: tuple[tuple[str, str], ...] = ()

    def start(self, place: Place, backend: Address, ufrags: Sequence[str]) -> AbstractContextManager[Running]:
        """Yields it Running, with a route to `backend` for each ufrag; it ends with the context.

        RuntimeError when it does not start, or cannot hold that many flows.
        """
        if len(ufrags) > self.flows_max:
            raise RuntimeError(
                f"{self.name} holds at most {self.flows_max:,} flows here, not {len(ufrags):,}"
            )
        return self.launch(place, backend, ufrags)
