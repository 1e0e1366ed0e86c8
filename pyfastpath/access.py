"""Who may use an operators' API on TCP: asked by IP address, with the bearer token; who is one client. Pure.

A UNIX socket of mode 0600 asks for neither. Every API of ours that changes something asks here, so that
there is one place to look at.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Final, Literal, NamedTuple

from pyfastpath.types import canonical

_PREFIX6: Final = 64  # one household or server has a whole /64


class Refusal(NamedTuple):
    """Why not: what is wrong, what to do, and the code of the error."""

    message: str
    hint: str
    code: Literal["forbidden", "unauthorized"]


def refusal(host: str, authorization: str, token: bytes, *, setting: str) -> Refusal | None:
    """None when the request may go on.

    host and authorization: the headers. token: what has to be in the latter; empty asks for nothing.
    setting: the one that holds the token, for the hint.
    """
    if not token:
        return None
    if not _is_address(host):  # a web page can make its own name lead here, but cannot send another Host
        return Refusal(f"Host {host!r} is refused", "Ask by IP address or localhost.", "forbidden")
    scheme, _, given = authorization.partition(" ")
    raw = given.strip().encode(errors="surrogateescape")  # a header's bytes as they came
    if scheme.lower() != "bearer" or not hmac.compare_digest(raw, token):
        return Refusal("missing or wrong token", f"Send `Authorization: Bearer <{setting}>`.", "unauthorized")
    return None


def client_key(client: str) -> str:
    """What is counted together as one client: an IPv4 address, an IPv6 network of /64, or the text itself."""
    try:
        address = canonical(ipaddress.ip_address(client.partition("%")[0]))
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Address(int(address) >> (128 - _PREFIX6) << (128 - _PREFIX6)))


def _is_address(host: str) -> bool:
    name, _, port = host.rpartition(":")
    name = name if port.isdecimal() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True
