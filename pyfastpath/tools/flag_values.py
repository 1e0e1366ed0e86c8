"""Values that flags of several load tools have in common: addresses, keys, transceivers. Pure.

ConfigError names the flag and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pyfastpath.errors import ConfigError
from pyfastpath.types import Endpoint

TOKEN_KID_MAX: Final = 6
TRUNK_KEY_ID_MAX: Final = 3
# What to do when a relay dropped what our end of its trunk said: bad_tag.
TRUNK_KEY_HINT: Final = "Its trunk has a key: pass it, --trunk-key ID:HEX (trunk_keys of its configuration)."
CLUSTER_MAX, TRANSCEIVER_MAX, INCARNATION_MAX = 4095, 65_535, 15  # what a token has room for
_KEY: Final = re.compile(r"(\d):([0-9a-fA-F]{32})")
_TRANSCEIVER: Final = re.compile(r"(?:(\d+)/)?(\d+)(?:/(\d+))?")


def read_endpoint(flag: str, text: str) -> Endpoint:
    """`192.0.2.1:3478` or `[2001:db8::1]:3478`."""
    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise ConfigError(str(error), "Write it as 192.0.2.1:3478.", key=flag) from None


def read_ipv4(flag: str, text: str) -> Endpoint:
    """As read_endpoint, for what clients of a load tool can reach."""
    found = read_endpoint(flag, text)
    if found.family == 6:
        raise ConfigError(
            f"{found} is IPv6", "The clients of this tool speak IPv4: name an IPv4 address.", key=flag
        )
    return found


def read_token_key(text: str | None) -> tuple[int, bytes]:
    """The key that tokens are minted with, as KID:HEX; of several, with commas, the highest kid, as gateways
    choose it."""
    if not text:
        raise ConfigError(
            "minting tokens takes a key",
            "Pass --token-key KID:HEX, or set PYFASTPATH_TOKEN_KEYS.",
            key="--token-key",
        )
    return max(_keys("--token-key", text, TOKEN_KID_MAX))


def read_trunk_key(text: str | None) -> tuple[int, bytes] | None:
    """The trunk's key as ID:HEX, None without one; of several the lowest id, as `trunk_key_id` is 0 when
    nobody chose another."""
    return min(_keys("--trunk-key", text, TRUNK_KEY_ID_MAX)) if text else None


def read_transceiver(text: str, count: int = 1) -> tuple[int, int, int]:
    """(cluster, number, incarnation) of the first of `count` transceivers that follow each other."""
    match = _TRANSCEIVER.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{text!r} names no transceiver",
            "Write its number, or CLUSTER/NUMBER, or CLUSTER/NUMBER/INCARNATION.",
            key="--transceiver",
        )
    cluster, number, incarnation = (int(part or 0) for part in match.groups())
    if cluster > CLUSTER_MAX or number + count - 1 > TRANSCEIVER_MAX or incarnation > INCARNATION_MAX:
        raise ConfigError(
            f"{text} does not fit into a token",
            f"Clusters go to {CLUSTER_MAX}, transceivers to {TRANSCEIVER_MAX}, incarnations to "
            f"{INCARNATION_MAX}.",
            key="--transceiver",
        )
    return cluster, number, incarnation


def one_of(flag: str, value: str, known: Sequence[str]) -> str:
    """`value`, when it is known."""
    if value not in known:
        raise ConfigError(f"{value!r} is unknown", f"Choose {', '.join(known)}.", key=flag)
    return value


def _keys(flag: str, text: str, most: int) -> list[tuple[int, bytes]]:
    """`1:00112233…`, several with commas between them, as a relay's own variables have them."""
    found = []
    for item in text.split(","):
        match = _KEY.fullmatch(item.strip())
        if match is None or int(match[1]) > most:
            raise ConfigError(
                "this is no key", f"Write ID:HEX, an id 0 to {most} and 32 hex digits.", key=flag
            )
        found.append((int(match[1]), bytes.fromhex(match[2])))
    return found
