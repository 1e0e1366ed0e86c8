"""Sessions for a relay under test: installed by name, or minted as tokens that route by themselves."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from http.client import HTTPException
from itertools import cycle, islice, repeat
from typing import Final, TypeVar

from pyfastpath.wire import token
from tests.support.relay import Relay

LIFETIME_S: Final = 3600
PATIENCE_S: Final = 30
SERIAL_BITS: Final = 20
T = TypeVar("T")


def in_turn(things: Sequence[T], count: int) -> list[T]:
    """`count` of them, each as often as the others."""
    return list(islice(cycle(things), count))


def patiently(ask: Callable[[], T]) -> T:
    """What a request gives, asked again while there is no engine to answer it."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except (OSError, HTTPException):
            if time.monotonic() > end_s:
                raise
            time.sleep(0.05)


def installed(relay: Relay, backends: Sequence[str]) -> list[str]:
    """New session routes, one to each of these backends; their ufrags."""
    run = secrets.token_hex(8)
    routes = {f"{run}{serial:06x}": backend for serial, backend in enumerate(backends)}
    rows = (json.dumps({"ufrag": ufrag, "backend": backend}) for ufrag, backend in routes.items())
    body = ("\n".join(rows) + "\n").encode()
    status, said = patiently(lambda: relay.request("POST", "/v1/routes", body))
    assert status == 200, said.decode()
    return list(routes)


def minted(
    kid: int,
    key: bytes,
    transceivers: Sequence[int],
    traffic_classes: Iterable[int] = repeat(0),
    *,
    incarnation: int = 0,
) -> list[str]:
    """New tokens, one to each of these transceivers; they are ufrags."""
    expires_s = int(time.time()) + LIFETIME_S
    run = secrets.randbits(token.SESSION_BITS - SERIAL_BITS) << SERIAL_BITS
    return [
        token.mint(
            key,
            kid,
            expires_s=expires_s,
            cluster=0,
            xcvr=xcvr,
            incarnation=incarnation,
            traffic_class=traffic_class,
            session=run | serial,
        )
        for serial, (xcvr, traffic_class) in enumerate(zip(transceivers, traffic_classes, strict=False))
    ]
