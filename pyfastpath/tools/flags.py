"""Flags of a command as a table, and the files it writes: what `bench` and `replay` have in common."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pyfastpath.errors import ConfigError

Command = Callable[..., None]


def text(flag: str, metavar: str, said: str, *, variable: str | None = None) -> Any:
    """A flag with any text. variable: its twin in the environment."""
    return Annotated[str | None, typer.Option(flag, metavar=metavar, help=said, envvar=variable)]


def texts(flag: str, metavar: str, said: str) -> Any:
    """A flag that may be given several times."""
    return Annotated[list[str] | None, typer.Option(flag, metavar=metavar, help=f"{said} Repeatable.")]


def number(flag: str, metavar: str, said: str) -> Any:
    """A flag with a whole number."""
    return Annotated[int | None, typer.Option(flag, metavar=metavar, help=said)]


def seconds(flag: str, said: str) -> Any:
    """A flag with a span of time."""
    return Annotated[float | None, typer.Option(flag, metavar="SECONDS", help=said)]


def switch(flag: str, said: str) -> Any:
    """A flag without a value."""
    return Annotated[bool | None, typer.Option(flag, help=said)]


def file(flag: str, said: str) -> Any:
    """A flag that names a file."""
    return Annotated[Path | None, typer.Option(flag, metavar="FILE", help=said)]


def with_options(
    options: Mapping[str, Any], *, arguments: Mapping[str, Any] | None = None
) -> Callable[[Command], Command]:
    """Give a command the flags of a table, in its order, and positional arguments before them. The command
    gets them by name; a flag that was not given is None."""
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
        for name, annotation in (arguments or {}).items()
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]

    def decorate(command: Command) -> Command:
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {item.name: item.annotation for item in parameters}
        return command

    return decorate


def check_folders(files: Mapping[str, Path | None]) -> None:
    """Before a run, which must not end at a folder that is not there. files: by their flag. ConfigError."""
    for name, path in files.items():
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent}", "Create it, or name another.", key=name)


def check_apart(files: Mapping[str, Path | None]) -> None:
    """No two flags may name one file: the later one would be written over the earlier, even over what is
    read. Devices and pipes are nobody's alone. ConfigError."""
    names: dict[Path, str] = {}
    for name, path in files.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        other = names.setdefault(path.resolve(), name)
        if other != name:
            raise ConfigError(f"{path} is {other} already", "Name another file.", key=name)


@contextmanager
def telling() -> Iterator[None]:
    """Around what is printed. A reader that has gone, as `head` does, changes no verdict; a full disk is a
    ConfigError."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # What lies in the buffer would fail once more at the end, with an exit code of Python's own.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise ConfigError(
                f"cannot write to standard output: {error.strerror}", "Send it to another place."
            ) from None


def write(path: Path, content: str) -> None:
    """ConfigError when it cannot be written."""
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", "Name another file.") from None
