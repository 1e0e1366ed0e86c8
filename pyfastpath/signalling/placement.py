"""Which transceiver gets a new call: the least loaded one alive, of the nearest cluster.

Records are up to a second old. What was placed since is added to what they say, and one that failed comes
last until it is heard again, so that a burst of calls spreads and a dead one costs one attempt, not many.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pyfastpath.registry.record import TransceiverRecord
from pyfastpath.signalling.errors import CallError

RETRY_AFTER_S = 2


@dataclass(slots=True)
class _Since:
    """What happened with one transceiver since it was last heard."""

    heard_s: float
    placed: int = 0
    has_failed: bool = False


class Placement:
    """Chooses among records. Own cluster first, then any other."""

    def __init__(self, cluster: int) -> None:
        self._cluster = cluster
        self._since: dict[str, _Since] = {}

    def order(self, records: Iterable[TransceiverRecord], now: float) -> list[TransceiverRecord]:
        """Whoever may get a new call, best first. CallError no_capacity when nobody may."""
        alive = [record for record in records if record.is_alive(now)]
        self._forget(alive)
        usable = [
            record for record in alive if record.state == "up" and self._sessions(record) < record.capacity
        ]
        if not usable:
            raise no_capacity(alive)
        return sorted(usable, key=self._rank)

    def placed(self, record: TransceiverRecord) -> None:
        """It got a call."""
        self._note(record).placed += 1

    def gave_back(self, record: TransceiverRecord) -> None:
        """It did not take the call it got."""
        known = self._known(record)
        if known is not None and known.placed:
            known.placed -= 1

    def failed(self, record: TransceiverRecord) -> None:
        """It did not answer, or had no room."""
        self._note(record).has_failed = True

    def _note(self, record: TransceiverRecord) -> _Since:
        known = self._since.get(record.id)
        if known is None or known.heard_s != record.heard_s:
            known = self._since[record.id] = _Since(record.heard_s)
        return known

    def _known(self, record: TransceiverRecord) -> _Since | None:
        known = self._since.get(record.id)
        return known if known is not None and known.heard_s == record.heard_s else None

    def _sessions(self, record: TransceiverRecord) -> int:
        known = self._known(record)
        return record.sessions + (known.placed if known else 0)

    def _rank(self, record: TransceiverRecord) -> tuple[bool, bool, float, int, str]:
        known = self._known(record)
        return (
            known is not None and known.has_failed,
            record.cluster != self._cluster,
            self._sessions(record) / record.capacity,
            self._sessions(record),
            record.id,
        )

    def _forget(self, alive: list[TransceiverRecord]) -> None:
        for id in self._since.keys() - {record.id for record in alive}:
            del self._since[id]


def no_capacity(alive: list[TransceiverRecord]) -> CallError:
    """Why nobody can take a call, in one sentence."""
    if not alive:
        why = "no transceiver is alive"
    elif all(record.state != "up" for record in alive):
        why = "every transceiver is draining"
    else:
        why = "every transceiver is full"
    return CallError(f"{why}", "Try again in a moment.", code="no_capacity", retry_after_s=RETRY_AFTER_S)


def holder(
    records: Iterable[TransceiverRecord], cluster: int, xcvr: int, incarnation: int
) -> TransceiverRecord | None:
    """The transceiver that holds a call, in any state; None when it is gone or was started anew."""
    for record in records:
        if (record.cluster, record.xcvr, record.incarnation) == (cluster, xcvr, incarnation):
            return record
    return None
