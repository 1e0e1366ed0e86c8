"""One key's raw value -> its type, element by element, so that an error knows which element it was."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from pyfastpath.config.fields import Field
from pyfastpath.config.gateway import Transceiver
from pyfastpath.config.lines import Path
from pyfastpath.config.model import Backend, Listen, TokenKey, TrunkKey
from pyfastpath.config.source import Source, did_you_mean
from pyfastpath.errors import ConfigError
from pyfastpath.types import Secret

Expand = Callable[[str, Path, Source], dict[str, object]]
HEX_HINT = "Write 32 hex digits: openssl rand -hex 16."
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def from_text(spec: Field, text: str) -> object:
    """The raw value a variable or a flag holds: a list is separated by commas or white space."""
    return re.findall(r"[^,\s]+", text) if spec.is_list else text


def convert(spec: Field, raw: object, source: Source) -> Any:
    """The typed value of one key. Raises ConfigError."""
    kind: Any = spec.annotation
    if not spec.is_list:
        return _typed(raw, kind, (spec.name,), source, hex_digits=spec.hex_digits)
    if not isinstance(raw, list | tuple):
        raise source.error((spec.name,), "expected a list", f"Write {spec.name} = [...].")
    element = typing.get_args(typing.get_args(kind)[0])[0]
    return tuple(_element(item, element, (spec.name, index), source) for index, item in enumerate(raw))


def _element(item: object, kind: type, path: Path, source: Source) -> object:
    if isinstance(item, str) and kind in SHORT_FORMS:
        item = SHORT_FORMS[kind](item, path, source)
    value = _typed(item, kind, path, source)
    if isinstance(value, TokenKey | TrunkKey) and value.key_file:
        file_path = (*path, "key_file")
        if value.key:
            raise source.error(file_path, "key and key_file together", "Keep one of them.")
        key = _hex(source.read_secret(value.key_file, file_path), file_path, source)
        value = msgspec.structs.replace(value, key=key)
    return value


def _typed(raw: object, kind: Any, path: Path, source: Source, *, hex_digits: bool = False) -> Any:
    _demand_one_line(raw, path, source)
    is_table = hasattr(kind, "__struct_fields__")  # the secret of a table is its `key`, always in hex

    def secret(_wanted: type, value: object) -> Secret:
        key_path = (*path, "key") if is_table else path
        if not isinstance(value, str):
            raise source.error(key_path, "a secret is a text in quotes", source.help_hint)
        if is_table or (hex_digits and value):
            return _hex(value, key_path, source)
        return Secret(value.encode())

    try:
        return msgspec.convert(raw, kind, dec_hook=secret, strict=not source.is_text)
    except msgspec.ValidationError as error:
        raise _explained(str(error), raw, kind, path, source) from None


def _demand_one_line(raw: object, path: Path, source: Source) -> None:
    """No key has a use for control characters, and the kernel takes no name of a file with a null in it."""
    if isinstance(raw, dict):
        for name, value in raw.items():
            _demand_one_line(value, (*path, name), source)
    elif isinstance(raw, str) and CONTROL.search(raw):
        raise source.error(path, "a control character in it", "Write a text of one line.")


def _explained(text: str, raw: object, kind: Any, path: Path, source: Source) -> ConfigError:
    """msgspec's sentence as ours: with the full path of the key, and what to do."""
    message, _, place = text.partition(" - at `$")
    path += tuple(re.findall(r"\w+", place.split("[")[0]))
    field = re.search(r"field `(\w+)`", message)
    if field and "unknown" in message:
        return source.error((*path, field[1]), "unknown key", did_you_mean(field[1], kind.__struct_fields__))
    if field:
        return source.error((*path, field[1]), "missing", source.help_hint)
    if message.startswith("Invalid enum value"):
        choices = ", ".join(typing.get_args(_literal(kind, path)))
        return source.error(
            path, f"{message.removeprefix('Invalid enum value ')} is no choice", f"Choose {choices}."
        )
    if "matching regex" in message:
        return source.error(path, "letters, digits and . _ - only, at most 64", "Choose such a name.")
    plain = message.replace("`", "")
    if source.is_text:
        plain = plain.replace(", got str", f", got {raw!r}")
    return source.error(path, plain[:1].lower() + plain[1:], source.help_hint)


def _literal(kind: Any, path: Path) -> Any:
    """The Literal type of the key at `path`: a key of its own, or a field of `kind`."""
    if hasattr(kind, "__struct_fields__"):
        kind = typing.get_type_hints(kind, include_extras=True)[str(path[-1])]
    return typing.get_args(kind)[0]


def _hex(text: str, path: Path, source: Source) -> Secret:
    try:
        return Secret(bytes.fromhex(text.strip()))
    except ValueError:
        raise source.error(path, "not hex digits", HEX_HINT) from None


def _listen_form(text: str, path: Path, source: Source) -> dict[str, object]:
    return {"address": text}


def _key_form(field: str) -> Expand:
    def expand(text: str, path: Path, source: Source) -> dict[str, object]:
        number, colon, key = text.partition(":")
        if not colon or not number.isdigit():
            raise source.error(
                path, f"expected {field}:hex", f"Write the {field}, a colon and 32 hex digits."
            )
        return {field: int(number), "key": key}

    return expand


def _backend_form(text: str, path: Path, source: Source) -> dict[str, object]:
    name, equals, address = text.partition("=")
    if not equals:
        raise source.error(
            path, f"{text!r} is not id=ip:port", "Write web1=10.0.0.5:5000, or a table in the file."
        )
    return {"id": name, "address": address}


def _transceiver_form(text: str, path: Path, source: Source) -> dict[str, object]:
    name, equals, control = text.partition("=")
    if not equals:
        raise source.error(
            path, f"{text!r} is not id=address", "Write t1=unix:/run/t1.sock or t1=http://10.0.0.5:9000."
        )
    return {"id": name, "control": control}


SHORT_FORMS: dict[type, Expand] = {
    Listen: _listen_form,
    Backend: _backend_form,
    TokenKey: _key_form("kid"),
    TrunkKey: _key_form("id"),
    Transceiver: _transceiver_form,
}
