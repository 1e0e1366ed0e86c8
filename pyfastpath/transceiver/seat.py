"""A session as the endpoint holds it: with its data channel, its timer and those who watch it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pyfastpath.transceiver.answering import Made
from pyfastpath.transceiver.association import Association
from pyfastpath.transceiver.events import State
from pyfastpath.transceiver.requests import CreateSession, SessionError, SessionInfo
from pyfastpath.transceiver.session import Session

WATCH_CHANGES_MAX: Final = 64  # kept for a watcher that does not read; then the oldest go
WATCHES_MAX: Final = 64  # of one session: a gateway has at most eight
Watch = asyncio.Queue[SessionInfo]


class Seat:
    """One call. clock: the event loop's; wish: ask the endpoint for a turn of this seat; fail: tell it,
    inside an exception, that the session has come to its end."""

    def __init__(
        self,
        request: CreateSession,
        *,
        clock: Callable[[], float],
        wish: Callable[[Seat], None],
        fail: Callable[[Seat], None],
    ) -> None:
        self.request = request
        self.due = math.inf  # when the endpoint will call handle_timer
        self.counted_as: State = "created"
        self._clock = clock
        self._wish = wish
        self._fail = fail
        self.session: Session
        self.made: Made
        self._association: Association | None = None
        self._label = ""
        self._watches: set[Watch] = set()

    def take(self, made: Made) -> None:
        """The session that sits here."""
        self.made, self.session = made, made.session

    def wish(self) -> None:
        """Something happened outside of the endpoint's own turn."""
        self._wish(self)

    def info(self) -> SessionInfo:
        """What is known of it now."""
        session, heard = self.session, self.session.connection.reception
        return SessionInfo(
            sid=self.request.sid,
            call=self.request.call,
            state=session.state,
            reason=session.reason,
            steps_ms=dict(session.steps_ms),
            agent=type(session.agent).name,
            seconds=self._clock() - session.began_s,
            packets_received=heard.packets_received,
            packets_sent=heard.packets_sent,
            packets_lost=heard.packets_lost,
        )

    # ---- the data channel -------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """An SCTP packet. The association is made for the first one; none was offered: ignored."""
        if self._association is None:
            offered = self.made.offer.data
            if offered is None:
                return
            self._association = Association(
                send=self._send_data,
                is_client=self.made.is_client,
                remote_port=offered.sctp_port,
                max_message_size=offered.max_message_size,
                on_open=self._opened,
                on_text=self._received,
                on_closed=self._closed,
            )
        self._association.receive(data)

    def send_text(self, text: str) -> None:
        """To the client's data channel, the first it opened; dropped when it has none."""
        if self._association is not None and self._label:
            self._association.send_text(self._label, text)

    def _send_data(self, data: bytes) -> None:
        self.session.connection.send_data(data, self._clock())
        self.wish()

    def _opened(self, label: str) -> None:
        if not self._label:
            self._label = label
            self._step(self.session.data_opened)

    def _received(self, label: str, text: str) -> None:
        if label == self._label:
            self._step(self.session.receive_text, text)

    def _closed(self, label: str) -> None:
        if label == self._label:  # the client may open another one
            self._label = ""
            self._step(self.session.data_closed)

    def _step(self, step: Callable[..., None], *what: str) -> None:
        """SCTP has its own turns, in which nobody else would catch what an agent raises."""
        try:
            step(*what, self._clock())
        except Exception:
            self._fail(self)
        self.wish()

    # ---- watchers ---------------------------------------------------------------------------------

    def watch(self) -> Watch:
        """A queue that gets the state now and every change from now on. SessionError: too_many_streams."""
        if len(self._watches) >= WATCHES_MAX:
            raise SessionError(
                f"{WATCHES_MAX} follow this session already.", "Close one.", code="too_many_streams"
            )
        watch: Watch = asyncio.Queue(WATCH_CHANGES_MAX)
        watch.put_nowait(self.info())
        self._watches.add(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Tell it no more."""
        self._watches.discard(watch)

    def tell(self, state: State) -> None:
        """A change, to all who watch; one that does not read loses the oldest."""
        for watch in self._watches:
            if watch.full():
                watch.get_nowait()
            watch.put_nowait(replace(self.info(), state=state))

    async def close(self) -> None:
        """Release the data channel's timers."""
        if self._association is not None:
            await self._association.close()
