"""Which datagrams of a capture belong to a WebRTC call, and which way they go. Pure.

A flow is one client address and one server address; it begins with the client's first Binding Request, and
that one's USERNAME names the call (the server's ufrag, RFC 8445 section 7.2.2). Several flows may belong to
one call (other candidates, a moved client), and one flow may see several ufrags (an ICE restart). What
follows on the same pair of addresses is told apart by its first byte (RFC 7983).

What no relay would forward is left out, each for a reason that is counted: a replay judges every datagram it
sends, so it sends none that must be dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from pyfastpath.errors import FastpathError, WireError
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from pyfastpath.wire.demux import Kind, demux

DATAGRAM_BYTES_MAX: Final = 2048  # longer ones the relay drops (FP_DATAGRAM_BYTES)
STUN_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - 64  # a session's own ufrag may be longer than the captured one
FLOWS_MAX: Final = 65_000  # of one capture: as many as one replay has client addresses
UFRAGS_MAX: Final = 64  # of one call
ASKED_MAX: Final = 256  # transactions of one flow that wait for their answer
AMPLIFICATION: Final = 3  # bytes to an unconfirmed client for each byte from it (RFC 9000, section 8)
UNSPECIFIED_PORT: Final = 0  # in `server`: whatever its port

NO_CALL: Final = "of no call"
NOT_WEBRTC: Final = "not WebRTC"
BAD_STUN: Final = "malformed STUN"
CUT: Final = "cut before what matters"
TOO_LONG: Final = f"longer than {DATAGRAM_BYTES_MAX} bytes"
UNCONFIRMED: Final = "before the server's answer"
AMPLIFIED: Final = "too much before the client's answer"
OTHER_SERVER: Final = "of another server"
TOO_MANY: Final = "beyond what one replay can hold"

_ROLE_HINT: Final = "Say which side is the server: --server IP:PORT, or --passwords FILE.jsonl."


class RoleError(FastpathError):
    """It cannot be told which side of a call is the server."""

    exit_code = 2


@dataclass(slots=True, eq=False)
class Call:
    """One call: everything that the client asked for under one ufrag of the server, or a restarted one."""

    index: int
    ufrags: list[bytes] = field(default_factory=list)  # the server's; more than one after an ICE restart
    flows: list[Flow] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Flow:
    """One client address and one server address of a call, and how far its set-up is."""

    index: int
    call: Call
    client: Endpoint
    server: Endpoint
    client_ufrags: list[bytes] = field(default_factory=list)
    up: int = 0  # datagrams to be played
    down: int = 0
    confirmed: bool = False
    asked: set[bytes] = field(default_factory=set)  # transactions, until one of them was answered
    allowance_bytes: int = 0  # what the server may send before that


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a datagram belongs. `stun`: a well-formed message, which has to be rewritten for each session."""

    flow: Flow
    upstream: bool
    stun: bool


class CallFinder:
    """Reads a capture datagram by datagram; the same datagrams always give the same calls.

    server: the servers' address if it is known; its port may be 0 (any). server_ufrags: of calls whose
    credentials are known.
    """

    def __init__(self, *, server: Endpoint | None = None, server_ufrags: Collection[bytes] = ()) -> None:
        self.calls: list[Call] = []
        self.flows: list[Flow] = []
        self.skipped: Counter[str] = Counter()
        self._server = server
        self._server_ufrags = frozenset(server_ufrags)
        self._pairs: dict[tuple[Endpoint, Endpoint], Flow] = {}  # (client, server)
        self._call_of: dict[bytes, Call] = {}
        self._servers: set[Endpoint] = set()
        self._clients: set[Endpoint] = set()

    def place(
        self, source: Endpoint, target: Endpoint, payload: bytes, original_bytes: int | None = None
    ) -> Placed | None:
        """The next datagram of the capture; None: it is not played, `skipped` says why.

        original_bytes: its length on the wire, when the capture cut it.
        """
        whole_bytes = len(payload) if original_bytes is None else original_bytes
        found = self._judge(source, target, payload, whole_bytes)
        if isinstance(found, str):
            self.skipped[found] += 1
            return None
        found.flow.up += found.upstream
        found.flow.down += not found.upstream
        return found

    def _judge(self, source: Endpoint, target: Endpoint, payload: bytes, whole_bytes: int) -> Placed | str:
        flow = self._pairs.get((source, target)) or self._pairs.get((target, source))
        cut = len(payload) != whole_bytes
        if demux(payload) == Kind.STUN:
            message = None if cut else _parse(payload)
            if message is not None and (flow is not None or message.type == stun.BINDING_REQUEST):
                return self._stun(flow, source, target, message, whole_bytes)
            if flow is not None:
                return CUT if cut else BAD_STUN
        if flow is None:
            return NO_CALL
        return _why_not(flow, payload, whole_bytes) or Placed(flow, source == flow.client, False)

    def _stun(
        self, flow: Flow | None, source: Endpoint, target: Endpoint, message: stun.Message, size_bytes: int
    ) -> Placed | str:
        """A message on a known flow, or the Binding Request that may open one."""
        if size_bytes > STUN_BYTES_MAX:
            return TOO_LONG
        if flow is None:
            refused = self._refusal(source, target, _names(message))
            if refused:
                return refused
            flow = self._open(source, target, _names(message))
        upstream = source == flow.client
        if not flow.confirmed and not _allowed(flow, upstream, size_bytes):
            return AMPLIFIED
        if message.type == stun.BINDING_REQUEST:
            if not self._request(flow, upstream, message):
                return TOO_MANY
        elif message.type == stun.BINDING_SUCCESS and not upstream and message.transaction in flow.asked:
            flow.confirmed = True
            flow.asked.clear()
        return Placed(flow, upstream, True)

    def _refusal(self, source: Endpoint, target: Endpoint, names: tuple[bytes, bytes]) -> str:
        """Why this first Binding Request of a pair opens no flow; empty: it does."""
        if self._server and not (_matches(self._server, source) or _matches(self._server, target)):
            return OTHER_SERVER
        if not self._client_sent(source, target, names):
            return NO_CALL  # the server asked first: no relay could have known where the client is
        return TOO_MANY if len(self.flows) == FLOWS_MAX else ""

    def _request(self, flow: Flow, upstream: bool, message: stun.Message) -> bool:
        """Note its names and transaction. False: a ufrag too many."""
        receiver, sender = _names(message)
        server, client = (receiver, sender) if upstream else (sender, receiver)
        if upstream and server not in flow.call.ufrags:  # an ICE restart
            if len(flow.call.ufrags) == UFRAGS_MAX:
                return False
            flow.call.ufrags.append(server)
            self._call_of.setdefault(server, flow.call)
        if client not in flow.client_ufrags and len(flow.client_ufrags) < UFRAGS_MAX:
            flow.client_ufrags.append(client)
        if upstream and not flow.confirmed and len(flow.asked) < ASKED_MAX:
            flow.asked.add(message.transaction)
        return True

    def _open(self, client: Endpoint, server: Endpoint, names: tuple[bytes, bytes]) -> Flow:
        call = self._call_of.get(names[0])
        if call is None:
            call = Call(len(self.calls), [names[0]])
            self.calls.append(call)
            self._call_of[names[0]] = call
        flow = Flow(len(self.flows), call, client, server, [names[1]])
        self.flows.append(flow)
        call.flows.append(flow)
        self._pairs[client, server] = flow
        self._servers.add(server)
        self._clients.add(client)
        if client in self._servers or server in self._clients:
            both = client if client in self._servers else server
            raise RoleError(
                f"{both} is a client in one call of this capture and a server in another", _ROLE_HINT
            )
        return flow

    def _client_sent(self, source: Endpoint, target: Endpoint, names: tuple[bytes, bytes]) -> bool:
        """Did the client send this first request of a pair? What is known decides; else who asks is it."""
        if self._server is not None:
            if _matches(self._server, source) and _matches(self._server, target):
                raise RoleError(
                    f"{self._server} is at both ends of the Binding Request from {source} to {target}",
                    "Give --server the port too, or leave it out.",
                )
            return _matches(self._server, target)
        receiver, sender = names
        if (receiver in self._server_ufrags) != (sender in self._server_ufrags):
            return receiver in self._server_ufrags
        if (receiver in self._call_of) != (sender in self._call_of):
            return receiver in self._call_of
        return source not in self._servers or target in self._servers


def _why_not(flow: Flow, payload: bytes, whole_bytes: int) -> str:
    """Why no relay forwards this datagram of a flow that is no STUN; empty: it does."""
    if whole_bytes > DATAGRAM_BYTES_MAX:
        return TOO_LONG
    if demux(payload) == Kind.NOT_WEBRTC:
        return NOT_WEBRTC if payload or not whole_bytes else CUT
    return "" if flow.confirmed else UNCONFIRMED


def _allowed(flow: Flow, upstream: bool, size_bytes: int) -> bool:
    """May the server send this much to a client that has not shown that it is there?"""
    if upstream:
        flow.allowance_bytes += AMPLIFICATION * size_bytes
    elif flow.allowance_bytes < size_bytes:
        return False
    else:
        flow.allowance_bytes -= size_bytes
    return True


def _matches(server: Endpoint, end: Endpoint) -> bool:
    return server.address == end.address and server.port in (UNSPECIFIED_PORT, end.port)


def _names(message: stun.Message) -> tuple[bytes, bytes]:
    """The receiver's and the sender's ufrag of a Binding Request."""
    receiver, _, sender = (message.value(stun.Attribute.USERNAME) or b"").partition(b":")
    return receiver, sender


def _parse(payload: bytes) -> stun.Message | None:
    try:
        return stun.parse_message(payload)
    except WireError:
        return None
