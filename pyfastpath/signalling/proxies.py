"""Whose request is it, when a reverse proxy brings it? Pure.

A proxy names its client in X-Forwarded-For or in Forwarded (RFC 7239), each proxy on the way behind the one
before. Anybody can write such headers, so only what trusted proxies added is believed: from the last address
back to the first that is no trusted proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol

from pyfastpath.types import canonical

HOPS_MAX: Final = 16  # looked at; no chain of ours is as long
_FOR: Final = re.compile(r'for\s*=\s*("[^"]*"|[^\s;,"]+)', re.IGNORECASE)

Address = IPv4Address | IPv6Address


class Headers(Protocol):
    """What is needed of a request's headers: aiohttp's CIMultiDictProxy."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Every value of a header, in order."""


class Proxies:
    """The proxies that are believed. networks: addresses or CIDR, as the setting trusted_proxies has them."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(map(ip_network, networks))

    def trusts(self, address: str) -> bool:
        """Is this one of them?"""
        parsed = _parse(address)
        return parsed is not None and self._is_proxy(parsed)

    def client_of(self, address: str, headers: Headers) -> str:
        """The address of whoever asks. address: of the connection.

        A proxy sets one of the two headers and passes the other on as its client wrote it; so when both name
        somebody, and not the same, neither is believed and the proxy itself counts as the client.
        """
        if not self.trusts(address):
            return address
        x_forwarded = ",".join(headers.getall("X-Forwarded-For", [])).split(",")
        forwarded = _FOR.findall(",".join(headers.getall("Forwarded", [])))
        named = {
            client for hops in (x_forwarded, forwarded) if (client := self._first_stranger(hops)) is not None
        }
        return str(named.pop()) if len(named) == 1 else address

    def _first_stranger(self, hops: list[str]) -> Address | None:
        """From the end: the first address that is no trusted proxy, else the last one that can be read."""
        known = None
        for hop in hops[: -HOPS_MAX - 1 : -1]:
            parsed = _parse(hop)
            if parsed is None:
                return known
            known = parsed
            if not self._is_proxy(parsed):
                break
        return known

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(text: str) -> Address | None:
    """An address as proxies write it: alone, with a port, an IPv6 one in brackets; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return canonical(ip_address(text.partition("%")[0]))
    except ValueError:
        return None
