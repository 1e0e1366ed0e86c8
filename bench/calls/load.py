"""Many clients in one process: each handshakes for real, then sends what was protected beforehand.

    load = Load(sessions=300)
    load.connect(place)                        ICE and DTLS of one client after the other
    window = load.run(warmup_s=2, measure_s=8, look=look)

A client has a socket of its own and sends 50 packets a second at a phase of its own, on a schedule that does
not wait for answers. Every reply is counted; one in a hundred is unprotected and looked at. All is one thread
that sleeps half a millisecond between turns: how late it sent, and how much of its CPU that took, is in the
result, because a load that was late has measured itself.
"""

from __future__ import annotations

import gc
import random
import select
import socket
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from bench.calls.voice import voice
from pyfastpath.transceiver.opus import packet_samples
from pyfastpath.transceiver.srtp import SrtpError
from pyfastpath.types import Endpoint
from pyfastpath.wire import rtp
from tests.support.rtc_client import RtcClient

FRAME_S = 0.020
TICK_S = 0.0005
CHECK_EVERY_S = 2.5  # as browsers refresh their consent (RFC 7675 asks for 5 s at most)
SAMPLE_EVERY = 100
CONNECT_TIMEOUT_S = 10.0
CHECK_AGAIN_S = 0.1
DRAIN_S = 0.5
DATAGRAM_BYTES_MAX = 2048
BUFFER_BYTES = 1 << 20
SEED = 1
MAPPED = Endpoint.parse("127.0.0.1:9")  # what our answers to the server's own checks say; nobody uses it


class Caller:
    """One client and its socket."""

    def __init__(self, serial: int) -> None:
        self.rtc = RtcClient(ssrc=0x10000 + serial)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.replies = 0
        self.rtcp = 0

    def connect(self, place: Callable[[str], str]) -> None:
        """Offer, answer, checks, handshake. RuntimeError when there are no keys in time."""
        answer = place(self.rtc.offer())
        self.rtc.accept(answer)
        self.socket.connect(candidate_of(answer))
        self.socket.settimeout(CHECK_AGAIN_S)
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        is_begun = False
        self.socket.send(self.rtc.check())
        while self.rtc.srtp is None and not self.rtc.failed:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no keys within {CONNECT_TIMEOUT_S:.0f} s")
            try:
                self._send(self.rtc.receive(self.socket.recv(DATAGRAM_BYTES_MAX), time.monotonic(), MAPPED))
            except (TimeoutError, ConnectionRefusedError):
                self.socket.send(self.rtc.check())
                self._repeat()
            if self.rtc.checks_received and not is_begun:
                is_begun = True
                self._send(self.rtc.start_dtls(time.monotonic()))
        if self.rtc.failed:
            raise RuntimeError(f"the handshake failed: {self.rtc.failed}")
        self.socket.setblocking(False)

    def _repeat(self) -> None:
        assert self.rtc.dtls is not None
        self.rtc.dtls.handle_timer(time.monotonic())
        self._send(self.rtc.follow())

    def _send(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.socket.send(datagram)


def candidate_of(answer: str) -> tuple[str, int]:
    """The first IPv4 UDP candidate of an answer."""
    for line in answer.splitlines():
        fields = line.split()
        if line.startswith("a=candidate:") and fields[2].lower() == "udp" and "." in fields[4]:
            return fields[4], int(fields[5])
    raise RuntimeError("the answer has no IPv4 candidate")


@dataclass(frozen=True)
class Window:
    """What one measurement saw. Shares are of one CPU; `looks` is what `look` said at its begin and end."""

    sessions: int
    seconds: float
    scheduled: int
    sent: int
    replies: int
    checked: int  # replies unprotected …
    wrong: int  # … that were not authentic, or no 20 ms of Opus
    lost: int  # of the whole run: sent and never answered
    late_p99_ms: float
    late_max_ms: float
    response_p50_ms: float
    response_p99_ms: float
    load_cpu_share: float
    looks: tuple[Any, Any]


class Load:
    """`sessions` callers."""

    def __init__(self, sessions: int) -> None:
        self.callers = [Caller(serial) for serial in range(sessions)]
        self._poll = select.epoll()
        self._by_descriptor = {caller.socket.fileno(): caller for caller in self.callers}
        self._late_s = array("d")
        self._response_s = array("d")
        self._checked = self._wrong = 0

    def connect(self, place: Callable[[str], str]) -> None:
        """Every caller, one after the other. place: offer -> answer."""
        for caller in self.callers:
            caller.connect(place)
            self._poll.register(caller.socket.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """The sockets; the sessions end with their server."""
        self._poll.close()
        for caller in self.callers:
            caller.socket.close()

    # ---- the run ----------------------------------------------------------------------------------

    def run(self, *, warmup_s: float, measure_s: float, look: Callable[[], Any]) -> Window:
        """Send for both spans of time; only the second one counts."""
        self._prepare(warmup_s + measure_s)
        gc.collect()
        gc.disable()
        try:
            self._start_s = time.monotonic()
            self._go_on(warmup_s)
            self._late_s, self._response_s = array("d"), array("d")
            self._checked = self._wrong = 0
            first = self._now_at(look)
            self._go_on(warmup_s + measure_s)
            last = self._now_at(look)
            self._go_on(warmup_s + measure_s + DRAIN_S)
        finally:
            gc.enable()
        seconds = last[0] - first[0]
        return Window(
            sessions=len(self.callers),
            seconds=seconds,
            scheduled=int(seconds * len(self.callers) / FRAME_S),
            sent=last[2] - first[2],
            replies=last[3] - first[3],
            checked=self._checked,
            wrong=self._wrong,
            lost=self._next - sum(caller.replies for caller in self.callers),
            late_p99_ms=_percentile(self._late_s, 99) * 1000,
            late_max_ms=max(self._late_s, default=0.0) * 1000,
            response_p50_ms=_percentile(self._response_s, 50) * 1000,
            response_p99_ms=_percentile(self._response_s, 99) * 1000,
            load_cpu_share=(last[1] - first[1]) / seconds,
            looks=(first[4], last[4]),
        )

    def _now_at(self, look: Callable[[], Any]) -> tuple[float, float, int, int, Any]:
        replies = sum(caller.replies for caller in self.callers)
        return time.monotonic(), time.process_time(), self._next, replies, look()

    def _prepare(self, seconds: float) -> None:
        """Every packet of the run, protected, in the order of its time."""
        chance = random.Random(SEED)
        phases = sorted(chance.random() * FRAME_S for _ in self.callers)
        self._phase_s = {
            caller.socket.fileno(): phase for caller, phase in zip(self.callers, phases, strict=True)
        }
        self._dues: list[float] = []
        self._packets: list[bytes] = []
        sound = voice()
        for number in range(int(seconds / FRAME_S) + 1):
            for place, (caller, phase) in enumerate(zip(self.callers, phases, strict=True)):
                payload, level = sound[(number + 7 * place) % len(sound)]
                self._dues.append(number * FRAME_S + phase)
                self._packets.append(caller.rtc.audio(payload, level=level))
        self._sends = [caller.socket.send for caller in self.callers]
        self._next = 0
        self._check_s = [chance.random() * CHECK_EVERY_S for _ in self.callers]

    def _go_on(self, until_s: float) -> None:
        """Until so many seconds after the start."""
        start_s, dues = self._start_s, self._dues
        while (now := time.monotonic() - start_s) < until_s:
            end = bisect_right(dues, now, self._next)
            if end > self._next:
                self._late_s.append(now - dues[self._next])
                self._send(self._next, end)
                self._next = end
            self._refresh(now)
            self._receive()
            time.sleep(TICK_S)

    def _send(self, begin: int, end: int) -> None:
        sends, count = self._sends, len(self._sends)
        for number in range(begin, end):
            sends[number % count](self._packets[number])

    def _refresh(self, now: float) -> None:
        """A check of each caller whose consent is due; one a tick, so that nothing waits for them."""
        place = min(range(len(self._check_s)), key=self._check_s.__getitem__)
        if self._check_s[place] <= now:
            self._check_s[place] += CHECK_EVERY_S
            self._sends[place](self.callers[place].rtc.check())

    def _receive(self) -> None:
        while ready := self._poll.poll(0):
            for descriptor, _ in ready:
                caller = self._by_descriptor[descriptor]
                try:
                    datagram = caller.socket.recv(DATAGRAM_BYTES_MAX)
                except OSError:  # an ICMP error of something sent before
                    continue
                if datagram[0] < 128:
                    for answer in caller.rtc.receive(datagram, time.monotonic(), MAPPED):
                        caller.socket.send(answer)
                elif 192 <= datagram[1] <= 223:
                    caller.rtcp += 1
                else:
                    caller.replies += 1
                    if caller.replies % SAMPLE_EVERY == 0:
                        self._look_at(caller, datagram, descriptor)

    def _look_at(self, caller: Caller, datagram: bytes, descriptor: int) -> None:
        """Is it what it should be, and how long ago was the packet due that it answers, the n-th the n-th?"""
        due_s = (caller.replies - 1) * FRAME_S + self._phase_s[descriptor]
        self._response_s.append(time.monotonic() - self._start_s - due_s)
        self._checked += 1
        try:
            assert caller.rtc.srtp is not None
            packet = rtp.parse_packet(caller.rtc.srtp.unprotect(datagram))
            self._wrong += packet_samples(packet.payload) != 960
        except SrtpError:
            self._wrong += 1


def _percentile(values: array[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1] if len(values) > 1 else float("nan")
