"""A whole voice edge on one machine: what `pyfastpath up` was asked for, and the configuration files of it.

Everything lies in one private folder: fresh keys, UNIX sockets, logs. The relay serves this machine's own
addresses, or, with a public one, whoever can reach that.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from pyfastpath.errors import ConfigError, SocketError
from pyfastpath.types import Endpoint, IPAddress

LOOPBACK: Final = "127.0.0.1"
OWN_ADDRESSES_MAX: Final = 8  # a machine of many bridges would offer as many candidates
PRIVATE_NETWORKS: Final = {
    4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
    6: ("fc00::/7", "fe80::/10"),
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """The flags of `pyfastpath up`. health_port: the first of a row: relay, gateway, transceivers."""

    public_ip: str = ""
    tls: bool = False
    agent: str = "parrot"
    agent_key_file: str = ""
    relay_port: int = 3478
    page_port: int = 8080
    health_port: int = 9478
    transceivers: int = 2

    @property
    def public_address(self) -> IPAddress | None:
        """ConfigError when it is no address."""
        try:
            return ip_address(self.public_ip) if self.public_ip else None
        except ValueError:
            raise ConfigError(
                f"{self.public_ip!r} is not an IP address",
                "Write the one clients reach this machine by.",
                key="--public-ip",
            ) from None

    def health(self, number: int) -> str:
        """Where a process says how it is: 0 is the relay, 1 the gateway, from 2 on transceivers."""
        return f"{LOOPBACK}:{self.health_port + number}"


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge as it will be. own: this machine's addresses but loopback's, as clients on it use them."""

    wishes: Wishes
    directory: Path
    own: tuple[str, ...]
    trunk_port: int

    @property
    def candidates(self) -> tuple[str, ...]:
        """The relay's addresses as clients are told them."""
        address, port = self.wishes.public_address, self.wishes.relay_port
        if address is not None:
            return (str(Endpoint(address, port)),)
        return tuple(f"{own}:{port}" for own in (LOOPBACK, *self.own))

    @property
    def page(self) -> str:
        """The page's URL, for people."""
        address = self.wishes.public_address or IPv4Address(LOOPBACK)
        scheme = "https" if self.wishes.tls else "http"
        return f"{scheme}://{Endpoint(address, self.wishes.page_port)}"

    @property
    def gateway(self) -> str:
        """The gateway's URL on this machine."""
        address = self.wishes.public_address
        here = "[::1]" if isinstance(address, IPv6Address) else LOOPBACK
        return f"{'https' if self.wishes.tls else 'http'}://{here}:{self.wishes.page_port}"

    @property
    def via(self) -> str:
        """What stands in for the public address on this machine, which may not be one of its own (NAT)."""
        address = self.wishes.public_address
        if address is None or str(address) in (LOOPBACK, "::1", *self.own):
            return ""
        return LOOPBACK if address.version == 4 else "::1"

    def transceiver_names(self) -> list[str]:
        """t1, t2, …"""
        return [f"t{number}" for number in range(1, self.wishes.transceivers + 1)]

    def write(self) -> None:
        """All configuration files, with fresh keys."""
        token_key, trunk_key = f"1:{secrets.token_hex(16)}", f"0:{secrets.token_hex(16)}"
        self._write("relay", self._relay(token_key, trunk_key))
        self._write("gateway", self._gateway(token_key))
        for number, name in enumerate(self.transceiver_names(), 1):
            self._write(name, self._transceiver(number, name, trunk_key))

    def _write(self, name: str, settings: Mapping[str, Any]) -> None:
        path = self.directory / f"{name}.toml"
        path.touch(mode=0o600)
        path.write_text(toml_of(settings), encoding="utf-8")

    def _relay(self, token_key: str, trunk_key: str) -> dict[str, Any]:
        address, port = self.wishes.public_address, self.wishes.relay_port
        if address is None:
            listen: list[Any] = list(self.candidates)
        else:
            anywhere = "0.0.0.0" if address.version == 4 else "[::]"
            listen = [{"address": f"{anywhere}:{port}", "advertise": str(address)}]
        return {
            "listen": listen,
            "allow_clients": self._allowed(),
            "shards": 1,
            "workers": 1,
            "pin": False,
            "plain_ports": 0,
            "token_keys": [token_key],
            "trunk_address": LOOPBACK,
            "trunk_port": self.trunk_port,
            "trunk_keys": [trunk_key],
            "admin_socket": str(self.directory / "relay.sock"),
            "health_listen": self.wishes.health(0),
        }

    def _allowed(self) -> list[str]:
        """Private clients are refused unless named: those of this machine, or all of its networks."""
        address = self.wishes.public_address
        allowed = ["127.0.0.0/8", "::1/128", *(f"{own}/32" for own in self.own)]
        if address is not None and address.is_private:
            allowed += PRIVATE_NETWORKS[address.version]
        return allowed

    def _gateway(self, token_key: str) -> dict[str, Any]:
        address, port = self.wishes.public_address, self.wishes.page_port
        anywhere = LOOPBACK if address is None else "0.0.0.0" if address.version == 4 else "[::]"
        return {
            "listen": f"{anywhere}:{port}",
            "public_url": self.page if address is not None else "",
            "tls": "self-signed" if self.wishes.tls else "",
            "state_dir": str(self.directory / "gateway"),
            "token_keys": [token_key],
            "call_key": secrets.token_hex(32),
            "candidates": list(self.candidates),
            "admin_socket": str(self.directory / "gateway.sock"),
            "health_listen": self.wishes.health(1),
        }

    def _transceiver(self, number: int, name: str, trunk_key: str) -> dict[str, Any]:
        return {
            "id": name,
            "transceiver": number,
            "trunk_listen": f"{LOOPBACK}:0",
            "relays": [f"{LOOPBACK}:{self.trunk_port}"],
            "trunk_keys": [trunk_key],
            "relay_admin": [str(self.directory / "relay.sock")],
            "control_socket": str(self.directory / f"{name}.sock"),
            "registry": f"unix:{self.directory / 'gateway.sock'}",
            "agent": self.wishes.agent,
            "agent_key_file": self.wishes.agent_key_file,
            "state_dir": str(self.directory / name),
            "health_listen": self.wishes.health(1 + number),
        }


def toml_of(settings: Mapping[str, Any]) -> str:
    """Keys and values as TOML; JSON writes texts, numbers, booleans and lists of texts as TOML does."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def check_ports(wishes: Wishes) -> None:
    """SocketError for the first port that somebody else has, with the flag that chooses another."""
    address = wishes.public_address
    host = LOOPBACK if address is None else "0.0.0.0" if address.version == 4 else "::"
    health = range(wishes.health_port, wishes.health_port + 2 + wishes.transceivers)
    wanted = [
        ("relay", wishes.relay_port, socket.SOCK_DGRAM, host),
        ("page", wishes.page_port, socket.SOCK_STREAM, host),
        *(("health", port, socket.SOCK_STREAM, LOOPBACK) for port in health),
    ]
    for name, port, kind, where in wanted:
        family = socket.AF_INET6 if ":" in where else socket.AF_INET
        with socket.socket(family, kind) as end:
            if kind == socket.SOCK_STREAM:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                end.bind((where, port))
            except OSError as error:
                protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
                raise SocketError(
                    f"{protocol} port {port} of {where}: {error.strerror}",
                    f"Stop what uses it, or choose another: --{name}-port {port + 1} "
                    f"(make run {name.upper()}_PORT={port + 1})",
                ) from None


def usable(addresses: Iterable[str]) -> tuple[str, ...]:
    """Of this machine's IPv4 addresses those a client on it may use beside 127.0.0.1, the first few."""
    return tuple(dict.fromkeys(one for one in addresses if not ip_address(one).is_loopback))[
        :OWN_ADDRESSES_MAX
    ]
