"""The data channel's end of a call: aiortc's SCTP association over somebody else's DTLS (RFC 8831, 8261).

    association = Association(send=..., is_client=..., remote_port=5000, max_message_size=65536, ...)
    association.receive(packet)                    what DTLS brought
    association.send_text("oai-events", "{...}")
    await association.close()

Only RTCSctpTransport is used of aiortc; no DTLS and no ICE object of it exists. It keeps its timers in the
event loop, which is why this stands among the I/O. None of its coroutines waits for anything but the
transport's, and ours never does: each ends at its first step, so there is no task to hold.

aiortc trusts the other side of an association. A client here is a stranger: what would cost memory or time
without bound ends his association, what it cannot parse is ignored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport

STREAMS_MAX: Final = 64
FRAGMENTS_MAX: Final = 1024  # of messages not yet whole: a MiB of them, as the window allows
GAPS_SPAN_MAX: Final = 4096  # TSNs a SACK may speak of
BUFFERED_BYTES_MAX: Final = 4 << 20  # text waiting for a client that acknowledges nothing

_PACKET_HEADER_BYTES: Final = 12  # RFC 9260, section 3.1
_DATA: Final = 0
_SACK: Final = 3
_DATA_HEADER_BYTES: Final = 16  # section 3.3.1
_SACK_HEADER_BYTES: Final = 16  # section 3.3.4


class Association:
    """One SCTP association and its data channels, told apart by their labels.

    send takes SCTP packets for DTLS. is_client: our role in DTLS. max_message_size: of the client, in bytes,
    0 for any (RFC 8841). on_open(label) when the client opened a data channel, on_text(label, text) for what
    it says there (binary messages are ignored), on_closed(label) when it closed it or the association has
    ended; not after close().
    """

    def __init__(
        self,
        *,
        send: Callable[[bytes], None],
        is_client: bool,
        remote_port: int,
        max_message_size: int,
        on_open: Callable[[str], None],
        on_text: Callable[[str, str], None],
        on_closed: Callable[[str], None],
        local_port: int = 5000,
    ) -> None:
        self._send = send
        self._on_open, self._on_text, self._on_closed = on_open, on_text, on_closed
        self._data_channels: dict[str, RTCDataChannel] = {}
        self._packets: deque[bytes] = deque()
        self._reports: deque[Callable[[], None]] = deque()
        self.refused = 0  # packets that aiortc could not take, or was not given
        self._receiving = False
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._sctp = _Sctp(_Dtls(self._sent, is_client=is_client), local_port, self._ended)
        self._sctp.on("datachannel", self._opened)
        _finish(self._sctp.start(RTCSctpCapabilities(maxMessageSize=max_message_size), remote_port))

    # ---- what the session does -----------------------------------------------------------------------

    def receive(self, packet: bytes) -> None:
        """Take an SCTP packet. The callbacks are called before this returns."""
        if self._is_over:
            return
        if _is_costly(packet):
            self.refused += 1
            return
        self._receiving = True
        try:
            _finish(self._sctp._handle_data(packet))
        except Exception:
            # aiortc asserts, unpacks and decodes what a stranger sent. No code of ours runs in there.
            self.refused += 1
        finally:
            self._receiving = False
        if self._sctp.is_overfilled():
            _finish(self._sctp.stop())
        self._deliver()

    def send_text(self, label: str, text: str) -> bool:
        """Queue a message. False: no such data channel is open, or the client takes none of this size."""
        data_channel = self._data_channels.get(label)
        if self._is_over or data_channel is None or data_channel.readyState != "open":
            return False
        try:
            data_channel.send(text)
        except ValueError:  # longer than max_message_size
            return False
        if data_channel.bufferedAmount > BUFFERED_BYTES_MAX:
            _finish(self._sctp.stop())
        return True

    async def close(self) -> None:
        """Abort the association (the client is told) and stop every timer."""
        if not self._is_over:
            await self._sctp.stop()
            self._is_over = True
            self._reports.clear()
            self._deliver()

    # ---- what aiortc reports -------------------------------------------------------------------------

    def _opened(self, data_channel: RTCDataChannel) -> None:
        label = data_channel.label
        self._data_channels[label] = data_channel
        data_channel.on("message", lambda message: self._heard(label, message))
        data_channel.on("close", lambda: self._closed(data_channel))
        self._later(lambda: self._on_open(label))

    def _heard(self, label: str, message: str | bytes) -> None:
        if isinstance(message, str):
            self._later(lambda: self._on_text(label, message))

    def _closed(self, data_channel: RTCDataChannel) -> None:
        label = data_channel.label
        if self._data_channels.get(label) is data_channel:
            del self._data_channels[label]
            self._later(lambda: self._on_closed(label))

    def _ended(self) -> None:
        self._later(self._end)

    def _end(self) -> None:
        self._is_over = True

    def _sent(self, packet: bytes) -> None:
        if not self._is_over:
            self._packets.append(packet)
            self._deliver_soon()

    def _later(self, report: Callable[[], None]) -> None:
        self._reports.append(report)
        self._deliver_soon()

    def _deliver_soon(self) -> None:
        """Callbacks never run inside aiortc, which would swallow their errors."""
        if not self._receiving:
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        while self._packets:
            self._send(self._packets.popleft())
        while self._reports:
            self._reports.popleft()()


class _Dtls:
    """All that RTCSctpTransport wants of a DTLS transport."""

    state = "connected"

    def __init__(self, send: Callable[[bytes], None], *, is_client: bool) -> None:
        self._send = send
        self._role = "client" if is_client else "server"

    def _register_data_receiver(self, receiver: object) -> None:
        """Association.receive is where packets come in."""

    def _unregister_data_receiver(self, receiver: object) -> None:
        """Nothing was registered."""

    async def _send_data(self, data: bytes) -> None:
        self._send(data)


class _Sctp(RTCSctpTransport):
    """Says when it ends, and how much it holds: aiortc tells neither."""

    def __init__(self, dtls: _Dtls, port: int, ended: Callable[[], None]) -> None:
        super().__init__(cast(RTCDtlsTransport, dtls), port)
        self._ended = ended

    def _set_state(self, state: RTCSctpTransport.State) -> None:
        was_over = self.state == "closed"
        super()._set_state(state)
        if self.state == "closed" and not was_over:
            self._ended()

    def is_overfilled(self) -> bool:
        """More than the window, or a window full of crumbs."""
        if self.state == "closed":
            return False
        streams = self._inbound_streams
        return (
            self._advertised_rwnd < 0
            or len(streams) > STREAMS_MAX
            or len(self._sack_misordered) > FRAGMENTS_MAX
            or sum(len(stream.reassembly) for stream in streams.values()) > FRAGMENTS_MAX
        )


def _finish(step: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        step.send(None)
    except StopIteration:
        return
    step.close()
    raise RuntimeError("A coroutine of aiortc's SCTP waits: this version of aiortc needs tasks.")


def _is_costly(packet: bytes) -> bool:
    """What would cost aiortc out of proportion: DATA without data, which no window counts, and a SACK that
    names more TSNs than can ever be under way."""
    at = _PACKET_HEADER_BYTES
    while at + 4 <= len(packet):
        length = int.from_bytes(packet[at + 2 : at + 4], "big")
        if length < 4:
            return True
        if packet[at] == _DATA and length <= _DATA_HEADER_BYTES:
            return True
        if packet[at] == _SACK and _gaps_span(packet[at : at + length]) > GAPS_SPAN_MAX:
            return True
        at += length + -length % 4
    return False


def _gaps_span(sack: bytes) -> int:
    count = int.from_bytes(sack[12:14], "big")
    gaps = sack[_SACK_HEADER_BYTES : _SACK_HEADER_BYTES + 4 * count]
    starts = (int.from_bytes(gaps[at : at + 2], "big") for at in range(0, len(gaps), 4))
    ends = (int.from_bytes(gaps[at + 2 : at + 4], "big") for at in range(0, len(gaps), 4))
    return sum(max(0, end - start + 1) for start, end in zip(starts, ends, strict=True))
