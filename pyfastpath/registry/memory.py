"""A registry inside one process: what its gateway's admin API was told."""

import msgspec

from pyfastpath.registry.record import ALIVE_S, TransceiverRecord

FORGET_AFTER_S = 60 * ALIVE_S  # long dead: nothing is kept for whoever never comes back


class MemoryRegistry:
    """A dict. See registry.record.Registry."""

    def __init__(self) -> None:
        self._records: dict[str, TransceiverRecord] = {}

    async def announce(self, record: TransceiverRecord, now: float) -> None:
        """Stamp it with `now` and keep it."""
        self._records[record.id] = msgspec.structs.replace(record, heard_s=now)
        dead = [one.id for one in self._records.values() if now - one.heard_s > FORGET_AFTER_S]
        for id in dead:
            del self._records[id]

    async def withdraw(self, id: str) -> None:
        """Forget it."""
        self._records.pop(id, None)

    async def records(self, now: float) -> list[TransceiverRecord]:
        """Whoever is alive, by id."""
        return [self._records[id] for id in sorted(self._records) if self._records[id].is_alive(now)]

    async def close(self) -> None:
        """Nothing is held."""
