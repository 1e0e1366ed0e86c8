"""Calls through rtpengine, one a flow: an offer and an answer over its control protocol `ng` (UDP).

The caller is the client, wherever its first packet comes from; the callee is the benchmark's backend. The
answer's SDP, as rtpengine rewrites it, names the port this client has to send to.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

from bench.peers.clients import send_as
from bench.peers.rtpengine.bencode import decode, encode

Address = tuple[str, int]
TIMEOUT_S = 2.0
ATTEMPTS = 3
PRIME_BATCH = 32
PRIME_WAIT_S = 0.2
# Plain forwarding: RTP/AVP on both sides, so no key and no cipher; no ICE, no RTCP of its own.
PLAIN = {"transport-protocol": "RTP/AVP", "ICE": "remove", "replace": ["origin"], "rtcp-mux": ["demux"]}
NOBODYS_RUN = 0xFFFFFFFF  # a probe of this run is a stranger to every sink: it teaches, and counts nowhere


class Control:
    """The control socket of one rtpengine; `sock` is a UDP socket that reaches it."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self._sock, self._cookie = sock, 0
        sock.connect(address)
        sock.settimeout(TIMEOUT_S)

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """One command; RuntimeError when rtpengine refuses it or is silent."""
        self._cookie += 1
        cookie = f"{self._cookie} ".encode()
        request = cookie + encode({"command": command, **fields})
        for _ in range(ATTEMPTS):
            self._sock.send(request)
            answer = self._answer(cookie)
            if answer is None:
                continue
            if answer["result"] not in ("ok", "pong"):
                raise RuntimeError(f"rtpengine, {command}: {answer.get('error-reason', answer)}")
            return answer
        raise RuntimeError(f"rtpengine did not answer to {command}")

    def _answer(self, cookie: bytes) -> dict[str, Any] | None:
        while True:
            try:
                said = self._sock.recv(65_535)
            except (TimeoutError, ConnectionRefusedError):
                return None
            if said.startswith(cookie):
                answer: dict[str, Any] = decode(said[len(cookie) :])
                return answer

    def open_call(self, serial: int, client_ip: str, backend: Address) -> int:
        """Offer and answer of one call; the port its client sends to."""
        call = {"call-id": f"flow-{serial}", "from-tag": "client", **PLAIN}
        # port 9, discard: the client's own is not known yet, its first packet shows it
        self.ask("offer", sdp=sdp(client_ip, 9), direction=["clients", "backend"], **call)
        answer = self.ask("answer", sdp=sdp(*backend), **call, **{"to-tag": "backend"})
        return audio_port(answer["sdp"])


def sdp(ip: str, port: int) -> str:
    """One audio stream at an address (RFC 8866), with the payload type of the probes."""
    lines = ["v=0", f"o=- 1 1 IN IP4 {ip}", "s=-", f"c=IN IP4 {ip}", "t=0 0", f"m=audio {port} RTP/AVP 111"]
    return "\r\n".join([*lines, "a=rtpmap:111 opus/48000/2", "a=sendrecv", ""])


def audio_port(text: str) -> int:
    """The port of the first audio stream of an SDP."""
    for line in text.splitlines():
        if line.startswith("m=audio "):
            return int(line.split()[1])
    raise ValueError(f"no audio stream in {text!r}")


def teach(generator: Any, sink: Any, targets: list[Address], timeout_ms: int) -> int:
    """Sends one packet of every flow, so that rtpengine learns its client; how many flows were taught.

    They come out at the sink as strangers, which is how one knows: the sink must be running."""
    end_s = time.monotonic() + timeout_ms / 1000
    taught = 0
    for first in range(0, len(targets), PRIME_BATCH):
        batch = range(first, min(first + PRIME_BATCH, len(targets)))
        while time.monotonic() < end_s:
            before = _strangers(sink)
            for flow in batch:
                send_as(generator, flow, _packet(flow), targets[flow])
            if _wait_for(sink, before + len(batch)):
                taught += len(batch)
                break
    return taught


def _packet(flow: int) -> bytes:
    """An RTP packet as fastpath/load/probe.pxd lays it out."""
    return struct.pack("!BBHI", 0x80, 111, 0, 0) + struct.pack("=IIQQ", flow, NOBODYS_RUN, 0, 0)


def _wait_for(sink: Any, strangers: int) -> bool:
    end_s = time.monotonic() + PRIME_WAIT_S
    while _strangers(sink) < strangers:
        if time.monotonic() > end_s:
            return False
        time.sleep(0.002)
    return True


def _strangers(sink: Any) -> int:
    count: int = sink.arrivals.counters()["strangers"]
    return count
