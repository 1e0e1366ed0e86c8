"""Does a plain backend live? A STUN Binding Request each second, and any STUN answer with its id.

Off by default, because many servers stay silent to a request without a ufrag they know.
"""

import asyncio
import os
import time
from typing import Final, cast

from pyfastpath.relay.control import Control
from pyfastpath.types import Endpoint

SILENCE_S: Final = 3.0
_BINDING_REQUEST: Final = bytes.fromhex("000100002112a442")  # RFC 8489, section 5: no attribute
_TRANSACTION_BYTES: Final = 12


class Prober(asyncio.DatagramProtocol):
    """Asks one backend; `answered_s` is when it last answered (time.monotonic)."""

    def __init__(self) -> None:
        self.answered_s = time.monotonic()  # the benefit of the doubt for the first three seconds
        self._asked: set[bytes] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there (uvloop's transport is no subclass of asyncio's)."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """An answer counts, also an error response, if it carries an id that was asked with."""
        if data[:1] in (b"\0", b"\1") and data[8:20] in self._asked:
            self._asked.clear()
            self.answered_s = time.monotonic()

    def error_received(self, exc: Exception) -> None:
        """Port unreachable: silence says the same."""

    def ask(self) -> None:
        """Send one request with a fresh id."""
        if self._transport is not None:
            transaction = os.urandom(_TRANSACTION_BYTES)
            self._asked.add(transaction)
            self._transport.sendto(_BINDING_REQUEST + transaction)

    def close(self) -> None:
        """Ask no more."""
        if self._transport is not None:
            self._transport.close()


class Probes:
    """One prober for each backend with `probe`; called once a second by the control thread."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._probers: dict[tuple[str, Endpoint], Prober] = {}

    async def turn(self) -> None:
        """Follow the registry, judge what was heard, ask again."""
        entries = self._control.registry.entries.values()
        wanted = {(entry.spec.id, entry.spec.endpoint) for entry in entries if entry.spec.probe}
        for key in self._probers.keys() - wanted:
            self._probers.pop(key).close()
        for key in wanted - self._probers.keys():
            where = str(key[1].address), key[1].port
            loop = asyncio.get_running_loop()
            _, self._probers[key] = await loop.create_datagram_endpoint(Prober, remote_addr=where)
        now_s = time.monotonic()
        for (backend_id, _), prober in self._probers.items():
            self._control.probed(backend_id, now_s - prober.answered_s < SILENCE_S)
            prober.ask()

    def close(self) -> None:
        """Ask nobody any more."""
        for prober in self._probers.values():
            prober.close()
        self._probers = {}
