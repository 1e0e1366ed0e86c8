"""A transceiver's endpoint on a plain socket of loopback, for tests of what stands around it."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.answering import Answering
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.sockets import PlainSocket, TrunkSocket
from pyfastpath.types import Endpoint as Address
from tests.support.rtc_client import certificate

LOOPBACK = Address.parse("127.0.0.1:0")


@asynccontextmanager
async def open_endpoint(*, capacity: int = 10, trunk: TrunkSocket | None = None) -> AsyncIterator[Endpoint]:
    """One that answers with the agent echo; closed at the end."""
    counters = Counters()
    answering = Answering(
        certificate=certificate(),
        counters=counters,
        entropy=os.urandom,
        agents=lambda wanted: Echo(),
        ntp_offset_s=time.time() - time.monotonic(),
        longest_s=600,
    )
    endpoint = Endpoint(answering, counters, trunk=trunk, plain=PlainSocket(LOOPBACK), capacity=capacity)
    endpoint.open()
    try:
        yield endpoint
    finally:
        await endpoint.close()
