"""Strangers at the clients' port: none of them leaves state behind, and each datagram has its name."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

from pyfastpath.wire import stun, token
from tests.chaos.attacks.attackers import Requests, Shot, Spoofer, sources
from tests.chaos.attacks.siege import Bystanders, besiege, hostile, rate_pps, slow_pps
from tests.chaos.outcome import Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.sessions import LIFETIME_S

FORGED: Final = 1_000_000
MEDIA: Final = 100_000
KEY: Final = (0, bytes(range(16)))
NOBODY: Final = 999  # no transceiver has this number
BUFFER_BYTES: Final = 2048  # of the relay's receive buffer of a datagram


def forged_tokens(rig: ChaosRig, peace: Bystanders) -> Outcome:
    """A million requests, no two under one token or from one address."""
    count = hostile(rig.scale, FORGED)
    attack = forgeries(rig, count)
    fault = "forged tokens, each from another address"
    return stateless(rig, peace, attack, fault, count, rate_pps(rig.scale))


def junk(rig: ChaosRig, peace: Bystanders) -> Outcome:
    """Media from unknown addresses, malformed and unwanted requests, and what is no WebRTC."""
    count = hostile(rig.scale, MEDIA)
    attack = Spoofer(rig.relay.listen, islice(rubbish(), count))
    return stateless(rig, peace, attack, "media and junk from unknown addresses", count, slow_pps(rig.scale))


def stateless(
    rig: ChaosRig, peace: Bystanders, attack: Requests | Spoofer, fault: str, count: int, pace: int
) -> Outcome:
    """An attack that must leave no state at all."""
    before = made(rig)
    outcome = besiege(rig, peace, attack, fault, count=count, pace=pace)
    attack.close()
    return outcome.promising(made(rig) == before, f"no flow is made, but {made(rig) - before} were")


def made(rig: ChaosRig) -> int:
    """Flows that came into being, in whatever way. Some of earlier attacks may still expire."""
    return sum(rig.relay.total("flow_changes", state=state) for state in ("provisional_created", "taught"))


def forgeries(rig: ChaosRig, count: int) -> Requests:
    """22 letters and digits that no key made, no two alike."""
    letters = token.ALPHABET.encode()
    drawn = os.urandom(count * token.CHARACTERS).translate(bytes(letters[each % 62] for each in range(256)))
    text = drawn.decode()
    ufrags = (text[at : at + token.CHARACTERS] for at in range(0, len(text), token.CHARACTERS))
    return Requests(rig.relay.listen, ufrags, reason="bad_token", first_source="127.16.0.1")


def rubbish() -> Iterator[Shot]:
    """One of every kind, from address to address, with random content."""
    dice = random.Random(5)
    kinds = [*unknown_media(), *no_webrtc(), *malformed(), *refused_requests()]
    while True:
        for source in sources("127.32.0.1", 10_000):
            payload, reason = dice.choice(kinds)
            yield Shot(source, payload, reason)


def unknown_media() -> Iterator[tuple[bytes, str]]:
    """What a call sends, of an address that has none."""
    for first in (20, 22, 63, 128, 144, 191):
        for size in (0, 11, 171, 1400):
            yield bytes([first]) + secrets.token_bytes(size), "unknown_flow"
    for kind in (stun.BINDING_INDICATION, stun.BINDING_SUCCESS, stun.BINDING_ERROR, 0x0003):
        yield stun.build_message(kind, secrets.token_bytes(12)), "unknown_flow"


def no_webrtc() -> Iterator[tuple[bytes, str]]:
    """First bytes that RFC 7983 gives to others, nothing at all, and more than a buffer holds."""
    yield b"", "not_webrtc"
    for first in (4, 19, 64, 79, 127, 192, 255):
        yield bytes([first]) + secrets.token_bytes(40), "not_webrtc"
    for size in (BUFFER_BYTES + 1, 9_000, 65_507):
        yield b"\x80" + bytes(size - 1), "oversize"


def malformed() -> Iterator[tuple[bytes, str]]:
    """A request cut at every byte, and what else looks like STUN and is none."""
    good = stun.build_binding_request(secrets.token_bytes(12), b"nobody:here", key=b"password")
    for size in range(1, len(good)):
        yield good[:size], "bad_stun"
    for position in range(2, 8):  # length and magic cookie
        yield good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :], "bad_stun"
    yield stun.build_message(stun.BINDING_REQUEST, bytes(12)), "bad_stun"
    yield stun.build_binding_request(bytes(12), b"without a colon"), "bad_stun"


def refused_requests() -> Iterator[tuple[bytes, str]]:
    """Well formed, and nobody's."""
    now_s = int(time.time())

    def minted(expires_s: int, xcvr: int) -> str:
        fields = {"cluster": 0, "xcvr": xcvr, "incarnation": 0, "session": secrets.randbits(36)}
        return token.mint(KEY[1], KEY[0], expires_s=expires_s, **fields)

    for ufrag, reason in (
        ("nobody", "no_route"),
        ("0" * 22, "bad_token"),
        (minted(now_s - 3600, 1), "token_expired"),
        (minted(now_s + LIFETIME_S, NOBODY), "unknown_backend"),
    ):
        yield stun.build_binding_request(secrets.token_bytes(12), f"{ufrag}:x".encode(), key=b"p"), reason
