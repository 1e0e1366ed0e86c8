"""The verdict of the example: what the call and the relay saw, and everything that should not be."""

from collections.abc import Iterator

from examples.aiortc_echo.call import CallResult
from pyfastpath.tools.relay_numbers import RelayNumbers
from pyfastpath.tools.verdict import find_media_faults, media_report


def report(call: CallResult, relay: RelayNumbers) -> str:
    """What happened, in five lines."""
    path = f"  path       client → {', '.join(call.remotes)} (relay) → aiortc"
    return f"{path}\n{media_report(call, relay)}"


def find_faults(call: CallResult, relay: RelayNumbers, relay_address: str) -> Iterator[str]:
    """Everything that should not be after a call on an idle machine."""
    if call.remotes != (relay_address,):
        yield f"the client knew other addresses than the relay: {call.remotes}"
    yield from find_media_faults(call, relay)
