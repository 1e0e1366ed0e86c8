"""A flow table as a dict: what fastpath/flows must equal, slot numbers and memory apart."""

from dataclasses import dataclass

CONFIRMED_TTL_MS = 60_000
TAUGHT_TTL_MS = 5_000


@dataclass
class Flow:
    """`version`: of two copies the newer wins."""

    backend: int
    version: int
    last_seen_ms: int
    taught: bool = False


class FlowTable:
    """By client; `flows_max` live flows at most."""

    def __init__(self, flows_max: int) -> None:
        self.flows_max = flows_max
        self.flows: dict[object, Flow] = {}

    def insert(self, client: object, flow: Flow) -> bool:
        if len(self.flows) >= self.flows_max:
            return False
        self.flows[client] = flow
        return True

    def expired(self, now_ms: int) -> set[object]:
        """Whose time is over."""
        return {
            client
            for client, flow in self.flows.items()
            if now_ms - flow.last_seen_ms >= (TAUGHT_TTL_MS if flow.taught else CONFIRMED_TTL_MS)
        }
