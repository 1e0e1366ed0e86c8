"""From defaults, file, environment and flags to one RelayConfig, or to an error that names key and line.

Later sources win, whole keys at a time: flag > environment > file > default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pyfastpath.config.convert import convert, from_text
from pyfastpath.config.lines import line_map
from pyfastpath.config.model import Field, Listen, RelayConfig, fields
from pyfastpath.config.rules import mistakes
from pyfastpath.config.source import Source, did_you_mean
from pyfastpath.errors import ConfigError
from pyfastpath.types import Secret

KNOWN: dict[str, Field] = {spec.name: spec for spec in fields()}
INTERNAL_VARIABLES = {"PYFASTPATH_MANIFEST"}  # from keeper to engine, no setting
Values = dict[str, tuple[object, Source]]


def load(
    file: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    cpus: int | None = None,
) -> RelayConfig:
    """The effective, checked configuration; defaults that depend on the machine are filled in.

    environ: default os.environ. flags: key -> text as on the command line, or a list of such texts;
    None means not given. cpus: how many this process may use; asked from the kernel when not given.
    Raises ConfigError; its `others` hold the further mistakes.
    """
    cpus = cpus or len(os.sched_getaffinity(0))
    errors: list[ConfigError] = []
    values: Values = {}
    if file is not None:
        values |= _from_file(Path(file), errors)
    values |= _from_environment(os.environ if environ is None else environ, errors)
    values |= _from_flags(flags or {})

    converted: dict[str, Any] = {}
    for name, (raw, source) in values.items():
        try:
            converted[name] = convert(KNOWN[name], raw, source)
            if name == "admin_token_file" and raw:
                text = source.read_secret(str(raw), (name,))
                converted.setdefault("admin_token", Secret(text.encode()))
        except ConfigError as error:
            errors.append(error)
    config = _resolve(RelayConfig(**converted), cpus) if not errors else RelayConfig()
    if not errors:
        for wrong in mistakes(config, cpus=cpus):
            source = values.get(str(wrong.path[0]), (None, Source("default")))[1]
            errors.append(source.error(wrong.path, wrong.message, wrong.hint))
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0]
    return config


def _from_file(file: Path, errors: list[ConfigError]) -> Values:
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot read it: {error.strerror}", "Name a readable file with --config.", where=str(file)
        ) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", "Save it as UTF-8.", where=str(file)) from None
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(file, text, str(error)) from None
    source = Source(str(file), line_map(text), file.parent, is_text=False)
    errors += [
        source.error((name,), "unknown key", did_you_mean(name, KNOWN)) for name in data if name not in KNOWN
    ]
    return {name: (value, source) for name, value in data.items() if name in KNOWN}


def _syntax_error(file: Path, text: str, message: str) -> ConfigError:
    """tomllib knows the line; the key is what stands before the '=' there."""
    found = re.search(r"at line (\d+)", message)
    lines = text.splitlines() or [""]
    line = min(int(found[1]) if found else len(lines), len(lines))
    key = re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", lines[line - 1])
    return ConfigError(
        f"not TOML: {message.split(' (at', maxsplit=1)[0]}",
        "Texts stand in quotes, lists in brackets, and a key only once.",
        key=key[1] if key else "",
        where=f"{file}, line {line}",
        line=line,
    )


def _from_environment(environ: Mapping[str, str], errors: list[ConfigError]) -> Values:
    values: Values = {}
    names = set(INTERNAL_VARIABLES)
    for spec in KNOWN.values():
        variable, file_variable = spec.variable, spec.variable + "_FILE"
        names |= {variable, file_variable} if spec.secret else {variable}
        if variable in environ:
            values[spec.name] = (
                from_text(spec, environ[variable]),
                Source(f"environment variable {variable}"),
            )
        elif spec.secret and spec.name + "_file" not in KNOWN and file_variable in environ:
            source = Source(f"environment variable {file_variable}")
            values[spec.name] = (
                from_text(spec, source.read_secret(environ[file_variable], (spec.name,))),
                source,
            )
    for name in sorted(environ):
        # Only near misses: Kubernetes sets PYFASTPATH_… variables of its own for a service of that name.
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.9)
        if name.startswith("PYFASTPATH_") and name not in names and near:
            errors.append(
                ConfigError("unknown variable", f"Did you mean {near[0]}?", where=f"environment {name}")
            )
    return values


def _from_flags(flags: Mapping[str, object]) -> Values:
    values: Values = {}
    for name, value in flags.items():
        spec = KNOWN[name]
        if value is not None:
            raw = from_text(spec, value) if isinstance(value, str) else value
            values[name] = (raw, Source(f"flag {spec.flag}"))
    return values


def _resolve(config: RelayConfig, cpus: int) -> RelayConfig:
    """Fill in what depends on the machine or on other keys."""
    shards = config.shards or min(64, max(2, cpus, config.workers))
    return msgspec.structs.replace(
        config,
        shards=shards,
        workers=config.workers or min(shards, cpus if cpus >= 4 else max(1, cpus - 1)),
        listen=_with_ingress_ids(config.listen),
        admin_socket=config.admin_socket or default_admin_socket(),
    )


def _with_ingress_ids(listen: tuple[Listen, ...]) -> tuple[Listen, ...]:
    taken = {item.ingress for item in listen}
    free = iter(number for number in range(256) if number not in taken)
    return tuple(
        item if item.ingress is not None else msgspec.structs.replace(item, ingress=next(free, 255))
        for item in listen
    )


def default_admin_socket() -> str:
    """Where the admin socket is when nobody says: root's in /run, another user's in the runtime directory."""
    if os.geteuid() == 0:
        return "/run/pyfastpath.sock"
    return str(Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"pyfastpath-{os.geteuid()}.sock")
