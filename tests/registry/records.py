"""A record of a transceiver, for every test of a registry."""

from typing import Any

from pyfastpath.registry.record import TransceiverRecord


def record(id: str = "t1", **changed: Any) -> TransceiverRecord:
    fields: dict[str, Any] = {"cluster": 0, "xcvr": 1, "incarnation": 0, "control": "unix:/run/t1.sock"}
    return TransceiverRecord(id=id, **{**fields, "capacity": 100, **changed})
