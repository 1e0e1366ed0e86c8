"""Rules that several daemons share: addresses, networks, keys, tokens, duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from pyfastpath.config.lines import Path
from pyfastpath.config.model import TokenKey, TrunkKey
from pyfastpath.types import Endpoint, HttpAddress, Secret

KEY_BYTES = 16  # AES-128 and SipHash both take 16 bytes
UNIX_PATH_BYTES = 107  # sockaddr_un, without the final zero
TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Mistake:
    """One broken rule: where, what, and what to do."""

    path: Path
    message: str
    hint: str = ""


def check_endpoint(
    text: str, path: Path, *, any_port: bool = False, reachable: bool = False
) -> Iterator[Mistake]:
    """ip:port. any_port: 0 is a port too. reachable: others send there, so a wildcard will not do."""
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        yield Mistake(path, str(error), "Write 203.0.113.9:3478 or [2001:db8::1]:3478.")
        return
    if endpoint.port == 0 and not any_port:
        yield Mistake(path, f"{text!r}: port 0 is no port to send to", "Name the port.")
    if reachable and (endpoint.address.is_unspecified or endpoint.address.is_multicast):
        yield Mistake(path, f"{text!r} is no address to send to", f"Name {_whose(path)} own address.")


def _whose(path: Path) -> str:
    return "the backend's" if path[0] == "backends" else "its"


def check_http_address(text: str, path: Path) -> Iterator[Mistake]:
    """unix:/path or http://ip:port."""
    try:
        address = HttpAddress.parse(text)
    except ValueError as error:
        yield Mistake(path, str(error), "Write unix:/run/x.sock or http://10.0.0.5:9000.")
        return
    if address.unix_path:
        yield from check_socket_path(address.unix_path, path)


def check_networks(texts: Sequence[str], path: Path) -> Iterator[Mistake]:
    """A list of CIDR networks without host bits."""
    for index, text in enumerate(texts):
        try:
            ip_network(text)
        except ValueError as error:
            try:
                hint = f"Write {ip_network(text, strict=False)}."
            except ValueError:
                hint = "Write a network as 10.0.0.0/8 or 2001:db8::/32."
            yield Mistake((*path, index), f"{text!r} is not a network: {error}", hint)


def check_token_keys(keys: Sequence[TokenKey]) -> Iterator[Mistake]:
    """Keys of token T1: their length, and each kid once."""
    yield from _lengths("token_keys", keys)
    yield from check_twice([item.kid for item in keys], "token_keys", "kid")


def check_trunk_keys(keys: Sequence[TrunkKey], key_id: int) -> Iterator[Mistake]:
    """Keys of the trunk: their length, each id once, and the one to sign with among them."""
    yield from _lengths("trunk_keys", keys)
    yield from check_twice([item.id for item in keys], "trunk_keys", "id")
    if keys and key_id not in {item.id for item in keys}:
        yield Mistake(("trunk_key_id",), f"no trunk key has id {key_id}", "Name the id of one of trunk_keys.")


def _lengths(name: str, keys: Sequence[TokenKey | TrunkKey]) -> Iterator[Mistake]:
    for index, item in enumerate(keys):
        if len(item.key.value) != KEY_BYTES:
            field = "key_file" if item.key_file else "key"
            yield Mistake(
                (name, index, field),
                f"a key has {KEY_BYTES} bytes, this one {len(item.key.value)}",
                "Write 32 hex digits (openssl rand -hex 16) in key or in the file key_file names.",
            )


def check_token(token: Secret, path: Path) -> Iterator[Mistake]:
    """A bearer token that is long enough, or none at all."""
    if token and len(token.value) < TOKEN_BYTES:
        yield Mistake(path, f"shorter than {TOKEN_BYTES} characters", "Draw one: openssl rand -hex 16.")


def check_socket_path(text: str, path: Path) -> Iterator[Mistake]:
    """The path of a UNIX socket."""
    if len(text.encode()) > UNIX_PATH_BYTES:
        yield Mistake(path, f"longer than the {UNIX_PATH_BYTES} bytes a UNIX socket allows", "Shorten it.")


def check_twice(values: Sequence[object], key: str, field: str = "") -> Iterator[Mistake]:
    """Values that must differ; None is no value. field: of the elements; none: the elements themselves."""
    for index, value in enumerate(values):
        if value is not None and value in values[:index]:
            first = values.index(value)
            yield Mistake(
                (key, index, field) if field else (key, index),
                f"{value!r} is already that of {key}[{first}]",
                f"Every {field or 'one'} must be its own.",
            )
