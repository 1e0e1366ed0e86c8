"""Transport-wide congestion feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).

The sender numbers all its packets; the receiver says when each arrived; the sender estimates the bandwidth.
Here is the control information (FCI) of that RTCP message, behind the two SSRCs of wire.rtcp.Feedback:

    u16 base sequence | u16 packet count | u24 reference time, 64 ms | u8 feedback count
    packet chunks (16 bits each), receive deltas (250 µs; one byte, or two, signed), zero padding

Arrival times are integers in units of 250 µs, of any clock that only the feedback itself compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from pyfastpath.errors import WireError

TICKS_PER_SECOND: Final = 4000
REFERENCE_TICKS: Final = 256  # 64 ms
PACKETS_MAX: Final = (1 << 16) - 1

_REFERENCE_MODULUS: Final = 1 << 24
_HEADER: Final = Struct("!HHI")
_HEADER_BYTES: Final = _HEADER.size
_LOST, _SMALL, _LARGE = 0, 1, 2  # packet status symbols; 3 is reserved
_RUN_MAX: Final = (1 << 13) - 1
_ONE_BIT_SYMBOLS: Final = 14
_TWO_BIT_SYMBOLS: Final = 7


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """One message. `deltas`: one entry a packet from `base_sequence` on. None: it did not arrive; otherwise
    ticks since the packet before it that did; of the first one, since the reference time."""

    base_sequence: int
    reference: int  # units of 64 ms, 24 bits
    count: int  # of feedback messages, 8 bits
    deltas: tuple[int | None, ...]

    def arrivals(self) -> Iterator[tuple[int, int | None]]:
        """(sequence number, arrival in ticks or None), in order."""
        at = self.reference * REFERENCE_TICKS
        for number, delta in enumerate(self.deltas):
            at += delta or 0
            yield self.base_sequence + number & 0xFFFF, None if delta is None else at


def compose(
    arrivals: Sequence[tuple[int, int]], count: int, first: int | None = None
) -> list[TransportFeedback]:
    """Messages that report these packets: (unwrapped sequence number, arrival in ticks), in rising order of
    the number, each number once. What lies between two numbers is reported as lost, and so is everything from
    `first` (unwrapped) to the first arrival. Usually one message; another begins where a delta or the number
    of packets does not fit. `count` is the first message's."""
    messages: list[TransportFeedback] = []
    at = 0
    while at < len(arrivals):
        base, first_ticks = arrivals[at]
        if first is not None and not messages and 0 < base - first < PACKETS_MAX:
            base = first
        reference = first_ticks // REFERENCE_TICKS
        deltas: list[int | None] = []
        before = reference * REFERENCE_TICKS
        while at < len(arrivals):
            sequence, ticks = arrivals[at]
            if not -0x8000 <= ticks - before <= 0x7FFF or sequence - base >= PACKETS_MAX:
                break
            if sequence - base > len(deltas):
                deltas += [None] * (sequence - base - len(deltas))
            deltas.append(ticks - before)
            before = ticks
            at += 1
        messages.append(
            TransportFeedback(
                base & 0xFFFF, reference % _REFERENCE_MODULUS, count + len(messages) & 0xFF, tuple(deltas)
            )
        )
    return messages


def build_feedback(feedback: TransportFeedback) -> bytes:
    """The control information, padded to words. ValueError: no packet, too many, a delta out of range."""
    deltas = feedback.deltas
    if not 0 < len(deltas) <= PACKETS_MAX:
        raise ValueError(f"a feedback message reports 1 to {PACKETS_MAX} packets, not {len(deltas)}")
    head = _HEADER.pack(feedback.base_sequence, len(deltas), feedback.reference << 8 | feedback.count)
    data = head + (_build_quiet(deltas) or _build_any(deltas))
    return data + bytes(-len(data) % 4)


def _build_quiet(deltas: tuple[int | None, ...]) -> bytes | None:
    """A run and its deltas, one byte each, as a network in good health has them; None: these are others."""
    try:
        small = bytes(deltas)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a loss, or a delta outside of 0..255
        return None
    return (_SMALL << 13 | len(small)).to_bytes(2, "big") + small if len(small) <= _RUN_MAX else None


def _build_any(deltas: tuple[int | None, ...]) -> bytes:
    received = [delta for delta in deltas if delta is not None]
    if any(not -0x8000 <= delta <= 0x7FFF for delta in received):
        raise ValueError("a receive delta has 16 bits, signed")
    symbols = bytes(_LOST if delta is None else _SMALL if 0 <= delta <= 0xFF else _LARGE for delta in deltas)
    sizes = (d.to_bytes(1, "big") if 0 <= d <= 0xFF else d.to_bytes(2, "big", signed=True) for d in received)
    return b"".join((*_build_chunks(symbols), *sizes))


def _build_chunks(symbols: bytes) -> Iterator[bytes]:
    """A run where it says at least as much as a vector would, else the vector that these symbols need."""
    at, end = 0, len(symbols)
    while at < end:
        symbol = symbols[at]
        run = 1
        while run < _RUN_MAX and at + run < end and symbols[at + run] == symbol:
            run += 1
        head = symbols[at : at + _ONE_BIT_SYMBOLS]
        width = _ONE_BIT_SYMBOLS if _LARGE not in head else _TWO_BIT_SYMBOLS
        if run >= min(width, end - at):
            yield (symbol << 13 | run).to_bytes(2, "big")
            at += run
            continue
        bits = 1 if width == _ONE_BIT_SYMBOLS else 2
        chunk = 2 if bits == 1 else 3
        for place in range(width):
            chunk = chunk << bits | (head[place] if place < len(head) else 0)
        yield chunk.to_bytes(2, "big")
        at += width


def parse_feedback(fci: bytes) -> TransportFeedback:
    """Read the control information. WireError: it ends early, or has a reserved symbol."""
    if len(fci) < _HEADER_BYTES:
        raise WireError("This transport-wide feedback ends inside its header.")
    count = int.from_bytes(fci[2:4], "big")
    symbols, at = _parse_chunks(fci, count)
    deltas: list[int | None] = []
    for symbol in symbols:
        if symbol > _LARGE or at + symbol > len(fci):
            raise WireError("This transport-wide feedback has a reserved symbol, or ends inside its deltas.")
        delta = int.from_bytes(fci[at : at + symbol], "big", signed=symbol == _LARGE)
        deltas.append(delta if symbol else None)
        at += symbol
    base, reference = int.from_bytes(fci[:2], "big"), int.from_bytes(fci[4:7], "big")
    return TransportFeedback(base, reference, fci[7], tuple(deltas))


def _parse_chunks(fci: bytes, count: int) -> tuple[bytearray, int]:
    """`count` symbols (each as long as its delta), and where the deltas begin."""
    symbols, at = bytearray(), _HEADER_BYTES
    while len(symbols) < count:
        if at + 2 > len(fci):
            raise WireError("This transport-wide feedback ends inside its chunks.")
        chunk = fci[at] << 8 | fci[at + 1]
        at += 2
        if not chunk & 0x8000:
            run = chunk & _RUN_MAX
            symbols += bytes([chunk >> 13]) * run
        elif chunk & 0x4000:
            symbols += bytes(chunk >> shift & 3 for shift in range(12, -1, -2))
        else:
            symbols += bytes(chunk >> shift & 1 for shift in range(13, -1, -1))
    return symbols[:count], at
