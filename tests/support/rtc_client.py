"""A WebRTC client without socket and clock: the other end of a session in tests of virtual time.

It checks (controlling, full ICE), opens DTLS as a client, protects RTP. Everything it makes is a datagram to
be carried to the session; everything it gets is handed to `receive`.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

from pyfastpath.transceiver.certificate import Certificate
from pyfastpath.transceiver.dtls import ApplicationData, Closed, Dtls12, HandshakeDone, HandshakeFailed
from pyfastpath.transceiver.srtp import SrtpSession
from pyfastpath.types import Endpoint
from pyfastpath.wire import rtp, stun

OFFER = """\
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF {formats}
c=IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{pwd}
a=fingerprint:sha-256 {fingerprint}
a=setup:{setup}
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:110 telephone-event/48000
a=ssrc:{ssrc} cname:client
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:{ufrag}
a=ice-pwd:{pwd}
a=fingerprint:sha-256 {fingerprint}
a=setup:{setup}
a=mid:1
a=sctp-port:5000
"""
LEVEL_ID = 1
TRANSPORT_CC_ID = 3
CERTIFICATE = None


def certificate() -> Certificate:
    """One for all clients of a test run: drawing a key costs more than a handshake."""
    global CERTIFICATE  # noqa: PLW0603
    if CERTIFICATE is None:
        CERTIFICATE = Certificate.generate(1_800_000_000)
    return CERTIFICATE


@dataclass
class RtcClient:
    """One client. `received` are the RTP packets, `data` the SCTP packets, `checked` the server's checks."""

    setup: str = "actpass"
    ssrc: int = 0x5EED
    ufrag: str = field(default_factory=lambda: secrets.token_hex(4))
    pwd: str = field(default_factory=lambda: secrets.token_hex(12))
    received: list[rtp.RtpPacket] = field(default_factory=list)
    rtcp: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    answers_checks: bool = True
    remote: dict[str, str] = field(default_factory=dict)
    dtls: Dtls12 | None = None
    srtp: SrtpSession | None = None
    failed: str = ""
    is_closed: bool = False
    successes: set[bytes] = field(default_factory=set)
    errors: list[int] = field(default_factory=list)
    checks_received: int = 0
    sequence: int = 1000
    timestamp: int = 5000

    def offer(self, **changes: Any) -> str:
        """The offer; `changes` replace fields of the template."""
        fields = {
            "formats": "111 63 110",
            "ufrag": self.ufrag,
            "pwd": self.pwd,
            "fingerprint": certificate().fingerprint[1].hex(":").upper(),
            "setup": self.setup,
            "ssrc": self.ssrc,
        }
        return OFFER.format(**fields | changes).replace("\n", "\r\n")

    def accept(self, answer: str, *, dtls: bool = True) -> None:
        """Take the answer (or a fragment of an ICE restart: dtls=False)."""
        for line in answer.splitlines():
            key, _, value = line.partition(":")
            self.remote[key] = value
        if dtls:
            role = "server" if self.remote["a=setup"] == "active" else "client"
            algorithm, _, digits = self.remote["a=fingerprint"].partition(" ")
            self.dtls = Dtls12(
                certificate(),
                role=role,
                fingerprints=((algorithm, bytes.fromhex(digits.replace(":", ""))),),
                drop=lambda reason: None,
            )

    def check(
        self, *, nominate: bool = True, transaction: bytes = b"", key: str = "", role: int = 0
    ) -> bytes:
        """A connectivity check as the controlling side sends it."""
        attributes = [
            (stun.Attribute.PRIORITY, (0x6E7F1EFF).to_bytes(4, "big")),
            (role or stun.Attribute.ICE_CONTROLLING, secrets.token_bytes(8)),
        ]
        if nominate:
            attributes.append((stun.Attribute.USE_CANDIDATE, b""))
        return stun.build_binding_request(
            transaction or secrets.token_bytes(12),
            f"{self.remote['a=ice-ufrag']}:{self.ufrag}".encode(),
            key=(key or self.remote["a=ice-pwd"]).encode(),
            attributes=attributes,
        )

    def receive(self, datagram: bytes, now: float, mapped: Endpoint) -> list[bytes]:
        """Whatever came from the session; gives the answers. mapped: the address our answer names."""
        if datagram[0] <= 3:
            return self._receive_stun(datagram, mapped)
        if datagram[0] < 64:
            assert self.dtls is not None
            self.dtls.receive(datagram, now)
            return self.follow()
        assert self.srtp is not None, "media before keys"
        if rtp.is_rtcp(datagram):
            self.rtcp.append(self.srtp.unprotect_rtcp(datagram))
        else:
            self.received.append(rtp.parse_packet(self.srtp.unprotect(datagram)))
        return []

    def _receive_stun(self, datagram: bytes, mapped: Endpoint) -> list[bytes]:
        message = stun.parse_message(datagram)
        if message.type == stun.BINDING_SUCCESS:
            assert stun.integrity_holds(datagram, self.remote["a=ice-pwd"].encode())
            self.successes.add(message.transaction)
        elif message.type == stun.BINDING_ERROR:
            value = message.value(stun.Attribute.ERROR_CODE) or b""
            self.errors.append(value[2] * 100 + value[3])
        elif message.type == stun.BINDING_REQUEST:
            assert stun.integrity_holds(datagram, self.pwd.encode())
            self.checks_received += 1
            if self.answers_checks:
                return [stun.build_binding_success(message.transaction, mapped, key=self.pwd.encode())]
        return []

    def follow(self) -> list[bytes]:
        """Take what DTLS has to say; gives what it has to send."""
        assert self.dtls is not None
        while (event := self.dtls.next_event()) is not None:
            if isinstance(event, HandshakeDone):
                self.srtp = SrtpSession(event.keys)
            elif isinstance(event, ApplicationData):
                self.data.append(event.data)
            elif isinstance(event, HandshakeFailed):
                self.failed = event.reason
            elif isinstance(event, Closed):
                self.is_closed = True
        return self.dtls.datagrams_to_send()

    def start_dtls(self, now: float) -> list[bytes]:
        """The first flight, if it is ours."""
        assert self.dtls is not None
        self.dtls.start(now)
        return self.follow()

    def audio(self, payload: bytes, *, samples: int = 960, level: int = -30, skip: int = 0) -> bytes:
        """The next SRTP packet; `skip` sequence numbers are left out before it."""
        assert self.srtp is not None
        self.sequence += 1 + skip
        self.timestamp += samples * (1 + skip)
        return self.srtp.protect(
            rtp.build_packet(
                payload_type=111,
                marker=False,
                sequence=self.sequence & 0xFFFF,
                timestamp=self.timestamp & 0xFFFFFFFF,
                ssrc=self.ssrc,
                payload=payload,
                extensions={
                    LEVEL_ID: rtp.build_audio_level(level > -60, level),
                    TRANSPORT_CC_ID: (self.sequence & 0xFFFF).to_bytes(2, "big"),
                },
            )
        )
