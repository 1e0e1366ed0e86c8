"""What goes to the client: events as texts, in order, from the moment its data channel is open."""

from __future__ import annotations

from collections import deque

import msgspec

from pyfastpath.transceiver.dialogue import Ids
from pyfastpath.transceiver.realtime.events import Json


class Outbox:
    """A queue of events for the data channel. While there is none, what is put in is dropped: a WHIP client
    never opens one, and its call may last for hours."""

    def __init__(self, ids: Ids) -> None:
        self.is_open = False
        self._ids = ids
        self._texts: deque[str] = deque()

    def put(self, event: Json) -> None:
        """Queue an event as it is now; it gets an event_id unless it brings one."""
        if self.is_open:
            named = event if event.get("event_id") else event | {"event_id": self._ids("event")}
            self._texts.append(msgspec.json.encode(named).decode())

    def open(self) -> bool:
        """The data channel is open; False if it was already."""
        is_first = not self.is_open
        self.is_open = True
        return is_first

    def close(self) -> None:
        """The data channel is gone, and with it what it has not taken."""
        self.is_open = False
        self._texts.clear()

    def pop(self) -> str | None:
        """The oldest text, None when there is none."""
        return self._texts.popleft() if self._texts else None
