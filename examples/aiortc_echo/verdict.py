"""The verdict of the example: what the call and the relay saw, and everything that should not be."""

from collections.abc import Iterator

from examples.aiortc_echo.call import CallResult
from pyfastpath.tools.relay_numbers import RelayNumbers


def report(call: CallResult, relay: RelayNumbers) -> str:
    """What happened, in five lines."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in relay.dropped.items())
    return (
        f"  path       client → {', '.join(call.remotes)} (relay) → aiortc\n"
        f"  audio      {call.bursts_heard} of {call.bursts_sent} tone bursts came back; "
        f"{call.packets_sent} RTP packets out, {call.packets_received} back\n"
        f"  forwarded  {relay.forwarded_up + relay.forwarded_down} datagrams "
        f"({relay.forwarded_up} up, {relay.forwarded_down} down)\n"
        f"  dropped    {sum(relay.dropped.values())}{f' ({dropped})' if dropped else ''}\n"
        f"  latency    in the relay ≤ {_ms(relay.residence_ms(0.5))} (p50), "
        f"≤ {_ms(relay.residence_ms(0.99))} (p99); RTCP round trip {_ms(call.network_ms)}; "
        f"audio round trip {_ms(call.audio_ms)}, jitter buffers included"
    )


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} ms"


def find_faults(call: CallResult, relay: RelayNumbers, relay_address: str) -> Iterator[str]:
    """Everything that should not be after a call on an idle machine."""
    if call.remotes != (relay_address,):
        yield f"the client knew other addresses than the relay: {call.remotes}"
    if call.bursts_heard < call.bursts_sent - 1 or not call.bursts_heard:  # the last one may be on its way
        yield f"{call.bursts_sent - call.bursts_heard} of {call.bursts_sent} tone bursts never came back"
    if relay.forwarded_up < call.packets_sent or relay.forwarded_down < call.packets_received:
        yield "the relay forwarded fewer datagrams than the call had: something went past it"
    if relay.dropped or relay.kernel_dropped:
        yield f"datagrams were dropped: {relay.dropped}, {relay.kernel_dropped} by the kernel"
    if relay.unaccounted:
        yield f"{relay.unaccounted} datagrams are not accounted for"
