"""The verdict on a self-call: what caller and relay saw, and everything that should not be. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from pyfastpath.tools.relay_numbers import RelayNumbers
from pyfastpath.tools.selfcall import CallReport

SESSION_CREATED = "session.created"


class Heard(Protocol):
    """What every caller knows of its call: this one, and that of the aiortc example."""

    @property
    def bursts_sent(self) -> int: ...
    @property
    def bursts_heard(self) -> int: ...
    @property
    def packets_sent(self) -> int: ...
    @property
    def packets_received(self) -> int: ...
    @property
    def network_ms(self) -> float | None: ...
    @property
    def audio_ms(self) -> float | None: ...


def report(call: CallReport, relay: RelayNumbers, agent: str, via: str = "") -> str:
    """What happened, in six lines. via: the address that was called instead, where that of the candidates is
    not this machine's."""
    stood_in = f", called at {via}" if via else ""
    steps = ", ".join(f"{name} {_ms(value)}" for name, value in call.steps_ms.items())
    return (
        f"  path       client → {', '.join(call.candidates)} (relay{stood_in}) → transceiver → {agent}\n"
        f"  setup      answer {_ms(call.answer_ms)}, connected {_ms(call.connected_ms)}, first event "
        f"{_ms(call.event_ms)}; the transceiver's steps: {steps or 'unknown'}\n"
        f"{media_report(call, relay)}"
    )


def media_report(call: Heard, relay: RelayNumbers) -> str:
    """What was said and heard, and what the relay did with it: four lines."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in relay.dropped.items())
    return (
        f"  audio      {call.bursts_heard} of {call.bursts_sent} tone bursts came back; "
        f"{call.packets_sent} RTP packets out, {call.packets_received} back\n"
        f"  forwarded  {relay.forwarded_up + relay.forwarded_down} datagrams "
        f"({relay.forwarded_up} up, {relay.forwarded_down} down)\n"
        f"  dropped    {sum(relay.dropped.values())}{f' ({dropped})' if dropped else ''}\n"
        f"  latency    in the relay {_stay(relay, 0.5)} (p50), {_stay(relay, 0.99)} (p99); "
        f"RTCP round trip {_ms(call.network_ms)}; "
        f"audio round trip {_ms(call.audio_ms)}, jitter buffers included"
    )


def _stay(relay: RelayNumbers, share: float) -> str:
    """The histogram's bound; where its last one was passed, that."""
    bound = relay.residence_ms(share)
    if bound is not None and math.isinf(bound):
        return f"> {_ms(1000 * max(filter(math.isfinite, relay.residence), default=0))}"
    return f"≤ {_ms(bound)}"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} ms"


def find_faults(call: CallReport, relay: RelayNumbers, candidates: tuple[str, ...]) -> Iterator[str]:
    """Everything that should not be after a call on an idle machine. candidates: the relay's addresses."""
    if call.candidates != candidates:
        yield f"the answer names other addresses than the relay's: {', '.join(call.candidates) or 'none'}"
    if call.first_event != SESSION_CREATED:
        yield f"the data channel began with {call.first_event or 'nothing'}, not with {SESSION_CREATED}"
    yield from find_media_faults(call, relay)


def find_media_faults(call: Heard, relay: RelayNumbers) -> Iterator[str]:
    """What should not be, whoever called and whatever answered."""
    if call.bursts_heard < call.bursts_sent - 1 or not call.bursts_heard:  # the last one may be on its way
        yield f"{call.bursts_sent - call.bursts_heard} of {call.bursts_sent} tone bursts never came back"
    if relay.forwarded_up < call.packets_sent or relay.forwarded_down < call.packets_received:
        yield "the relay forwarded fewer datagrams than the call had: something went past it"
    if relay.dropped or relay.kernel_dropped:
        yield f"datagrams were dropped: {relay.dropped}, {relay.kernel_dropped} by the kernel"
    if relay.unaccounted:
        yield f"{relay.unaccounted} datagrams are not accounted for"
