"""The command line. Its help is the manual: `pyfastpath COMMAND --help`.

Exit codes: 0 done, 1 refused or unhealthy, 2 usage or configuration, 3 no relay answers,
4 the machine refuses (a port, a privilege, a limit).
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pyfastpath import __version__
from pyfastpath.config import Config, GatewayConfig, RelayConfig, TransceiverConfig, load, print_config
from pyfastpath.errors import ConfigError, FastpathError
from pyfastpath.tools import capture as taking
from pyfastpath.tools import ctl
from pyfastpath.tools.bench import command as benching
from pyfastpath.tools.replay import command as replaying
from pyfastpath.tools.settings import with_settings
from pyfastpath.types import TRAFFIC_CLASSES

EXIT_CODES = (
    "Exit codes: 0 done · 1 refused or unhealthy · 2 usage or configuration · 3 no relay answers · "
    "4 the machine refuses (port, privilege, limit)"
)

app = typer.Typer(
    name="pyfastpath",
    help="A voice edge: a WebRTC relay behind one public UDP port, transceivers, and a signalling gateway.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
token_app = typer.Typer(no_args_is_help=True, help="Mint and read token T1: a ufrag that routes.")
app.add_typer(ctl.app, name="ctl")
app.add_typer(token_app, name="token")
app.command(epilog=benching.EXIT_CODES)(benching.bench)
app.command(epilog=replaying.EXIT_CODES)(replaying.replay)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="TOML file. Every flag below is also a key in it."),
]
CheckOption = Annotated[bool, typer.Option("--check-config", help="Check the settings, then end.")]
PrintOption = Annotated[
    bool, typer.Option("--print-config", help="Print the effective settings as TOML, without secrets.")
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


@contextlib.contextmanager
def extra_needed() -> Iterator[None]:
    """Around imports of what only the extra `transceiver` brings."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pyfastpath"):
            raise
        raise FastpathError(
            f"{error.name} is not installed",
            "pip install 'pyfastpath[transceiver]' brings it ('.[transceiver]' in a checkout).",
        ) from error


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


def _shown(config: Config, *, file: Path | None, check: bool, show: bool) -> bool:
    """Did --check-config or --print-config ask for words instead of a daemon?"""
    if show:
        print(print_config(config), end="")
    elif check:
        count = f"{len(config.backends)} backends, " if isinstance(config, RelayConfig) else ""
        print(f"{file or 'settings'}: good, {count}digest {config.digest()}")
    return show or check


@app.command(epilog=EXIT_CODES)
@with_settings(RelayConfig)
def relay(
    *,
    file: ConfigOption = None,
    check_config: CheckOption = False,
    print_settings: PrintOption = False,
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
    if not _shown(config, file=file, check=check_config, show=print_settings):
        from pyfastpath.relay import keeper

        raise typer.Exit(keeper.run(config, file=str(file or ""), flags=flags))


@app.command(epilog=EXIT_CODES)
@with_settings(TransceiverConfig)
def transceiver(
    *,
    file: ConfigOption = None,
    check_config: CheckOption = False,
    print_settings: PrintOption = False,
    flags: dict[str, str | list[str]],
) -> None:
    """Run a transceiver until it is told to stop: the WebRTC endpoint behind relays.

    Every setting can be a flag (--agent), an environment variable (PYFASTPATH_TRANSCEIVER_AGENT) or a key of
    the file (agent); they win in this order. Secrets have no flag.

    SIGTERM drains, then ends; a second one, or SIGINT, ends at once. SIGHUP reopens the log. SIGUSR1 drains.
    """
    config = load(file, kind=TransceiverConfig, flags=flags)
    if not _shown(config, file=file, check=check_config, show=print_settings):
        with extra_needed():
            from pyfastpath.transceiver import process
        raise typer.Exit(process.run(config))


@app.command(epilog=EXIT_CODES)
@with_settings(GatewayConfig)
def gateway(
    *,
    file: ConfigOption = None,
    check_config: CheckOption = False,
    print_settings: PrintOption = False,
    flags: dict[str, str | list[str]],
) -> None:
    """Run a signalling gateway until it is told to stop: offers in, answers out, and the page.

    Every setting can be a flag (--public-url), an environment variable (PYFASTPATH_GATEWAY_PUBLIC_URL) or a
    key of the file (public_url); they win in this order. Secrets have no flag.

    SIGTERM drains, then ends; a second one, or SIGINT, ends at once. SIGHUP reopens the log and reads the
    certificate again.
    """
    config = load(file, kind=GatewayConfig, flags=flags)
    if not _shown(config, file=file, check=check_config, show=print_settings):
        from pyfastpath.signalling.gateway import run as run_gateway

        raise typer.Exit(run_gateway(config))


PublicIp = Annotated[
    str, typer.Option(metavar="IP", help="Serve others too: the address they reach this machine by.")
]
Tls = Annotated[
    str, typer.Option(metavar="self-signed", help="HTTPS: browsers open no microphone off localhost without.")
]
AgentName = Annotated[
    str, typer.Option(metavar="AGENT", help="Who answers: parrot, echo, tone, module:Class or wss://….")
]
AgentKeyFile = Annotated[str, typer.Option(metavar="FILE", help="Holds the key of a wss:// agent.")]
RelayPort = Annotated[int, typer.Option(min=1, max=65_535, help="UDP port of the relay.")]
PagePort = Annotated[int, typer.Option(min=1, max=65_535, help="TCP port of gateway and page.")]
HealthPort = Annotated[
    int, typer.Option(min=1, max=65_500, help="TCP port of the relay's metrics; the others' follow it.")
]
Transceivers = Annotated[int, typer.Option(min=1, max=16, help="How many transceivers.")]
Once = Annotated[bool, typer.Option("--once", help="End with the verdict of the first call.")]


@app.command(epilog=EXIT_CODES)
def up(
    *,
    public_ip: PublicIp = "",
    tls: Tls = "",
    agent: AgentName = "parrot",
    agent_key_file: AgentKeyFile = "",
    relay_port: RelayPort = 3478,
    page_port: PagePort = 8080,
    health_port: HealthPort = 9478,
    transceivers: Transceivers = 2,
    once: Once = False,
) -> None:
    """Run a whole voice edge on this machine: relay, transceivers, gateway and page.

    It first calls itself and prints what came of it, then serves until Ctrl-C. Keys, sockets and logs lie in
    a folder of its own. A process that dies is replaced.

    With --once it ends with 0 if the call was as it should be, else with 1.
    """
    with extra_needed():
        from pyfastpath.tools.edge import Wishes
        from pyfastpath.tools.up import run as run_edge
    if tls not in ("", "self-signed"):
        raise ConfigError(f"no such certificate: {tls!r}", "Write --tls self-signed.", key="--tls")
    wishes = Wishes(
        public_ip=public_ip,
        tls=bool(tls),
        agent=agent,
        agent_key_file=str(Path(agent_key_file).absolute()) if agent_key_file else "",
        relay_port=relay_port,
        page_port=page_port,
        health_port=health_port,
        transceivers=transceivers,
    )
    raise typer.Exit(run_edge(wishes, once=once))


@app.command(epilog=EXIT_CODES)
@with_settings(RelayConfig)
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
def top(
    *,
    socket_path: ctl.SocketPath = "",
    tcp: ctl.Tcp = "",
    token_file: ctl.TokenFile = None,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.25, max=16.0, help="Seconds between two looks.")
    ] = 1.0,
) -> None:
    """Watch a running relay: rates, latency, workers, drops by reason, backends. Fits 80 x 24."""
    from pyfastpath.tools.top.screen import Top

    relay_client = ctl.client_for(socket_path, tcp, token_file)
    relay_client.get("status")  # nobody there is an error, not a screen
    if not sys.stdout.isatty():
        raise ConfigError("top needs a terminal", "Use `pyfastpath ctl status -o json` in scripts.")
    Top(relay_client, interval_s).run()


@app.command()
def capture(
    *,
    output: taking.Output = "",
    session: taking.Session = "",
    ufrag: taking.Ufrag = "",
    client: taking.Client = "",
    backend: taking.Backend = "",
    full: taking.Full = False,
    snap: taking.Snap = 2048,
    duration: taking.Duration = 30,
    max_bytes: taking.MaxBytes = 64 << 20,
    end: taking.End = False,
    socket_path: ctl.SocketPath = "",
    tcp: ctl.Tcp = "",
    token_file: ctl.TokenFile = None,
) -> None:
    """Write what clients of a running relay send and get to a pcapng.

    It holds the clients' side: datagrams as they came and as they were sent, also those that were dropped,
    and why (in comments). Without --full it holds headers: STUN whole, of DTLS, RTP and RTCP nothing behind
    their headers. IP and UDP headers are made up from the addresses. Forwarding never waits for it.

    Ctrl-C ends it well. One capture at a time: --end ends another's. `pyfastpath replay` plays it again.
    """
    wanted = taking.Request(session, ufrag, client, backend, full, snap, duration, max_bytes)
    taking.run(ctl.client_for(socket_path, tcp, token_file), output, wanted, end=end)


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
