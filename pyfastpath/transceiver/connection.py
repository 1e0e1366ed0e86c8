"""The transceiver's side of one call: ICE, DTLS, SRTP and RTP behind five verbs, with no socket and no clock.

    connection.receive_datagram(data, path, now)      what came from the client
    while event := connection.next_event(): ...       what that means
    connection.datagrams_to_send(now)                 (path, datagram, confirmed): send them all
    connection.get_timer()                            the moment to call ...
    connection.handle_timer(now)                      ... this, then take events and datagrams again

`now` is monotonic seconds. Media and DTLS leave on one path only: the nominated one, once it has answered a
Binding Request of ours. `confirmed` tells the relay so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from pyfastpath.errors import WireError
from pyfastpath.transceiver.allowance import Allowance
from pyfastpath.transceiver.certificate import Certificate
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.dtls import (
    ApplicationData,
    Closed,
    Dtls12,
    HandshakeDone,
    HandshakeEngine,
    HandshakeFailed,
)
from pyfastpath.transceiver.events import Connected, DataReceived, Ended, HandshakeBegun, LossReported
from pyfastpath.transceiver.ice import (
    ConsentExpired,
    Credentials,
    IceServer,
    PathAdded,
    PathRemoved,
    PathSelected,
)
from pyfastpath.transceiver.path import Path
from pyfastpath.transceiver.reception import Reception
from pyfastpath.transceiver.srtp import SrtpError, SrtpSession
from pyfastpath.wire.answer import CNAME
from pyfastpath.wire.offer import Offer
from pyfastpath.wire.rtp import RtpPacket, build_header, is_rtcp, parse_packet

ConnectionEvent = (
    PathAdded
    | PathRemoved
    | PathSelected
    | HandshakeBegun
    | Connected
    | DataReceived
    | LossReported
    | Ended
    | RtpPacket
)
Outgoing = tuple[Path, bytes, bool]
PAYLOAD_BYTES_MAX: Final = 1275  # of one Opus frame (RFC 6716, section 3.2.1); with headers below any MTU
PATIENCE_S: Final = 0.025  # reports wait so long for a packet that brings them along, as steady streams do
# Of one session. Audio has at most 400 packets a second; who was cut off for seconds has some saved up.
DATAGRAMS_PER_S: Final = 1000
DATAGRAMS_AT_ONCE: Final = 2000
CHECKS_PER_S: Final = 200  # apart: whatever floods a client's path, its consent is heard
CHECKS_AT_ONCE: Final = 2000
RESENDABLE_PACKETS: Final = 50  # one second: audio that is older is of no use


class Connection:
    """Made from the client's offer; `credentials` are those of the answer.

    entropy: n -> n random bytes. counters: every datagram is counted there, as used or as dropped.
    ntp_offset_s: wall clock minus `now`.
    """

    def __init__(
        self,
        offer: Offer,
        credentials: Credentials,
        *,
        certificate: Certificate,
        entropy: Callable[[int], bytes],
        counters: Counters,
        ssrc: int,
        ntp_offset_s: float,
    ) -> None:
        self.ssrc = ssrc
        self._checks = Allowance(CHECKS_PER_S, CHECKS_AT_ONCE)
        self._others = Allowance(DATAGRAMS_PER_S, DATAGRAMS_AT_ONCE)
        self._counters = counters
        self._ice = IceServer(credentials, entropy=entropy, drop=self._drop)
        self._dtls: HandshakeEngine = Dtls12(
            certificate,
            role="client" if offer.setup == "passive" else "server",
            fingerprints=offer.fingerprints,
            drop=self._drop,
        )
        self.reception = Reception(
            offer.audio, ssrc=ssrc, cname=CNAME, ntp_offset_s=ntp_offset_s, counters=counters
        )
        # Packets a client may ask for again, by sequence number; only a few do (no browser, by default).
        self._resendable: dict[int, bytes] | None = {} if offer.audio.nack else None
        self._payload_type = offer.audio.opus_payload_type
        self._is_heard = offer.audio.direction in {"sendrecv", "recvonly"}  # else the answer says recvonly
        # Random (RFC 3550), and far from its first wrap.
        self._sequence = int.from_bytes(entropy(2), "big") >> 1
        self._srtp: SrtpSession | None = None
        self._path: Path | None = None
        self._dropped = False  # was the datagram in hand dropped?
        self._begun = False
        self._over = False
        self._due_s = inf  # ICE's or DTLS's timer: media moves neither
        self._events: deque[ConnectionEvent] = deque()
        self._outgoing: list[Outgoing] = []

    # ---- the five verbs ---------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """One datagram, told apart by its first byte (RFC 7983)."""
        first = data[0] if data else 255
        self._dropped = False
        if self._over:
            self._drop("session_over")
        elif not (self._checks if first <= 3 else self._others).take(now):
            self._drop("too_many_checks" if first <= 3 else "too_many_datagrams")
        elif 128 <= first <= 191:
            self._receive_media(data, path, now)
        elif first <= 3:
            self._ice.receive(data, path, now)
            self._count("stun")
            self._follow_ice(now)
            self._arm()
        elif 20 <= first <= 63:
            self._receive_dtls(data, now)
            self._arm()
        else:
            self._drop("not_webrtc")

    def datagrams_to_send(self, now: float) -> list[Outgoing]:
        """Everything that waits: (path, datagram, confirmed), oldest first."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def get_timer(self) -> float | None:
        """When to call handle_timer; None: not at all."""
        if self._over:
            return None
        reports_s = self.reception.due_s + PATIENCE_S
        due = reports_s if reports_s < self._due_s else self._due_s
        return None if due == inf else due

    def handle_timer(self, now: float) -> None:
        """Retransmit, report, expire: whatever is due."""
        if self._over:
            return
        self._ice.handle_timer(now)
        self._follow_ice(now)
        self._dtls.handle_timer(now)
        self._follow_dtls()
        self._report(now)
        self._arm()

    def next_event(self) -> ConnectionEvent | None:
        """The oldest event, None when there is none."""
        return self._events.popleft() if self._events else None

    # ---- what the session sends -------------------------------------------------------------------

    def restart(self, credentials: Credentials) -> None:
        """ICE restart (RFC 8445, section 9): the old credentials hold until the new ones selected a path."""
        self._ice.restart(credentials)
        self._arm()

    def send_audio(self, payload: bytes, timestamp: int, marker: bool, now: float) -> bool:
        """The next RTP packet. timestamp: 48 kHz, 32 bits. False before media may flow, to a client that
        wants to hear nothing, and for a payload that fits no packet: an echo gets those from clients."""
        if self._srtp is None or self._path is None or self._over or not self._is_heard:
            return False
        if len(payload) > PAYLOAD_BYTES_MAX:
            return False
        header = build_header(self._payload_type, marker, self._sequence, timestamp, self.ssrc)
        packet = self._srtp.protect(header + payload)
        self._outgoing.append((self._path, packet, True))
        if self._resendable is not None:
            self._resendable[self._sequence] = packet
            self._resendable.pop(self._sequence - RESENDABLE_PACKETS & 0xFFFF, None)
        self._sequence = self._sequence + 1 & 0xFFFF
        self.reception.sent(len(payload), timestamp, now)
        return True

    def send_data(self, data: bytes, now: float) -> None:
        """One SCTP packet as DTLS application data (RFC 8261)."""
        if not self._over:
            self._dtls.send_data(data)
            self._follow_dtls()
            self._arm()

    def owns(self, ufrag: str) -> bool:
        """Is this a ufrag of ours that checks may name?"""
        return self._ice.owns(ufrag)

    def knows(self, path: Path) -> bool:
        """A client with the password asked from here, and the path is remembered."""
        return self._ice.knows(path)

    def holds(self, path: Path, now: float) -> bool:
        """This session's client has proven to be here, and was heard lately."""
        return self._ice.holds(path, now)

    def close(self, reason: str, now: float) -> None:
        """Say goodbye (RTCP BYE, DTLS close_notify) and end. Does nothing the second time."""
        if self._over:
            return
        if self._srtp is not None and self._path is not None:
            goodbye = self._srtp.protect_rtcp(self.reception.goodbye(now))
            self._outgoing.append((self._path, goodbye, True))
        self._dtls.close()
        self._follow_dtls()
        self._end(reason)

    # ---- parts ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        times = (self._ice.get_timer(), self._dtls.get_timer())
        self._due_s = min((time for time in times if time is not None), default=inf)

    def _drop(self, reason: str) -> None:
        self._dropped = True
        self._counters.drop(reason)

    def _count(self, kind: str) -> None:
        """The datagram in hand was used, unless somebody dropped it."""
        if not self._dropped:
            self._counters.used[kind] += 1

    def _follow_ice(self, now: float) -> None:
        """Take what ICE has to say and to send."""
        ice = self._ice
        while (event := ice.next_event()) is not None:
            if isinstance(event, ConsentExpired):
                self._end("consent_expired")
                continue
            self._events.append(event)
            if isinstance(event, PathSelected):
                self._path = event.path
                self._dtls.start(now)  # the client side's first flight; nothing on the server's
                self._follow_dtls()
        # What STUN says goes where the check came from, confirmed or not.
        self._outgoing += [
            (path, datagram, ice.is_validated(path)) for path, datagram in ice.datagrams_to_send()
        ]

    def _receive_dtls(self, data: bytes, now: float) -> None:
        if not self._begun:
            self._begun = True
            self._events.append(HandshakeBegun())
        self._dtls.receive(data, now)
        self._count("dtls")
        self._follow_dtls()

    def _follow_dtls(self) -> None:
        dtls = self._dtls
        while (event := dtls.next_event()) is not None:
            if isinstance(event, HandshakeDone):
                self._srtp = SrtpSession(event.keys)
                self._events.append(Connected(event.keys.profile.value))
            elif isinstance(event, ApplicationData):
                self._events.append(DataReceived(event.data))
            elif isinstance(event, HandshakeFailed):
                self._end(event.reason)
            elif isinstance(event, Closed):
                self._end("closed_by_client")
        if self._path is not None:  # before that, what the engine wants to say waits inside it
            path = self._path
            self._outgoing += [(path, datagram, True) for datagram in dtls.datagrams_to_send()]

    def _receive_media(self, data: bytes, path: Path, now: float) -> None:
        srtp = self._srtp
        if srtp is None:
            self._drop("media_before_keys")
            return
        try:
            if is_rtcp(data):
                self._receive_rtcp(srtp.unprotect_rtcp(data), now)
                return
            packet = parse_packet(srtp.unprotect(data))
        except SrtpError as error:
            self._drop(error.reason)
            return
        except WireError:
            self._drop("rtp_malformed")
            return
        if path != self._path:  # authentic: if another socket of our relay has brought it, that is followed
            self._ice.follow(path)
            self._follow_ice(now)
            self._path = self._ice.selected
        self._counters.used["rtp"] += 1
        self.reception.received(packet, now)
        self._events.append(packet)
        if self.reception.due_s <= now:
            self._report(now)

    def _receive_rtcp(self, data: bytes, now: float) -> None:
        before = self.reception.lost_percent
        wanted = self.reception.receive_rtcp(data, now)
        self._counters.used["rtcp"] += 1
        if self.reception.lost_percent != before:
            self._events.append(LossReported(self.reception.lost_percent))
        self._resend(wanted)
        self._report(now)

    def _resend(self, wanted: tuple[int, ...]) -> None:
        """What the client misses (RFC 4585, generic NACK), once each and as it was."""
        for sequence in wanted:
            packet = self._resendable.pop(sequence, None) if self._resendable else None
            if packet is not None and self._path is not None:
                self._outgoing.append((self._path, packet, True))

    def _report(self, now: float) -> None:
        if self._srtp is None or self._path is None or self._over:
            return
        for report in self.reception.rtcp_to_send(now):
            self._outgoing.append((self._path, self._srtp.protect_rtcp(report), True))

    def _end(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._events.append(Ended(reason))
