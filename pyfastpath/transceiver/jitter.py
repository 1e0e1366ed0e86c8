"""From packets in any order to frames in order: what the pipeline pulls from, and where gaps get a name.

Nobody plays these frames to an ear, so nothing is delayed for smoothness: a packet in order leaves at once.
Only a gap makes those behind it wait, at most 60 ms, for the missing one to come late or be recovered.

    if buffer.passes(sequence, timestamp):    # the usual case: in order, nothing waits
        use(frame)
    else:
        buffer.insert(sequence, timestamp, frame, now)
    while released := buffer.pop(now): ...    # Frame or Lost; and again when get_timer() has come

Sequence numbers and timestamps are those of RTP and wrap; inside they count on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from pyfastpath.transceiver.counters import Counters

GAP_WAIT_S: Final = 0.060
CAPACITY: Final = 64  # packets behind a gap
JUMP: Final = 150  # packets, 3 s of audio: a greater distance is no loss but another beginning
GIVEN_UP_MAX: Final = 256  # remembered, to tell a late packet from a duplicate
SAMPLES: Final = 960  # of a lost packet, when the timestamps of its neighbours make no sense
SAMPLES_MAX: Final = 48_000  # in silence (DTX) a packet may stand for 400 ms and more

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Frame(Generic[Content]):
    """The next one in order."""

    sequence: int
    timestamp: int
    content: Content


@dataclass(frozen=True, slots=True)
class Lost(Generic[Content]):
    """A packet that did not come. `timestamp` and `samples` (RTP clock) are what its neighbours suggest.
    `following`: the content right behind it, whose in-band FEC may carry it; None inside a longer gap."""

    sequence: int
    timestamp: int
    samples: int
    following: Content | None


class JitterBuffer(Protocol[Content]):
    """What the pipeline needs of any jitter buffer, an adaptive one included."""

    def passes(self, sequence: int, timestamp: int) -> bool:
        """True: it is the next one and nothing waits; it counts as released, use it. False: insert it."""

    def insert(
        self, sequence: int, timestamp: int, content: Content, now: float, *, is_copy: bool = False
    ) -> None:
        """Keep a packet until it is its turn. is_copy: it comes out of another one's redundancy; ignored when
        the buffer does not want it."""

    def pop(self, now: float) -> Frame[Content] | Lost[Content] | None:
        """The next in order; None when there is nothing to release yet."""

    def get_timer(self) -> float | None:
        """When a gap will have waited long enough: call pop then. None: nothing waits."""

    def wants(self, sequence: int) -> bool:
        """Is this packet missing, so that a redundant copy of it would be of use?"""

    def restart(self) -> None:
        """Another source (SSRC) begins: forget the one before."""


@dataclass(slots=True)
class _Held(Generic[Content]):
    timestamp: int
    content: Content
    arrived_s: float
    is_copy: bool


class OrderedBuffer(Generic[Content]):
    """The plain one: in order, at once; a gap waits GAP_WAIT_S."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._is_begun = False
        self._next = 0  # unwrapped sequence number of the packet whose turn it is
        self._expected = -1  # its 16 bits while nothing waits, otherwise no sequence number at all
        self._timestamp = 0  # of the one released before it
        self._held: dict[int, _Held[Content]] = {}
        self._given_up: dict[int, None] = {}

    def passes(self, sequence: int, timestamp: int) -> bool:
        """The fast path: a comparison and an addition."""
        if sequence != self._expected:
            return False
        self._next += 1
        self._expected = sequence + 1 & 0xFFFF
        self._timestamp = timestamp
        self._counters.jitter_buffer_released += 1
        return True

    def insert(
        self, sequence: int, timestamp: int, content: Content, now: float, *, is_copy: bool = False
    ) -> None:
        """A packet whose turn is over, or that is here already, is counted and not kept."""
        if is_copy and not self.wants(sequence):
            return
        number = self._unwrap(sequence)
        if not self._is_begun:
            self._begin(number, timestamp)
        elif number > self._next + JUMP:
            self._counters.rtp_lost += number - self._next - len(self._held)
            self._begin(number, timestamp)
        elif number < self._next or number in self._held:
            self._count_useless(number)
            return
        self._held[number] = _Held(timestamp, content, now, is_copy)
        self._expected = -1

    def pop(self, now: float) -> Frame[Content] | Lost[Content] | None:
        """Frame when it is there; Lost when its time is over, or too many wait behind it."""
        held = self._held
        if not held:
            return None
        found = held.pop(self._next, None)
        if found is None:
            if len(held) < CAPACITY and now < self._oldest_s() + GAP_WAIT_S:
                return None
            return self._give_up()
        counters = self._counters
        counters.jitter_buffer_released += 1
        counters.jitter_buffer_delay_s += now - found.arrived_s
        if found.is_copy:
            counters.repaired["red"] += 1
        return Frame(self._advance(found.timestamp), found.timestamp, found.content)

    def get_timer(self) -> float | None:
        """Of the gap at the front."""
        return self._oldest_s() + GAP_WAIT_S if self._held else None

    def wants(self, sequence: int) -> bool:
        """True inside of a gap, and for what is about to come."""
        number = self._unwrap(sequence)
        return self._is_begun and self._next <= number < self._next + CAPACITY and number not in self._held

    def restart(self) -> None:
        """Another source begins: the next packet inserted is its first."""
        self._is_begun = False
        self._expected = -1
        self._held.clear()

    # ---- inside -----------------------------------------------------------------------------------

    def _unwrap(self, sequence: int) -> int:
        """The number nearest to the one expected. Behind it is late, however far: SRTP's replay protection
        lets no sender count back."""
        return self._next + ((sequence - self._next + 0x8000 & 0xFFFF) - 0x8000)

    def _begin(self, number: int, timestamp: int) -> None:
        """The first packet, or the first after an outage, is the next one. What was before it is not waited
        for, nor concealed."""
        self._is_begun = True
        self._held.clear()
        self._given_up.clear()
        self._next = number
        self._timestamp = timestamp

    def _count_useless(self, number: int) -> None:
        if number in self._given_up:
            del self._given_up[number]
            self._counters.rtp_late += 1
        else:
            self._counters.rtp_duplicated += 1

    def _oldest_s(self) -> float:
        return min(held.arrived_s for held in self._held.values())

    def _give_up(self) -> Lost[Content]:
        number, first = self._next, min(self._held)
        behind = self._held[first]
        samples = (behind.timestamp - self._timestamp & 0xFFFFFFFF) // (first - number + 1)
        if samples > SAMPLES_MAX:
            samples = SAMPLES
        timestamp = self._timestamp + samples & 0xFFFFFFFF
        self._counters.rtp_lost += 1
        self._given_up[number] = None
        if len(self._given_up) > GIVEN_UP_MAX:
            del self._given_up[next(iter(self._given_up))]
        sequence = self._advance(timestamp)
        return Lost(sequence, timestamp, samples, behind.content if first == number + 1 else None)

    def _advance(self, timestamp: int) -> int:
        """The turn goes to the next one; gives the sequence number whose turn it was."""
        number = self._next
        self._next += 1
        self._timestamp = timestamp
        self._expected = -1 if self._held else self._next & 0xFFFF
        return number & 0xFFFF
