"""Who a transceiver is to relays and gateways, and the record that says how it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pyfastpath.registry.record import State, TransceiverRecord
from pyfastpath.transceiver.endpoint import Endpoint

STATE_NUMBERS: Final[dict[State, int]] = {
    "up": 1,
    "draining": 2,
    "stopping": 3,
}  # of the trunk's state record


@dataclass(slots=True)
class Member:
    """control: unix:PATH or http://ip:port, where gateways ask. is_stopping: it will end whatever comes."""

    id: str
    cluster: int
    xcvr: int
    incarnation: int
    control: str
    is_stopping: bool = field(default=False)

    def record(self, endpoint: Endpoint) -> TransceiverRecord:
        """How it is now."""
        state: State = "stopping" if self.is_stopping else "draining" if endpoint.is_draining else "up"
        return TransceiverRecord(
            id=self.id,
            cluster=self.cluster,
            xcvr=self.xcvr,
            incarnation=self.incarnation,
            control=self.control,
            state=state,
            sessions=len(endpoint),
            capacity=endpoint.capacity,
        )

    def tell_relays(self, endpoint: Endpoint) -> None:
        """The same as a state record on the trunk, for every relay socket."""
        record = self.record(endpoint)
        if endpoint.trunk is not None:
            endpoint.trunk.send_state(
                state=STATE_NUMBERS[record.state],
                incarnation=record.incarnation,
                cluster=record.cluster,
                xcvr=record.xcvr,
                sessions=record.sessions,
                capacity=record.capacity,
            )
