"""Who may use an operators' API on TCP: asked by IP address, with the bearer token. Pure.

A UNIX socket of mode 0600 asks for neither. Every API of ours that changes something asks here, so that
there is one place to look at.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Literal, NamedTuple


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


def _is_address(host: str) -> bool:
    name, _, port = host.rpartition(":")
    name = name if port.isdecimal() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True
