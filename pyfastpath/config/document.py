"""The configuration shown to people: --print-config, /v1/config and docs/config.md. Secrets are redacted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from pyfastpath.config.model import Backend, Field, Listen, RelayConfig, TokenKey, TrunkKey, fields
from pyfastpath.types import Secret

LISTS: dict[str, type[msgspec.Struct]] = {
    "listen": Listen,
    "backends": Backend,
    "token_keys": TokenKey,
    "trunk_keys": TrunkKey,
}


def redacted(config: RelayConfig) -> dict[str, Any]:
    """The configuration as plain values; a secret is the word `redacted`, or empty if there is none."""

    def hide(value: object) -> object:
        if isinstance(value, Secret):
            return "redacted" if value else ""
        raise NotImplementedError(type(value))

    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=hide)
    return plain


def print_config(config: RelayConfig) -> str:
    """The effective configuration as TOML: scalar keys first, then the tables."""
    plain = redacted(config)
    scalars = [f"{name} = {_value(value)}" for name, value in plain.items() if not _is_tables(value)]
    tables = [
        f"\n[[{name}]]\n"
        + "\n".join(f"{key} = {_value(item)}" for key, item in table.items() if item is not None)
        for name, value in plain.items()
        if _is_tables(value)
        for table in value
    ]
    return "\n".join(scalars + tables) + "\n"


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)


def _value(value: object) -> str:
    """One TOML value. JSON writes texts, numbers, booleans and lists of texts as TOML does."""
    return json.dumps(value, ensure_ascii=False)


def document() -> str:
    """docs/config.md: every key, its flag, its variable and its default."""
    rows = [
        (
            f"`{spec.name}`",
            f"`{spec.flag}`" if has_flag(spec) else "none",
            f"`{_shown_default(spec)}`",
            "yes" if spec.reload else "",
            spec.help,
        )
        for spec in fields()
    ]
    parts = [
        "# Configuration\n",
        "Printed by `make docs` from `pyfastpath/config/model.py`; a test compares.\n",
        "One TOML file: `pyfastpath relay --config relay.toml`. Every key has an environment twin",
        "(`PYFASTPATH_` and the key in capitals; lists separated by commas) and, unless secret, a flag.",
        "Flag > environment > file > default, whole keys at a time. An unknown key or a value that cannot be",
        "used refuses to start and names key and line. `--check-config` only checks, `--print-config` prints",
        "the effective values without secrets. Keys marked *reload* take effect on SIGHUP (`ctl reload`)",
        "without losing a flow; the others need a restart of the relay.\n",
        "Secrets come from files: `key_file`, `admin_token_file`, `PYFASTPATH_TOKEN_KEYS_FILE`,",
        "`PYFASTPATH_TRUNK_KEYS_FILE` (one `id:hex` a line). Relative names start from the file's folder.\n",
        _table(("key", "flag", "default", "reload", "meaning"), rows),
    ]
    for name, kind in LISTS.items():
        summary = " ".join((kind.__doc__ or "").split())
        parts.append(f"## `[[{name}]]`\n\n{summary}\n")
        parts.append(
            _table(
                ("key", "default", "meaning"),
                [(f"`{spec.name}`", _element_default(spec), spec.help) for spec in fields(kind)],
            )
        )
    return "\n".join(parts).rstrip("\n") + "\n"


def has_flag(spec: Field) -> bool:
    """Secrets have none: a command line can be read by every user of the machine."""
    return not spec.secret


def _shown_default(spec: Field) -> str:
    if spec.name == "listen":
        return '["0.0.0.0:3478"]'
    if isinstance(spec.default, tuple):
        return "[]"
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
