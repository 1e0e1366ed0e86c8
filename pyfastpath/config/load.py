"""From defaults, file, environment and flags to one frozen Config, or to an error that names key and line.

Later sources win, whole keys at a time: flag > environment > file > default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from pyfastpath.config import gateway, rules, transceiver
from pyfastpath.config.checks import Mistake
from pyfastpath.config.convert import convert, from_text
from pyfastpath.config.fields import Config, Field, fields
from pyfastpath.config.gateway import GatewayConfig
from pyfastpath.config.lines import line_map
from pyfastpath.config.model import Listen, RelayConfig
from pyfastpath.config.source import Source, did_you_mean, read_text
from pyfastpath.config.transceiver import TransceiverConfig
from pyfastpath.errors import ConfigError

INTERNAL_VARIABLES = {"PYFASTPATH_MANIFEST"}  # from keeper to engine, no setting
Values = dict[str, tuple[object, Source]]
AnyConfig = TypeVar("AnyConfig", bound=Config)


@overload
def load(
    file: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    cpus: int | None = None,
) -> RelayConfig: ...


@overload
def load(
    file: str | os.PathLike[str] | None = None,
    *,
    kind: type[AnyConfig],
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    cpus: int | None = None,
) -> AnyConfig: ...


def load(
    file: str | os.PathLike[str] | None = None,
    *,
    kind: type[Config] = RelayConfig,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    cpus: int | None = None,
) -> Config:
    """The effective, checked configuration of a daemon; defaults that depend on the machine are filled in.

    kind: RelayConfig, TransceiverConfig or GatewayConfig. environ: default os.environ. flags: key -> text as
    on the command line, or a list of such texts; None means not given. cpus: how many this process may use;
    asked from the kernel when not given. Raises ConfigError; its `others` hold the further mistakes.
    """
    reader = _Reader(kind)
    if file is not None:
        reader.read_file(Path(file))
    reader.read_environment(os.environ if environ is None else environ)
    reader.read_flags(flags or {})
    reader.read_secret_files()
    converted = reader.convert()
    if not reader.errors:
        cpus = cpus or len(os.sched_getaffinity(0))
        config = DAEMONS[kind].resolve(kind(**converted), cpus)
        for wrong in DAEMONS[kind].mistakes(config, cpus):
            source = reader.values.get(str(wrong.path[0]), (None, Source("default")))[1]
            reader.errors.append(source.error(wrong.path, wrong.message, wrong.hint))
    if reader.errors:
        reader.errors[0].others = tuple(reader.errors[1:])
        raise reader.errors[0]
    return config


class _Reader:
    """Collects values and errors from source after source."""

    def __init__(self, kind: type[Config]) -> None:
        self.kind = kind
        self.known: dict[str, Field] = {spec.name: spec for spec in fields(kind)}
        self.values: Values = {}
        self.errors: list[ConfigError] = []

    def source(self, where: str) -> Source:
        return Source(where, command=self.kind.COMMAND)

    def read_file(self, file: Path) -> None:
        try:
            text = read_text(file)
            data = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(
                f"cannot read it: {error.strerror}", "Name a readable file with --config.", where=str(file)
            ) from None
        except UnicodeDecodeError:
            raise ConfigError("is not UTF-8 text", "Save it as UTF-8.", where=str(file)) from None
        except tomllib.TOMLDecodeError as error:
            raise _syntax_error(file, text, str(error)) from None
        source = Source(str(file), line_map(text), file.parent, is_text=False, command=self.kind.COMMAND)
        for name, value in data.items():
            if name in self.known:
                self.values[name] = (value, source)
            else:
                self.errors.append(source.error((name,), "unknown key", did_you_mean(name, self.known)))

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for spec in self.known.values():
            variable, file_variable = spec.variable, spec.variable + "_FILE"
            if variable in environ:
                source = self.source(f"environment variable {variable}")
                self.values[spec.name] = (from_text(spec, environ[variable]), source)
            elif spec.secret and spec.name + "_file" not in self.known and file_variable in environ:
                source = self.source(f"environment variable {file_variable}")
                text = source.read_secret(environ[file_variable], (spec.name,))
                self.values[spec.name] = (from_text(spec, text), source)
        self._refuse_misspelt(environ)

    def _refuse_misspelt(self, environ: Mapping[str, str]) -> None:
        """Only near misses: Kubernetes sets PYFASTPATH_… variables of its own for a service of that name."""
        names = _variables(self.kind)
        others = INTERNAL_VARIABLES.union(*map(_variables, DAEMONS))
        for name in sorted(environ):
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.9)
            if name.startswith(self.kind.PREFIX) and name not in others and near:
                self.errors.append(
                    ConfigError("unknown variable", f"Did you mean {near[0]}?", where=f"environment {name}")
                )

    def read_flags(self, flags: Mapping[str, object]) -> None:
        for name, value in flags.items():
            spec = self.known[name]
            if value is not None:
                raw = from_text(spec, value) if isinstance(value, str) else value
                self.values[name] = (raw, self.source(f"flag {spec.flag}"))

    def read_secret_files(self) -> None:
        """A key X_file names the file that holds the secret X; X itself, where given, wins."""
        for name, (raw, source) in list(self.values.items()):
            secret = self.known.get(name.removesuffix("_file"))
            if not (secret and secret.secret and name.endswith("_file") and isinstance(raw, str) and raw):
                continue
            if secret.name in self.values:
                continue
            try:
                text = source.read_secret(raw, (name,))
            except ConfigError as error:
                self.errors.append(error)
            else:
                self.values[secret.name] = (from_text(secret, text), self.source(raw))

    def convert(self) -> dict[str, Any]:
        """The typed value of every key that was given."""
        converted: dict[str, Any] = {}
        for name, (raw, source) in self.values.items():
            try:
                converted[name] = convert(self.known[name], raw, source)
            except ConfigError as error:
                self.errors.append(error)
        return converted


def _variables(kind: type[Config]) -> set[str]:
    """Every environment variable a daemon reads."""
    return {spec.variable for spec in fields(kind)} | {
        spec.variable + "_FILE" for spec in fields(kind) if spec.secret
    }


def _syntax_error(file: Path, text: str, message: str) -> ConfigError:
    """tomllib knows the line; the key is what stands before the '=' there."""
    found = re.search(r"at line (\d+)", message)
    lines = text.removesuffix("\n").split("\n")  # as tomllib counts: splitlines knows more line ends
    line = min(int(found[1]) if found else len(lines), len(lines))
    key = re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", lines[line - 1])
    return ConfigError(
        f"not TOML: {message.split(' (at', maxsplit=1)[0]}",
        "Texts stand in quotes, lists in brackets, and a key only once.",
        key=key[1] if key else "",
        where=f"{file}, line {line}",
        line=line,
    )


def _resolved_relay(config: RelayConfig, cpus: int) -> RelayConfig:
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


def default_admin_socket(name: str = "") -> str:
    """Where an admin socket is when nobody says: root's in /run, another user's in the runtime directory.

    name: of the daemon; empty for the relay.
    """
    stem = f"pyfastpath-{name}" if name else "pyfastpath"
    if os.geteuid() == 0:
        return f"/run/{stem}.sock"
    return str(Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"{stem}-{os.geteuid()}.sock")


def _resolved_transceiver(config: TransceiverConfig, _cpus: int) -> TransceiverConfig:
    named = config.id or f"transceiver-{config.transceiver}"
    # Whoever serves control by TCP alone is asked for by a gateway on another machine.
    socket = config.control_socket or ("" if config.control_listen else default_admin_socket(named))
    return msgspec.structs.replace(config, id=named, control_socket=socket)


def _resolved_gateway(config: GatewayConfig, _cpus: int) -> GatewayConfig:
    return msgspec.structs.replace(
        config,
        admin_socket=config.admin_socket or default_admin_socket("gateway"),
        token_kid=max((item.kid for item in config.token_keys), default=0)
        if config.token_kid is None
        else config.token_kid,
    )


@dataclass(frozen=True, slots=True)
class Daemon:
    """How the configuration of one daemon is completed and judged; both also get the number of CPUs."""

    resolve: Callable[[Any, int], Config]
    mistakes: Callable[[Any, int], Iterator[Mistake]]


DAEMONS: dict[type[Config], Daemon] = {
    RelayConfig: Daemon(_resolved_relay, lambda config, cpus: rules.mistakes(config, cpus=cpus)),
    TransceiverConfig: Daemon(_resolved_transceiver, lambda config, _: transceiver.mistakes(config)),
    GatewayConfig: Daemon(_resolved_gateway, lambda config, _: gateway.mistakes(config)),
}
