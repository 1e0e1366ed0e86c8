"""A command-line flag for every key of a daemon's configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import typer

from pyfastpath.config import Config, Field, fields
from pyfastpath.config.document import has_flag

Command = Callable[..., Any]


def with_settings(kind: type[Config]) -> Callable[[Command], Command]:
    """Give a command one flag for every key of a daemon's configuration, made from the struct itself.

    The command gets `file` and `flags` (key -> text or list of texts, None when not given).
    """
    specs = [spec for spec in fields(kind) if has_flag(spec)]

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def wrapper(**given: Any) -> Any:
            flags = {spec.name: _as_text(given.pop(spec.name)) for spec in specs}
            return command(flags={name: value for name, value in flags.items() if value is not None}, **given)

        parameters = [item for item in own.parameters.values() if item.name != "flags"]
        parameters += [_parameter(spec) for spec in specs]
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
        return wrapper

    return decorate


def _parameter(spec: Field) -> inspect.Parameter:
    name, kind = spec.flag, spec.type
    if isinstance(kind, msgspec.inspect.BoolType):
        annotation: Any = bool | None
        names = (f"{name}/--no-{name.removeprefix('--')}",)
    else:
        annotation = list[str] | None if spec.is_list else str | None
        names = (name,)
    option = typer.Option(*names, metavar=_metavar(spec), help=_help(spec), show_default=False)
    return inspect.Parameter(
        spec.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, option]
    )


def _metavar(spec: Field) -> str | None:
    kind = spec.type
    if isinstance(kind, msgspec.inspect.BoolType):
        return None
    if spec.metavar:
        return spec.metavar
    if isinstance(kind, msgspec.inspect.LiteralType):
        return "|".join(str(value) for value in kind.values if value)
    if isinstance(kind, msgspec.inspect.IntType):
        return "NUMBER"
    return "TEXT"


def _help(spec: Field) -> str:
    if spec.is_list:
        return f"{spec.help}; repeat for several"
    if spec.default is None:
        return spec.help
    if isinstance(spec.default, bool):
        return f"{spec.help} [{'on' if spec.default else 'off'}]"
    return f"{spec.help} [{spec.default}]" if spec.default != "" else spec.help


def _as_text(value: object) -> str | list[str] | None:
    """A flag's value as the configuration reads texts. Typer gives [] for a list that was not given."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return value or None
    return value if value is None else str(value)
