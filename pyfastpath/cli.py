"""The command line. Its help is the manual: `pyfastpath COMMAND --help`.

Exit codes: 0 done, 1 refused or unhealthy, 2 usage or configuration, 3 no relay answers,
4 the machine refuses (a port, a privilege, a limit).
"""

from __future__ import annotations

import functools
import inspect
import json
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pyfastpath import __version__
from pyfastpath.config import Field, RelayConfig, fields, load, print_config
from pyfastpath.config.document import has_flag
from pyfastpath.errors import ConfigError, FastpathError
from pyfastpath.tools import ctl
from pyfastpath.types import TRAFFIC_CLASSES

EXIT_CODES = (
    "Exit codes: 0 done · 1 refused or unhealthy · 2 usage or configuration · 3 no relay answers · "
    "4 the machine refuses (port, privilege, limit)"
)

app = typer.Typer(
    name="pyfastpath",
    help="A WebRTC relay: one public UDP port, routed by ICE ufrag.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
token_app = typer.Typer(no_args_is_help=True, help="Mint and read token T1: a ufrag that routes.")
app.add_typer(ctl.app, name="ctl")
app.add_typer(token_app, name="token")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="TOML file. Every flag below is also a key in it."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code. Errors are one sentence each on standard error."""
    try:
        app(args=arguments, prog_name="pyfastpath")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except FastpathError as error:
        others = error.others if isinstance(error, ConfigError) else ()
        for one in (error, *others):
            print(f"pyfastpath: {one}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one flag for every key of the configuration, made from RelayConfig itself.

    The command gets `file` and `flags` (key -> text or list of texts, None when not given).
    """
    own = inspect.signature(command, eval_str=True)
    specs = [spec for spec in fields(RelayConfig) if has_flag(spec)]

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        flags = {spec.name: _as_text(given.pop(spec.name)) for spec in specs}
        return command(flags={name: value for name, value in flags.items() if value is not None}, **given)

    parameters = [item for item in own.parameters.values() if item.name != "flags"]
    parameters += [_parameter(spec) for spec in specs]
    wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
    return wrapper


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
    if isinstance(kind, msgspec.inspect.LiteralType):
        return "|".join(str(value) for value in kind.values)
    if isinstance(kind, msgspec.inspect.IntType):
        return "NUMBER"
    return {"listen": "IP:PORT", "backends": "ID=IP:PORT", "allow_clients": "NETWORK"}.get(spec.name, "TEXT")


def _help(spec: Field) -> str:
    if spec.is_list:
        return f"{spec.help}; repeat for several"
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


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pyfastpath {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog=EXIT_CODES)
@with_settings
def relay(
    *,
    file: ConfigOption = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check the settings, then end.")
    ] = False,
    print_settings: Annotated[
        bool, typer.Option("--print-config", help="Print the effective settings as TOML, without secrets.")
    ] = False,
    flags: dict[str, str | list[str]],
) -> None:
    """Run the relay until it is told to stop.

    Every setting can be a flag (--coalesce-us), an environment variable (PYFASTPATH_COALESCE_US) or a key
    of the file (coalesce_us); they win in this order. Keys of token T1, trunk keys and the admin token have
    no flag: a command line can be read by everybody.

    SIGTERM drains, then ends; a second one, or SIGINT, ends at once. SIGHUP reloads the settings and reopens
    the log. SIGUSR1 drains.
    """
    config = load(file, flags=flags)
    if print_settings:
        print(print_config(config), end="")
    elif check_config:
        print(f"{file or 'settings'}: good, {len(config.backends)} backends, digest {config.digest()}")
    else:
        from pyfastpath.relay import keeper

        raise typer.Exit(keeper.run(config, file=str(file or ""), flags=flags))


@app.command(epilog=EXIT_CODES)
@with_settings
def doctor(
    *, file: ConfigOption = None, as_json: JsonOption = False, flags: dict[str, str | list[str]]
) -> None:
    """Say what this machine grants a relay with these settings, and what to fix.

    Takes the same settings as `relay`. Ends with 1 if a relay could not run.
    """
    from pyfastpath.tools.doctor import examine

    findings = examine(load(file, flags=flags))
    if as_json:
        print(json.dumps([msgspec.to_builtins(finding) for finding in findings], indent=2))
    else:
        ctl.show_table(
            [
                {"check": item.check, "": item.level, "found": item.text, "to fix": item.fix}
                for item in findings
            ]
        )
    raise typer.Exit(1 if any(item.level == "fail" for item in findings) else 0)


@app.command()
def explain(
    what: Annotated[
        str, typer.Argument(help="A ufrag, a datagram in hex, or a pcap file of the clients' side.")
    ],
    file: ConfigOption = None,
    route: Annotated[
        str, typer.Option(metavar="BACKEND", help="As if a session route to this backend were installed.")
    ] = "",
) -> None:
    """Say what a relay with this configuration would decide, and by which rule. Needs no relay.

    Ends with 1 if it would drop it. A capture is played through the slow twin of the data plane.
    """
    from pyfastpath.tools.explain import explain as answer

    said = answer(what, load(file), route=route, wall_s=int(time.time()))
    print("\n".join(said.lines))
    raise typer.Exit(0 if said.routed else 1)


@token_app.command("mint")
def token_mint(
    file: ConfigOption = None,
    backend: Annotated[str, typer.Option(help="Backend of the configuration that the token leads to.")] = "",
    cluster: Annotated[int | None, typer.Option(help="Cluster, when no --backend is named.")] = None,
    transceiver: Annotated[int | None, typer.Option(help="Transceiver, when no --backend is named.")] = None,
    incarnation: Annotated[int, typer.Option(help="Incarnation, when no --backend is named.")] = 0,
    kid: Annotated[int | None, typer.Option(help="Key id; default: the highest configured one.")] = None,
    traffic_class: Annotated[str, typer.Option("--class", metavar="|".join(TRAFFIC_CLASSES))] = "voice",
    expires_in_s: Annotated[int, typer.Option(help="Seconds in which a new flow may use it.")] = 4 * 3600,
    count: Annotated[int, typer.Option(min=1, help="How many, each with a session id of its own.")] = 1,
) -> None:
    """Print a fresh ufrag that leads to a backend.

    Keys come from the configuration or from PYFASTPATH_TOKEN_KEYS=kid:hex.
    """
    from pyfastpath.tools import tokens

    config = load(file)
    if backend:
        to = tokens.destination_of(config, backend)
    elif transceiver is None:
        raise ConfigError("a token needs a destination", "Pass --backend ID, or --transceiver NUMBER.")
    else:
        to = tokens.Destination(config.cluster if cluster is None else cluster, transceiver, incarnation)
    if traffic_class not in TRAFFIC_CLASSES:
        raise ConfigError(f"no class {traffic_class!r}", f"Choose {', '.join(TRAFFIC_CLASSES)}.")
    for _ in range(count):
        print(
            tokens.mint(
                tokens.keys_of(config),
                kid,
                to,
                traffic_class=traffic_class,
                wall_s=int(time.time()),
                life_s=expires_in_s,
                session=secrets.randbits(36),
            )
        )


@token_app.command("inspect")
def token_inspect(
    ufrag: Annotated[str, typer.Argument(help="22 letters and digits.")],
    file: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a token names, when it ends, and what a relay of this configuration would decide.

    Ends with 1 if it does not route.
    """
    from pyfastpath.tools import tokens

    found = tokens.inspect(load(file), ufrag, int(time.time()))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(f"{name:13} {value}" for name, value in found.items()))
    raise typer.Exit(0 if found["verdict"] == "token" else 1)
