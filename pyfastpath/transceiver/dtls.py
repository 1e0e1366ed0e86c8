"""The DTLS of one connection: its handshake gives the SRTP keys (RFC 5764), then it carries the data channel.

`HandshakeEngine` is what a connection knows. `Dtls12` fills it with OpenSSL over memory BIOs; nothing is
allocated in OpenSSL before a ClientHello has come.

OpenSSL's own timer begins at one second and reads the real clock. So the engine keeps the flight it sent last
and repeats it sooner, as `now` has it; a copy is what a network that duplicates would deliver. OpenSSL's
retransmissions, with fresh record numbers, stay in force beside it: they alone reach a server whose last
flight was lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from OpenSSL import SSL

from pyfastpath.transceiver.certificate import Certificate, Fingerprint, is_named
from pyfastpath.transceiver.keys import SrtpKeys, SrtpProfile
from pyfastpath.transceiver.records import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    HANDSHAKE,
    Record,
    cut,
    pack,
)

MTU_BYTES: Final = 1200  # UDP payload
MESSAGE_BYTES_MAX: Final = (
    1 << 14
)  # of a handshake message; the longest has a certificate of some hundred bytes
HANDSHAKE_S: Final = 30.0
FIRST_REPEAT_S: Final = 0.25  # then doubled each time
REPEAT_INTERVAL_S: Final = 0.05  # not sooner, however often the other side repeats itself
_READ_BYTES: Final = 1 << 14  # the longest fragment of a record
_EXPORTER: Final = b"EXTRACTOR-dtls_srtp"  # RFC 5764, section 4.2

Role = Literal["server", "client"]
FailureReason = Literal["dtls_failed", "fingerprint_mismatch", "no_handshake"]


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """The other side's certificate is the one of its offer."""

    keys: SrtpKeys


@dataclass(frozen=True, slots=True)
class ApplicationData:
    """What one record carried: an SCTP packet."""

    data: bytes


@dataclass(frozen=True, slots=True)
class HandshakeFailed:
    """There will be no keys. `detail` is a sentence for the log."""

    reason: FailureReason
    detail: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The other side said goodbye."""


HandshakeEvent = HandshakeDone | ApplicationData | HandshakeFailed | Closed


class HandshakeEngine(Protocol):
    """What agrees on keys for one connection and then carries its data. Times are monotonic seconds."""

    @property
    def role(self) -> Role:
        """A client speaks first."""

    def start(self, now: float) -> None:
        """There is a path: a client begins. A server does nothing."""

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a DTLS datagram."""

    def datagrams_to_send(self) -> list[bytes]:
        """What is to be sent now."""

    def get_timer(self) -> float | None:
        """When `handle_timer` is due."""

    def handle_timer(self, now: float) -> None:
        """Repeat what was not answered; fail when that has gone on for too long."""

    def next_event(self) -> HandshakeEvent | None:
        """The oldest event not yet taken."""

    def send_data(self, data: bytes) -> None:
        """Protect application data. Before the handshake is done, or after the end, it is lost as in a
        network."""

    def close(self) -> None:
        """Say goodbye and forget everything."""


class Dtls12:
    """DTLS 1.2 by OpenSSL. `drop` is told why, for each datagram not used (counters.DROP_REASONS)."""

    def __init__(
        self,
        certificate: Certificate,
        *,
        role: Role,
        fingerprints: Iterable[Fingerprint],
        drop: Callable[[str], None],
    ) -> None:
        self._certificate = certificate
        self._role: Role = role
        self._fingerprints = tuple(fingerprints)
        self._drop = drop
        self._connection: SSL.Connection | None = None
        self._is_done = False
        self._over_reason = ""  # why datagrams are dropped, once it is over
        self._events: deque[HandshakeEvent] = deque()
        self._outbox: list[bytes] = []
        self._flight = _Flight()
        self._newest_message = (-1, 0)
        self._ends_at = 0.0
        self._timer: float | None = None

    @property
    def role(self) -> Role:
        """Of the two in the handshake; a=setup says which is ours."""
        return self._role

    # ---- the verbs ----------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """There is a path: a client says hello, once. A server does nothing."""
        if self._role == "client" and self._connection is None and not self._over_reason:
            self._open(now)
            self._proceed(now)

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a DTLS datagram. What is no record or not whole is cut off; what OpenSSL silently discards
        (a wrong authentication tag, a replay) counts as malformed."""
        if self._over_reason:
            return self._drop(self._over_reason)
        records = [record for record in cut(datagram) if _is_usable(record)]
        if not records or (self._connection is None and not self._begins(records)):
            return self._drop("dtls_malformed")
        if self._connection is None:
            self._open(now)
        repeats = self._repeats(records)
        assert self._connection is not None
        self._connection.bio_write(b"".join(record.data for record in records))
        before = len(self._events)
        sent = self._proceed(now)
        if repeats and not sent:
            self._outbox += self._flight.answer(now)
        only_data = all(record.type == APPLICATION_DATA for record in records)
        if only_data and self._is_done and len(self._events) == before:
            return self._drop("dtls_malformed")
        return None

    def datagrams_to_send(self) -> list[bytes]:
        """What is to be sent now, each at most MTU_BYTES."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def get_timer(self) -> float | None:
        """When `handle_timer` is due; None before the handshake and after it."""
        return self._timer

    def handle_timer(self, now: float) -> None:
        """Repeat a flight that was not answered; fail HANDSHAKE_S after the beginning."""
        if self._timer is None or now < self._timer or self._connection is None:
            return
        if now >= self._ends_at:
            self._fail("no_handshake", f"The handshake was not done within {HANDSHAKE_S:g} s.")
            return
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._fail("dtls_failed", _sentence(error))
            return
        if not self._flush(now):
            self._outbox += self._flight.repeat(now)
        self._arm(now)

    def next_event(self) -> HandshakeEvent | None:
        """The oldest event not yet taken."""
        return self._events.popleft() if self._events else None

    def send_data(self, data: bytes) -> None:
        """One record of application data; lost as in a network when there is no connection."""
        if self._connection is None or not self._is_done:
            return
        self._connection.send(data)
        self._outbox += pack(_read_all(self._connection), MTU_BYTES)

    def close(self) -> None:
        """Send close_notify, if there is somebody to hear it, and free what OpenSSL holds."""
        if not self._over_reason:
            self._end("session_over")

    # ---- OpenSSL ------------------------------------------------------------------------------------

    def _open(self, now: float) -> None:
        connection = SSL.Connection(self._certificate.context, None)
        connection.set_app_data(self._fingerprints)
        connection.set_ciphertext_mtu(MTU_BYTES)
        if self._role == "client":
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        self._connection = connection
        self._ends_at = now + HANDSHAKE_S

    def _proceed(self, now: float) -> bool:
        """Let OpenSSL work on what has come. Says whether it had something to send."""
        try:
            if not self._is_done:
                self._shake_hands()
            if self._is_done:
                self._read()
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._events.append(Closed())
            self._end("session_over")
        except SSL.Error as error:
            self._break(error)
        sent = self._flush(now)
        self._arm(now)
        return sent

    def _shake_hands(self) -> None:
        assert self._connection is not None
        self._connection.do_handshake()
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None or not is_named(certificate, self._fingerprints):
            return self._fail("fingerprint_mismatch", _MISMATCH)
        chosen = self._connection.get_selected_srtp_profile().decode()
        if not chosen:
            return self._fail("dtls_failed", "There is no SRTP profile that both sides know.")
        profile = SrtpProfile(chosen)
        material = self._connection.export_keying_material(_EXPORTER, profile.exported_bytes)
        keys = SrtpKeys.from_exported(profile, material, is_client=self._role == "client")
        self._is_done = True
        self._events.append(HandshakeDone(keys))
        return None

    def _read(self) -> None:
        """Everything that is there; WantReadError ends it."""
        assert self._connection is not None
        while True:
            self._events.append(ApplicationData(self._connection.recv(_READ_BYTES)))

    def _break(self, error: SSL.Error) -> None:
        """OpenSSL has given up; what it has to say about it (an alert) goes out at the end."""
        if self._is_done:
            self._events.append(Closed())
            self._end("session_over")
        elif "certificate verify failed" in _sentence(error):
            self._fail("fingerprint_mismatch", _MISMATCH)
        else:
            self._fail("dtls_failed", _sentence(error))

    def _fail(self, reason: FailureReason, detail: str) -> None:
        self._events.append(HandshakeFailed(reason, detail))
        self._end("dtls_failed")

    def _end(self, drop_reason: str) -> None:
        """Everything OpenSSL holds (66 KB) goes at once, whoever still holds the engine."""
        self._over_reason = drop_reason
        connection, self._connection = self._connection, None
        self._timer = None
        self._flight = _Flight()
        if connection is not None:
            with suppress(SSL.Error):  # in the middle of a handshake there is nobody to say goodbye to
                connection.shutdown()
            self._outbox += pack(_read_all(connection), MTU_BYTES)

    # ---- flights ------------------------------------------------------------------------------------

    def _begins(self, records: list[Record]) -> bool:
        """A server's connection is made of a ClientHello only, a client's never of what comes in."""
        message = records[0].message
        return self._role == "server" and message is not None and message[0] == CLIENT_HELLO

    def _repeats(self, records: list[Record]) -> bool:
        """Does the other side say again what it said before? Then our flight was lost (RFC 6347, 4.2.4)."""
        repeats = False
        for record in records:
            if record.message is not None:
                repeats |= record.message[1:] <= self._newest_message
                self._newest_message = max(self._newest_message, record.message[1:])
            elif self._is_done and self._role == "server":
                repeats |= record.type in {CHANGE_CIPHER_SPEC, HANDSHAKE}
        return repeats

    def _flush(self, now: float) -> bool:
        if self._connection is None:
            return False
        datagrams = pack(_read_all(self._connection), MTU_BYTES)
        self._outbox += datagrams
        if datagrams:
            self._flight = _Flight(tuple(datagrams), now)
        return bool(datagrams)

    def _arm(self, now: float) -> None:
        if self._connection is None or self._is_done:
            self._timer = None
            return
        due = min(self._ends_at, self._flight.next_at)
        own_s = self._connection.DTLSv1_get_timeout()
        self._timer = due if own_s is None else min(due, now + own_s)


class _Flight:
    """The datagrams sent last, and when they go out again."""

    __slots__ = ("_datagrams", "_sent_at", "_wait_s", "next_at")

    def __init__(self, datagrams: tuple[bytes, ...] = (), now: float = 0.0) -> None:
        self._datagrams = datagrams
        self._sent_at = now
        self._wait_s = FIRST_REPEAT_S
        self.next_at = now + FIRST_REPEAT_S if datagrams else float("inf")

    def repeat(self, now: float) -> tuple[bytes, ...]:
        """For the timer."""
        if now < self.next_at:
            return ()
        self._wait_s *= 2
        self._sent_at, self.next_at = now, now + self._wait_s
        return self._datagrams

    def answer(self, now: float) -> tuple[bytes, ...]:
        """For another side that repeats itself."""
        if now < self._sent_at + REPEAT_INTERVAL_S:
            return ()
        self._sent_at = now
        return self._datagrams


_MISMATCH: Final = "The certificate is not the one that the fingerprint of the offer names."


def _is_usable(record: Record) -> bool:
    """What OpenSSL shall see: no data in the clear, no beginnings of messages it would keep 100 KB for."""
    if record.epoch:
        return True
    return record.type != APPLICATION_DATA and record.longest_message_bytes <= MESSAGE_BYTES_MAX


def _read_all(connection: SSL.Connection) -> bytes:
    """Everything OpenSSL wrote."""
    parts = []
    while True:
        try:
            parts.append(connection.bio_read(_READ_BYTES))
        except SSL.WantReadError:
            return b"".join(parts)


def _sentence(error: SSL.Error) -> str:
    """OpenSSL's words: the last of (library, function, reason)."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [entry[2] for entry in entries if len(entry) > 2]
    return f"OpenSSL says: {', '.join(reasons) or type(error).__name__}."
