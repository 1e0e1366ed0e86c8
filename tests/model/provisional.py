"""Provisional flows as a list in the order they were born: what fastpath/provisional must equal."""

from dataclasses import dataclass

TTL_MS = 5_000
SESSION_CAP = 8
CLIENT_CAP = 8
LOOK_AHEAD = 8


@dataclass
class Provisional:
    """`place`: its index in the ring."""

    client: object
    ufrag: int
    last_seen_ms: int
    place: int


class ProvisionalRing:
    """Oldest first in `flows`; `born` counts all that ever were."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.flows: list[Provisional] = []
        self.born = 0

    def of_client(self, client: object) -> list[int]:
        """Places, newest first."""
        return [flow.place for flow in reversed(self.flows) if flow.client == client]

    def find(self, client: object, ufrag: int) -> Provisional | None:
        return next((flow for flow in self.flows if (flow.client, flow.ufrag) == (client, ufrag)), None)

    def crowded_out(self, ufrag: int) -> int | None:
        """The place of the oldest flow of a ufrag that holds its cap of them."""
        held = [flow.place for flow in self.flows if flow.ufrag == ufrag]
        return held[0] if len(held) >= SESSION_CAP else None

    def overfull(self, client: object) -> int | None:
        """The place of the oldest flow of a client that holds its cap of them."""
        held = self.of_client(client)
        return held[-1] if len(held) >= CLIENT_CAP else None

    def place(self) -> tuple[int, bool]:
        """Where the next one goes, and whether somebody has to go for it."""
        taken = {flow.place for flow in self.flows}
        ahead = [(self.born + step) % self.capacity for step in range(LOOK_AHEAD)]
        free = [place for place in ahead if place not in taken]
        return (free[0], False) if free else (ahead[0], True)

    def insert(self, flow: Provisional) -> None:
        self.flows.append(flow)
        self.born += 1

    def remove(self, place: int) -> None:
        self.flows = [flow for flow in self.flows if flow.place != place]

    def expired(self, now_ms: int) -> set[int]:
        return {flow.place for flow in self.flows if now_ms - flow.last_seen_ms >= TTL_MS}
