"""The small values everything else is made of. No I/O, no clock."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

IPAddress = IPv4Address | IPv6Address
Mode = Literal["trunk", "plain"]
BACKEND_STATES = ("free", "up", "draining", "down", "gone")  # FP_BACKEND_* of layout.h, in order
DIRECTIONS = ("up", "down")  # FP_UP, FP_DOWN
NESTING_MAX = 64  # levels of JSON from strangers: whoever encodes it again must not run out of stack
TRAFFIC_CLASSES = ("voice", "voice_data", "video", "bulk")  # token T1, bits 48..50

_ENDPOINT = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[^:\[\]]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """A transport address, canonical: IPv4-mapped IPv6 never occurs inside."""

    address: IPAddress
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `203.0.113.9:3478` or `[2001:db8::1]:3478`. ValueError says what is wrong."""
        match = _ENDPOINT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not ip:port")
        try:
            address = ip_address(match["six"] or match["four"])
        except ValueError:
            raise ValueError(f"{text!r}: {match['six'] or match['four']!r} is not an IP address") from None
        if (address.version == 6) != (match["six"] is not None):
            raise ValueError(f"{text!r}: only an IPv6 address stands in brackets")
        port = int(match["port"])
        if port > 65535:
            raise ValueError(f"{text!r}: port {port} is above 65535")
        return cls(canonical(address), port)

    @classmethod
    def from_address16(cls, address16: bytes, port: int, family: int) -> Endpoint:
        """From the data plane's form: 16 bytes (IPv4: 4 and 12 zeros), family 4 or 6."""
        return cls(IPv4Address(address16[:4]) if family == 4 else IPv6Address(address16), port)

    @property
    def family(self) -> Literal[4, 6]:
        """4 or 6."""
        return self.address.version

    @property
    def address16(self) -> bytes:
        """The data plane's form: 16 bytes, an IPv4 address followed by 12 zeros."""
        return self.address.packed.ljust(16, b"\0")

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.family == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where an HTTP service of ours is: a UNIX socket or an ip:port."""

    base_url: str  # without a slash at the end; a made-up host when unix_path is set
    unix_path: str = ""

    @classmethod
    def parse(cls, text: str) -> HttpAddress:
        """Read `unix:/run/x.sock`, `http://10.0.0.5:9000` or `https://…`. ValueError says what is wrong."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ValueError(f"{text!r} names no socket")
            return cls("http://localhost", path)
        match = re.fullmatch(r"https?://[^\s/?#@]+/?", text)
        if match is None:
            raise ValueError(f"{text!r} is neither unix:PATH nor http://ip:port")
        return cls(text.rstrip("/"))

    def __str__(self) -> str:
        return f"unix:{self.unix_path}" if self.unix_path else self.base_url


def canonical(address: IPAddress) -> IPAddress:
    """An IPv4-mapped IPv6 address (::ffff:a.b.c.d) as the IPv4 address it is."""
    return getattr(address, "ipv4_mapped", None) or address


class Secret:
    """Key or token bytes that never show in a repr, a log line or --print-config."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret(redacted)" if self.value else "Secret(empty)"

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.value, other.value)

    def __hash__(self) -> int:
        return hash(self.value)


def is_deeper_than(levels: int, value: object) -> bool:
    """Whether dicts and lists stand in each other more than `levels` deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper_than(levels - 1, item) for item in inner)
