"""What one transceiver process counts: plain numbers that the event loop alone writes.

The tuples of names are the one source for metrics and documents. Every datagram received is used or dropped:
`received == Σ used + Σ dropped`, between any two datagrams; `conservation_error` says by how much it is not.
"""

from collections.abc import Mapping
from typing import Final

from pyfastpath.histogram import Histogram

Names = tuple[tuple[str, str], ...]

# Why a datagram is not used. The names are the labels of the metric.
DROP_REASONS: Final[Names] = (
    ("not_webrtc", "first byte is neither STUN, DTLS nor RTP/RTCP (RFC 7983), or the datagram is empty"),
    ("unknown_path", "not STUN, and from an address that no session knows"),
    ("session_over", "for a session that has ended"),
    ("too_many_datagrams", "more than one session may send: 1,000 a second, STUN apart, 2,000 at once"),
    ("too_many_checks", "more STUN than one session may send: 200 a second, 2,000 at once"),
    ("stun_malformed", "looks like STUN but does not parse, or is a request without a usable USERNAME"),
    ("stun_bad_fingerprint", "a FINGERPRINT that is wrong or not the last attribute"),
    ("stun_unsupported", "neither a Binding Request nor an answer to one of ours"),
    ("stun_unknown_attribute", "a Binding Request with an unknown attribute that must be understood (420)"),
    ("stun_unknown_ufrag", "a Binding Request whose ufrag no session owns"),
    ("stun_bad_integrity", "a Binding Request without MESSAGE-INTEGRITY, or with one that fails"),
    ("stun_role_conflict", "the client claims to be controlled, as an ICE-lite agent always is (487)"),
    ("stun_replayed_transaction", "a transaction id that was seen on another path within 60 s"),
    ("stun_unexpected_response", "an answer to no check of ours, or from another path than it went to"),
    ("stun_bad_response", "an answer to a check of ours that fails MESSAGE-INTEGRITY or is an error"),
    ("dtls_malformed", "no DTLS record, or one the handshake refuses"),
    ("dtls_failed", "DTLS of a session whose handshake has failed"),
    ("media_before_keys", "SRTP or SRTCP before the handshake is done"),
    ("srtp_replayed", "a sequence number or SRTCP index that came before"),
    ("srtp_too_old", "so far behind the newest one that a replay could not be told"),
    ("srtp_auth_failed", "the authentication tag is wrong: corrupted or forged"),
    ("srtp_malformed", "too short or too long, or no RTP or RTCP header"),
    ("srtp_too_many_ssrcs", "one source more than a session unprotects"),
    ("srtp_failed", "the cipher refused for another reason"),
    ("rtp_malformed", "authentic, but no RTP or RTCP packet"),
)

# What is inside a datagram that was used.
KINDS: Final = ("stun", "dtls", "rtp", "rtcp")

SESSION_STATES: Final = ("created", "connecting", "live", "closing")

CLOSE_REASONS: Final[Names] = (
    ("hangup", "the client ended the call, or the gateway did for him"),
    ("agent", "the agent hung up"),
    ("agent_lost", "the agent's server went away"),
    ("closed_by_client", "the client closed DTLS"),
    ("consent_expired", "no authenticated check for 30 s (RFC 7675)"),
    ("no_check", "no Binding Request arrived in time"),
    ("no_handshake", "the DTLS handshake was not done in time"),
    ("dtls_failed", "the DTLS handshake failed"),
    ("fingerprint_mismatch", "the client's certificate is not the one of its offer"),
    ("too_long", "the longest duration of a call was reached"),
    ("drained", "the process stopped"),
    ("fault", "a fault of ours or of the agent's: the log has its trace"),
    ("other", "another reason: the log has it"),
)

# Seconds from the session's creation, in the order the steps usually come.
SETUP_STEPS: Final[Names] = (
    ("check", "the first authenticated Binding Request arrived"),
    ("path", "a path is nominated and has answered our own check"),
    ("handshake", "the first DTLS record arrived"),
    ("keys", "the handshake is done, the fingerprint is right"),
    ("media_in", "the first RTP packet arrived"),
    ("media_out", "the first RTP packet left"),
    ("data", "the data channel is open"),
)

# Why something an agent said is not even queued.
SPEECH_DROP_REASONS: Final[Names] = (("queue_full", "ten minutes of speech wait already"),)

# What became of a gap that the jitter buffer gave up waiting for.
REPAIRS: Final[Names] = (
    ("red", "recovered from a redundant copy (RFC 2198)"),
    ("fec", "recovered by the in-band FEC of Opus"),
    ("concealed", "nothing recovered it: the decoder concealed it"),
)

HANDSHAKE_BOUNDS_S: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TRANSIT_BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
LAG_BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)

_SRTP: Final = "srtp_"


class Counters:
    """Everything one process counts. Public attributes are added to directly where a call would cost."""

    __slots__ = (
        "closed",
        "data_received",
        "data_sent",
        "dropped",
        "event_loop_lag_s",
        "handshake_s",
        "jitter_buffer_delay_s",
        "jitter_buffer_released",
        "jitter_s",
        "opened",
        "received",
        "received_bytes",
        "repaired",
        "round_trip_s",
        "rtp_duplicated",
        "rtp_late",
        "rtp_lost",
        "rtp_received",
        "rtp_sent",
        "sent",
        "sent_bytes",
        "sessions",
        "setup_step_s",
        "speech_dropped_s",
        "used",
    )

    def __init__(self) -> None:
        self.received = self.received_bytes = 0  # datagrams, whatever socket they came by
        self.sent = self.sent_bytes = 0
        self.used = dict.fromkeys(KINDS, 0)
        self.dropped = {name: 0 for name, _ in DROP_REASONS}
        self.sessions = dict.fromkeys(SESSION_STATES, 0)
        self.opened = 0
        self.closed = {name: 0 for name, _ in CLOSE_REASONS}
        self.handshake_s = Histogram(HANDSHAKE_BOUNDS_S)
        self.setup_step_s = {name: Histogram(HANDSHAKE_BOUNDS_S) for name, _ in SETUP_STEPS}
        self.rtp_received = self.rtp_sent = 0
        self.rtp_lost = self.rtp_late = self.rtp_duplicated = 0
        self.repaired = {name: 0 for name, _ in REPAIRS}
        self.jitter_buffer_released = 0
        self.jitter_buffer_delay_s = 0.0
        self.jitter_s = Histogram(TRANSIT_BOUNDS_S)
        self.round_trip_s = Histogram(TRANSIT_BOUNDS_S)
        self.event_loop_lag_s = Histogram(LAG_BOUNDS_S)
        self.data_received = self.data_sent = 0
        self.speech_dropped_s = {name: 0.0 for name, _ in SPEECH_DROP_REASONS}

    def drop(self, reason: str) -> None:
        """A datagram was not used. KeyError: a reason that DROP_REASONS does not name."""
        self.dropped[reason] += 1

    def srtp_failures(self) -> Mapping[str, int]:
        """The drops that are SRTP's, by the reason alone."""
        return {
            name.removeprefix(_SRTP): count for name, count in self.dropped.items() if name.startswith(_SRTP)
        }

    def session_moved(self, left: str | None, entered: str | None) -> None:
        """A session changed its state. None: it did not exist before, or does not any more."""
        if left is None:
            self.opened += 1
        else:
            self.sessions[left] -= 1
        if entered is not None:
            self.sessions[entered] += 1

    def session_closed(self, reason: str) -> None:
        """Why a session ended; a reason that CLOSE_REASONS does not name counts as "other"."""
        self.closed[reason if reason in self.closed else "other"] += 1

    @property
    def conservation_error(self) -> int:
        """received - used - dropped: anything but 0 is a bug."""
        return self.received - sum(self.used.values()) - sum(self.dropped.values())
