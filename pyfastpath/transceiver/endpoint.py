"""The sockets, the clock and the sessions of one transceiver process: all the I/O there is around `Session`.

Two sockets serve every session: the trunk towards the relays and, where configured, a plain one for clients
that come directly. A datagram finds its session by the ufrag it names (STUN) or by the path it came on (all
others); what the sessions have to say to it leaves in one batch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Final

from pyfastpath.errors import WireError
from pyfastpath.transceiver.answering import Answering
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.events import DataReceived, State, StateChanged, TextToSend
from pyfastpath.transceiver.ice import PathAdded, PathRemoved
from pyfastpath.transceiver.path import Path, identity_of
from pyfastpath.transceiver.requests import CreateSession, SessionError, SessionInfo
from pyfastpath.transceiver.roster import Roster
from pyfastpath.transceiver.seat import Seat, Watch
from pyfastpath.transceiver.sockets import Outgoing, PlainSocket, TrunkSocket
from pyfastpath.types import Endpoint as Address
from pyfastpath.wire.stun import BINDING_REQUEST, parse_message

log = logging.getLogger("pyfastpath.transceiver")

TOGETHER_S: Final = 0.001  # so late a timer is served, together with those that come due meanwhile


class Endpoint:
    """Every session of this process. All methods belong to the thread of the event loop."""

    def __init__(
        self,
        answering: Answering,
        counters: Counters,
        *,
        trunk: TrunkSocket | None,
        plain: PlainSocket | None,
        capacity: int,
    ) -> None:
        self.counters = counters
        self.trunk = trunk
        self.plain = plain
        self.capacity = capacity
        self.is_draining = False
        self._answering = answering
        self._roster: Roster[Seat] = Roster()
        self._dirty: dict[Seat, None] = {}  # touched: they may have something to say
        self._closing: set[asyncio.Task[None]] = set()
        self._timers: list[tuple[float, int]] = []  # when, whose sid: a timer keeps no session alive
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    # ---- life -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Serve the sockets, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        for socket in self._sockets():
            self._loop.add_reader(socket.fileno(), self._readable, socket)

    async def close(self, reason: str = "drained") -> None:
        """End every session, say so to every client, and close the sockets."""
        for seat in self._roster:
            self._end(seat, reason)
        self._flush()
        if self._alarm is not None:
            self._alarm.cancel()
        await asyncio.gather(*self._closing)
        for socket in self._sockets():
            self._running.remove_reader(socket.fileno())
            socket.close()

    def _sockets(self) -> Iterator[TrunkSocket | PlainSocket]:
        return (socket for socket in (self.trunk, self.plain) if socket is not None)

    @property
    def _running(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "open() first"
        return self._loop

    def _now(self) -> float:
        """Not the loop's own time, which stands still during a turn and counts milliseconds."""
        return time.monotonic()

    # ---- what the gateway asks --------------------------------------------------------------------

    def create(self, request: CreateSession) -> str:
        """A new session; gives the SDP answer. SessionError: draining, no_capacity, conflict, the offer's."""
        if self.is_draining:
            raise SessionError("this transceiver drains.", "Place the call on another.", code="draining")
        if len(self._roster) >= self.capacity:
            raise SessionError(
                f"all {self.capacity} sessions are taken.", "Place the call on another.", code="no_capacity"
            )
        now = self._now()
        seat = Seat(request, clock=self._now, wish=self._wish, fail=self._fail)
        self._roster.add(request.sid, request.ufrag, seat)
        try:
            seat.take(self._answering.answer(request, now, woken=seat.wish))
        except BaseException:
            self._roster.remove(seat)
            raise
        self.counters.session_moved(None, seat.counted_as)
        self._schedule(seat)
        self._arm()
        return seat.made.answer

    def restart(self, sid: int, ufrag: str, offer: str, candidates: tuple[Address, ...]) -> str:
        """ICE restart: the session answers to `ufrag`, its new token, too. Gives the new answer."""
        seat = self._roster.of_sid(sid)
        self._roster.refuse_taken(ufrag)
        answer = self._answering.restart(seat.made, ufrag, offer, candidates)
        self._roster.add_ufrag(ufrag, seat)
        self._roster.keep_ufrags(
            seat, seat.session.connection.owns
        )  # a client may restart any number of times
        return answer

    def close_session(self, sid: int, reason: str = "hangup") -> None:
        """End one session; SessionError (not_found)."""
        self._end(self._roster.of_sid(sid), reason)
        self._flush()

    def sessions(self) -> list[SessionInfo]:
        """Every session, in no order."""
        return [seat.info() for seat in self._roster]

    def session(self, sid: int) -> SessionInfo:
        """One session; SessionError (not_found)."""
        return self._roster.of_sid(sid).info()

    def __len__(self) -> int:
        return len(self._roster)

    @contextmanager
    def watch(self, sid: int) -> Iterator[Watch]:
        """What becomes of a session: its state now and at each change; `closed` is the last one."""
        seat = self._roster.of_sid(sid)
        watch = seat.watch()
        try:
            yield watch
        finally:
            seat.unwatch(watch)

    # ---- datagrams in -----------------------------------------------------------------------------

    def _readable(self, socket: TrunkSocket | PlainSocket) -> None:
        now = self._now()
        arrived = socket.receive()
        self.counters.received += len(arrived)
        self.counters.received_bytes += sum([len(data) for data, _, _ in arrived])
        for data, path, _ in arrived:
            seat = self._whose(data, path)
            if seat is not None:
                try:
                    seat.session.receive_datagram(data, path, now)
                except Exception:
                    self._fail(seat)
                self._dirty[seat] = None
                if data and data[0] <= 3:  # a new path must be known before the next datagram of this batch
                    self._follow_events(seat)
                    self._learn(path, seat, now)
        self._flush()

    def _whose(self, data: bytes, path: Path) -> Seat | None:
        """A check names its session; all others, answers to our own checks included, go by path."""
        if data and data[0] <= 3 and int.from_bytes(data[:2], "big") == BINDING_REQUEST:
            try:
                ufrag = parse_message(data).ufrag or b""
            except WireError:
                self.counters.drop("stun_malformed")
                return None
            seat = self._roster.of_ufrag(ufrag.decode())
            if seat is None:
                self.counters.drop("stun_unknown_ufrag")
            return seat
        seat = self._roster.by_path.get(path)
        if seat is None:  # unless another socket of its relay brings it
            seat = self._roster.by_identity.get(identity_of(path))
        if seat is None:
            self.counters.drop("unknown_path")
        return seat

    def _learn(self, path: Path, seat: Seat, now: float) -> None:
        """Datagrams from this path are the seat's, if its client knows the password; not while another one's
        client, who has proven to be there, uses it: a request proves no address."""
        holder = self._roster.by_identity.get(identity_of(path))
        if holder is seat or not seat.session.connection.knows(path):
            return
        if holder is None or not holder.session.connection.holds(path, now):
            self._roster.learn(path, seat)

    def _end(self, seat: Seat, reason: str) -> None:
        """Close a session, whatever its agent makes of it."""
        try:
            seat.session.close(reason, self._now())
        except Exception:
            self._fail(seat)
        self._dirty[seat] = None

    def _fail(self, seat: Seat) -> None:
        """A fault of ours, or of an agent's: it ends this session and concerns no other."""
        log.exception("session %09x ends by a fault", seat.request.sid)
        try:
            seat.session.close("fault", self._now())
        except Exception:
            log.exception("session %09x could not say goodbye", seat.request.sid)
            seat.session.abandon(self._now())

    # ---- datagrams out ----------------------------------------------------------------------------

    def _wish(self, seat: Seat) -> None:
        """An agent, or the data channel, did something outside of a turn of ours."""
        if seat not in self._dirty:
            self._dirty[seat] = None
            self._running.call_soon(self._grant, seat)

    def _grant(self, seat: Seat) -> None:
        if seat in self._roster:
            try:
                seat.session.advance(self._now())
            except Exception:
                self._fail(seat)
        self._flush()

    def _flush(self) -> None:
        """Everything the touched sessions have to say, in one batch a socket."""
        now = self._now()
        by_trunk: list[Outgoing] = []
        directly: list[Outgoing] = []
        ended: dict[Seat, None] = {}  # its end may touch it once more
        while self._dirty:
            seat, _ = self._dirty.popitem()
            if seat not in self._roster:
                continue
            session = seat.session
            self._follow_events(seat)
            for outgoing in session.datagrams_to_send(now):
                (directly if outgoing[0][0] is None else by_trunk).append(outgoing)
            if session.state == "closed":
                ended[seat] = None
            else:
                self._schedule(seat)
        self._send(by_trunk, self.trunk)
        self._send(directly, self.plain)
        for seat in ended:
            self._forget(seat)
        self._arm()

    def _send(self, datagrams: list[Outgoing], socket: TrunkSocket | PlainSocket | None) -> None:
        if datagrams and socket is not None:
            self.counters.sent += len(datagrams)
            self.counters.sent_bytes += sum([len(data) for _, data, _ in datagrams])
            socket.send(datagrams)

    def _follow_events(self, seat: Seat) -> None:
        while (event := seat.session.next_event()) is not None:
            if isinstance(event, TextToSend):
                seat.send_text(event.text)
            elif isinstance(event, DataReceived):
                seat.receive_data(event.data)
            elif isinstance(event, StateChanged):
                self._count(seat, event.state)
                seat.tell(event.state)
            elif isinstance(event, PathAdded):
                self._learn(event.path, seat, self._now())
            elif isinstance(event, PathRemoved):
                self._roster.forget(event.path, seat)

    def _count(self, seat: Seat, state: State) -> None:
        if state != seat.counted_as:
            self.counters.session_moved(seat.counted_as, None if state == "closed" else state)
            seat.counted_as = state

    def _forget(self, seat: Seat) -> None:
        """Nothing of a closed session stays, here or in the relay."""
        self._follow_events(seat)
        for path in self._roster.remove(seat):
            if path[0] is not None and self.trunk is not None:
                self.trunk.send_flow_closed(path)
        self.counters.session_closed(seat.session.reason)
        seat.due = math.inf
        task = self._running.create_task(seat.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # ---- time -------------------------------------------------------------------------------------

    def _schedule(self, seat: Seat) -> None:
        due = seat.session.get_timer()
        if due is not None and due < seat.due:
            seat.due = due
            heappush(self._timers, (due, seat.request.sid))

    def _arm(self) -> None:
        """Wake up for the earliest timer; seats that were rescheduled or forgotten left stale ones."""
        timers = self._timers
        while timers and self._seat_due(*timers[0]) is None:
            heappop(timers)
        if timers and (self._alarm is None or timers[0][0] < self._alarm_s):
            if self._alarm is not None:
                self._alarm.cancel()
            wait_s = max(0.0, timers[0][0] - self._now()) + TOGETHER_S
            self._alarm = self._running.call_later(wait_s, self._ring)
            self._alarm_s = timers[0][0]

    def _seat_due(self, due: float, sid: int) -> Seat | None:
        seat = self._roster.get(sid)
        return seat if seat is not None and seat.due == due else None

    def _ring(self) -> None:
        self._alarm = None
        now = self._now()
        timers = self._timers
        while timers and timers[0][0] <= now:
            seat = self._seat_due(*heappop(timers))
            if seat is None:
                continue
            seat.due = math.inf
            due = seat.session.get_timer()
            if due is not None and due > now:  # what it was armed for was done meanwhile
                self._schedule(seat)
                continue
            try:
                seat.session.handle_timer(now)
            except Exception:
                self._fail(seat)
            self._dirty[seat] = None
        self._flush()
