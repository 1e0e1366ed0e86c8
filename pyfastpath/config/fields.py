"""What a configuration struct says about its keys: for files, variables, flags, --help and docs/config.md."""

from __future__ import annotations

import hashlib
import typing
from functools import cache
from typing import Any, ClassVar, Literal, Self

import msgspec
from msgspec import Meta

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of every daemon's configuration."""

    COMMAND: ClassVar[str] = ""  # pyfastpath COMMAND --help explains every key
    PREFIX: ClassVar[str] = ""  # of the environment variables

    def digest(self) -> str:
        """12 hex digits that tell two configurations apart; computed without the secrets."""
        plain = msgspec.json.encode(self, enc_hook=repr, order="deterministic")
        return hashlib.sha256(plain).hexdigest()[:12]

    def restart_keys(self, new: Self) -> list[str]:
        """Keys that differ in `new` and that a reload cannot change."""
        return [
            spec.name
            for spec in fields(type(self))
            if not spec.reload and getattr(self, spec.name) != getattr(new, spec.name)
        ]


def number(help_text: str, low: int, high: int, *, reload: bool = False) -> Meta:
    """The Meta of a number from `low` to `high`."""
    return Meta(ge=low, le=high, description=help_text, extra={"reload": reload})


def text(
    help_text: str, *, reload: bool = False, secret: bool = False, hex_digits: bool = False, metavar: str = ""
) -> Meta:
    """The Meta of anything else. hex_digits: a secret that is written so. metavar: its value in --help."""
    extra = {"reload": reload, "secret": secret, "hex_digits": hex_digits, "metavar": metavar}
    return Meta(description=help_text, extra=extra)


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """What the struct says about one key."""

    name: str
    type: object
    annotation: object
    help: str
    default: object
    reload: bool
    secret: bool
    hex_digits: bool
    metavar: str
    prefix: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return self.prefix + self.name.upper()

    @property
    def is_list(self) -> bool:
        """Listed values: several in one variable, separated by commas; the flag may be repeated."""
        return isinstance(self.type, msgspec.inspect.VarTupleType)


@cache
def fields(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The keys of a struct, in the order of their definition. Asking msgspec takes milliseconds: once."""
    described = msgspec.inspect.type_info(struct)
    assert isinstance(described, msgspec.inspect.StructType)
    annotations = typing.get_type_hints(struct, include_extras=True)
    prefix = getattr(struct, "PREFIX", "")
    return tuple(_field(item, annotations[item.name], prefix) for item in described.fields)


def _field(item: msgspec.inspect.Field, annotation: object, prefix: str) -> Field:
    kind, described = item.type, ""
    extra: dict[str, Any] = {}
    while isinstance(kind, msgspec.inspect.Metadata):
        described = (kind.extra_json_schema or {}).get("description", described)
        extra |= kind.extra or {}
        kind = kind.type
    return Field(
        name=item.name,
        type=kind,
        annotation=annotation,
        help=described,
        default=item.default,
        reload=bool(extra.get("reload")),
        secret=bool(extra.get("secret")),
        hex_digits=bool(extra.get("hex_digits")),
        metavar=str(extra.get("metavar", "")),
        prefix=prefix,
    )
