"""The configuration shown to people: --print-config, /v1/config and docs/config.md. Secrets are redacted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from pyfastpath.config.fields import Config, Field, fields
from pyfastpath.config.gateway import GatewayConfig, Transceiver
from pyfastpath.config.model import Backend, Listen, RelayConfig, TokenKey, TrunkKey
from pyfastpath.config.transceiver import TransceiverConfig
from pyfastpath.types import Secret

DAEMONS: tuple[type[Config], ...] = (RelayConfig, TransceiverConfig, GatewayConfig)
TABLES: dict[str, type[msgspec.Struct]] = {
    "listen": Listen,
    "backends": Backend,
    "token_keys": TokenKey,
    "trunk_keys": TrunkKey,
    "transceivers": Transceiver,
}


def redacted(config: Config) -> dict[str, Any]:
    """The configuration as plain values; a secret is the word `redacted`, or empty if there is none."""

    def hide(value: object) -> object:
        if isinstance(value, Secret):
            return "redacted" if value else ""
        raise TypeError(f"a configuration holds no {type(value).__name__}")

    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=hide)
    return plain


def print_config(config: Config) -> str:
    """The effective configuration as TOML: scalar keys first, then the tables."""
    plain = redacted(config)
    scalars = [f"{name} = {_value(value)}" for name, value in plain.items() if _is_scalar(value)]
    tables = [
        f"\n[[{name}]]\n"
        + "\n".join(f"{key} = {_value(item)}" for key, item in table.items() if item is not None)
        for name, value in plain.items()
        if _is_tables(value)
        for table in value
    ]
    return "\n".join(scalars + tables) + "\n"


def _is_scalar(value: object) -> bool:
    """TOML has no word for a value that is not there: such a key is left out."""
    return value is not None and not _is_tables(value)


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)


def _value(value: object) -> str:
    """One TOML value. JSON writes texts, numbers, booleans and lists of texts as TOML does."""
    return json.dumps(value, ensure_ascii=False)


INTRODUCTION = """\
# Configuration

Printed by `make docs` from `pyfastpath/config`; a test compares.

Three daemons, one TOML file each: `pyfastpath relay --config relay.toml`. Every key has an environment twin
(the prefix below and the key in capitals; lists separated by commas) and, unless secret, a flag.
Flag > environment > file > default, whole keys at a time. An unknown key or a value that cannot be
used refuses to start and names key and line. `--check-config` only checks, `--print-config` prints
the effective values without secrets. Keys marked *reload* take effect on SIGHUP (`ctl reload`)
without losing a flow; the others need a restart.

Secrets come from files: `key_file` of a table, every key that ends in `_file`, and variables such as
`PYFASTPATH_TOKEN_KEYS_FILE` (one `id:hex` a line). Relative names start from the file's folder.

`pyfastpath up` writes all of these files itself, with fresh keys.
"""


def document() -> str:
    """docs/config.md: every key of every daemon, its flag, its variable and its default."""
    parts = [INTRODUCTION]
    for daemon in DAEMONS:
        parts.append(f"## `pyfastpath {daemon.COMMAND}`\n\nVariables: `{daemon.PREFIX}…`\n")
        parts.append(
            _table(("key", "flag", "default", "reload", "meaning"), [_row(s) for s in fields(daemon)])
        )
    for name, kind in TABLES.items():
        summary = " ".join((kind.__doc__ or "").split())
        users = [daemon for daemon in DAEMONS if _holds(daemon, name, kind)]
        used = ", ".join(f"`{daemon.COMMAND}`" for daemon in users)
        parts.append(f"## `[[{name}]]`\n\nIn {used}. {summary}\n")
        parts.append(
            _table(
                ("key", "default", "meaning"),
                [(f"`{spec.name}`", _element_default(spec), spec.help) for spec in fields(kind)],
            )
        )
    return "\n".join(parts).rstrip("\n") + "\n"


def _row(spec: Field) -> tuple[str, ...]:
    flag = f"`{spec.flag}`" if has_flag(spec) else "none"
    return f"`{spec.name}`", flag, f"`{_shown_default(spec)}`", "yes" if spec.reload else "", spec.help


def _holds(daemon: type[Config], name: str, kind: type[msgspec.Struct]) -> bool:
    """Is this key of the daemon a list of such tables? (listen is a plain text elsewhere)"""
    return any(kind.__name__ in str(spec.annotation) for spec in fields(daemon) if spec.name == name)


def has_flag(spec: Field) -> bool:
    """Secrets have none: a command line can be read by every user of the machine."""
    return not spec.secret


def _shown_default(spec: Field) -> str:
    if isinstance(spec.default, tuple):
        return _value([item.address if isinstance(item, Listen) else item for item in spec.default])
    if spec.default is None:
        return ""
    return '""' if isinstance(spec.default, Secret) else _value(spec.default)


def _element_default(spec: Field) -> str:
    if spec.default is msgspec.NODEFAULT:
        return "required"
    if spec.default is None:
        return ""
    return f"`{_shown_default(spec)}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
