"""`pyfastpath ctl`: look at a running relay and tell it what to do, through its admin API."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyfastpath.config import default_admin_socket
from pyfastpath.errors import ConfigError, UnreachableError
from pyfastpath.log import LEVELS
from pyfastpath.tools import capture as taking
from pyfastpath.tools.admin import AdminClient
from pyfastpath.types import Endpoint, Secret

POLL_S = 1.0
PROGRESS_S = 10.0  # a line of a drain that does not move
UPGRADE_S = 120.0  # longer than the keeper gives any step of it
UPGRADE_POLL_S = 0.2
WIDTH_UNLIMITED = 10_000  # piped output is for grep: a row is never folded
STYLES = {"ok": "green", "up": "green", "warn": "yellow", "draining": "yellow", "fail": "red", "down": "red"}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
routes_app = typer.Typer(no_args_is_help=True, help="Session routes: which backend a ufrag leads to.")
backends_app = typer.Typer(help="Backends: list, add, drain, remove.", invoke_without_command=True)
app.add_typer(routes_app, name="routes")
app.add_typer(backends_app, name="backends")

Output = Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How to print.")]
Ufrag = Annotated[str, typer.Argument(help="The server's ICE ufrag.")]
BackendId = Annotated[str, typer.Argument(help="Backend id.")]


SocketPath = Annotated[
    str, typer.Option("--socket", envvar="PYFASTPATH_ADMIN_SOCKET", help="The relay's admin socket.")
]
Tcp = Annotated[str, typer.Option(metavar="IP:PORT", help="Its admin address on TCP instead.")]
TokenFile = Annotated[
    Path | None, typer.Option(envvar="PYFASTPATH_ADMIN_TOKEN_FILE", help="File with the token for --tcp.")
]


@app.callback()
def connect(
    context: typer.Context, socket_path: SocketPath = "", tcp: Tcp = "", token_file: TokenFile = None
) -> None:
    """Look at a running relay, or tell it what to do."""
    context.obj = client_for(socket_path, tcp, token_file)


def client_for(socket_path: str, tcp: str, token_file: Path | None) -> AdminClient:
    """The client these options name. ConfigError when they make no sense."""
    try:
        where = Endpoint.parse(tcp) if tcp else None
        token = Secret(token_file.read_bytes().strip()) if token_file and tcp else Secret(b"")
    except ValueError as error:
        raise ConfigError(str(error), "Pass --tcp IP:PORT.") from None
    except OSError as error:
        raise ConfigError(f"cannot read {token_file}: {error.strerror}", "Name a readable file.") from None
    return AdminClient(socket_path or default_admin_socket(), where, token)


def relay(context: typer.Context) -> AdminClient:
    """The client that `connect` made."""
    client: AdminClient = context.obj
    return client


# ---- printing ---------------------------------------------------------------------------------------


def show(value: Any, output: str, rows: Iterable[dict[str, Any]] | None = None) -> None:
    """Print a reply: as JSON, as a table of `rows`, or key by key."""
    if output not in {"text", "json"}:
        raise ConfigError(f"no output {output!r}", "Choose text or json.")
    if output == "json":
        print(json.dumps(value, indent=2))
    elif rows is not None:
        show_table(list(rows))
    else:
        for name, item in value.items():
            print(f"{name:15} {_cell(item)}")


def show_table(rows: list[dict[str, Any]]) -> None:
    """One line a row, one column a key; a terminal may fold, a pipe may not."""
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        cells = (_cell(row.get(name)) for name in columns)
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    Console(width=None if sys.stdout.isatty() else WIDTH_UNLIMITED).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_cell(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value)) or "-"
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return str(value)


# ---- looking ----------------------------------------------------------------------------------------


@app.command()
def status(context: typer.Context, output: Output = "text") -> None:
    """Everything at a glance. Ends with 1 when the relay is not ready."""
    said = relay(context).get("status")
    shown = {name: item for name, item in said.items() if name not in {"candidates", "backends", "datagrams"}}
    shown["backends"] = [f"{item['id']} {item['state']}" for item in said["backends"]]
    shown |= {f"datagrams {name}": item for name, item in said["datagrams"].items()}
    if output == "text":
        show(shown, output)
    else:
        show(said, output)
    raise typer.Exit(0 if said["ready"] else 1)


@app.command()
def flows(
    context: typer.Context,
    upstream: Annotated[
        str | None, typer.Option(metavar="IP:PORT", help="Who is the client behind this upstream address?")
    ] = None,
    client: Annotated[
        str | None, typer.Option(metavar="IP:PORT", help="Flows of this client address.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Flows to this backend.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many to show.")] = 1000,
    output: Output = "text",
) -> None:
    """Live flows: who talks to which backend, and how much."""
    _show_flows(
        relay(context).get("flows", upstream=upstream, client=client, backend=backend, limit=limit), output
    )


@app.command()
def session(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name its routes were installed with.")],
    output: Output = "text",
) -> None:
    """Flows of one session, by the name its routes were installed with. Ends with 1 if there are none."""
    said = relay(context).get("flows", session=name)
    _show_flows(said, output)
    raise typer.Exit(0 if said["matching"] else 1)


def _show_flows(said: dict[str, Any], output: str) -> None:
    show(said, output, said["flows"])
    if output == "text" and not said["flows"]:
        print("no flow", file=sys.stderr)
    if output == "text" and said["matching"] > len(said["flows"]):
        print(f"{said['matching']} match: --limit shows more", file=sys.stderr)


@app.command()
def workers(
    context: typer.Context,
    count: Annotated[
        int | None, typer.Option("--set", min=1, help="Serve the shards with so many workers.")
    ] = None,
    output: Output = "text",
) -> None:
    """Forwarding threads and their shards. No flow moves when their number changes."""
    client = relay(context)
    said = (
        client.get("workers") if count is None else client.request("PUT", ("workers",), body={"count": count})
    )
    show(said, output, said["workers"])


# ---- routes -----------------------------------------------------------------------------------------


@routes_app.command("get")
def routes_get(context: typer.Context, ufrag: Ufrag, output: Output = "text") -> None:
    """Where a ufrag leads."""
    show(relay(context).get("routes", ufrag), output)


@routes_app.command("add")
def routes_add(
    context: typer.Context,
    ufrag: Ufrag,
    backend: Annotated[str, typer.Option(help="Where it leads.")],
    target: Annotated[
        str, typer.Option(metavar="IP:PORT", help="An address of a plain backend's own, inside its `allow`.")
    ] = "",
    session: Annotated[str, typer.Option(help="Name of the session it belongs to.")] = "",
    ttl_s: Annotated[int, typer.Option(help="Life while no flow uses it; 0: as configured.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Move it if it leads elsewhere.")] = False,
    output: Output = "text",
) -> None:
    """Install one session route."""
    body = {
        "ufrag": ufrag,
        "backend": backend,
        "target": target,
        "session": session,
        "ttl_s": ttl_s,
        "replace": replace,
    }
    said = relay(context).request("PUT", ("routes",), body=body)
    show(said if output == "json" else {k: v for k, v in said.items() if k != "candidates"}, output)


@routes_app.command("load")
def routes_load(
    context: typer.Context,
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="One JSON object a line; - is standard input.")
    ],
    output: Output = "text",
) -> None:
    """Install many session routes. Ends with 1 if any line was refused."""
    said = relay(context).request("POST", ("routes",), body=file.read())
    show(said, output)
    raise typer.Exit(1 if said["refused"] else 0)


@routes_app.command("remove")
def routes_remove(context: typer.Context, ufrag: Ufrag) -> None:
    """Withdraw a route; live flows go on."""
    relay(context).request("DELETE", ("routes", ufrag))


# ---- backends ---------------------------------------------------------------------------------------


@backends_app.callback()
def backends(context: typer.Context, output: Output = "text") -> None:
    """Backends and their state; without a command, the list."""
    if context.invoked_subcommand is None:
        said = relay(context).get("backends")
        show(said, output, said["backends"])


@backends_app.command("add")
def backends_add(
    context: typer.Context,
    backend: BackendId,
    address: Annotated[str, typer.Argument(metavar="IP:PORT", help="Where it receives.")],
    mode: Annotated[str, typer.Option(metavar="plain|trunk")] = "plain",
    allow: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="Where routes may name targets of its own.")
    ] = None,
    transceiver: Annotated[int | None, typer.Option(help="Number that tokens name.")] = None,
    output: Output = "text",
) -> None:
    """Add a backend, or change one. It stays until it is removed or the relay ends."""
    body: dict[str, Any] = {"address": address, "mode": mode, "allow": allow or []}
    if transceiver is not None:
        body["transceiver"] = transceiver
    show(relay(context).request("PUT", ("backends", backend), body=body), output)


@backends_app.command("drain")
def backends_drain(context: typer.Context, backend: BackendId, output: Output = "text") -> None:
    """Send it no new flows; live ones go on."""
    show(relay(context).request("POST", ("backends", backend, "drain")), output)


@backends_app.command("undrain")
def backends_undrain(context: typer.Context, backend: BackendId, output: Output = "text") -> None:
    """Send it new flows again."""
    show(relay(context).request("POST", ("backends", backend, "undrain")), output)


@backends_app.command("remove")
def backends_remove(context: typer.Context, backend: BackendId) -> None:
    """Take it away; its live flows go on until they end."""
    relay(context).request("DELETE", ("backends", backend))


# ---- telling ----------------------------------------------------------------------------------------


@app.command()
def drain(
    context: typer.Context,
    wait_s: Annotated[int, typer.Option(min=0, help="Wait up to so many seconds for live flows to end.")] = 0,
    notice_s: Annotated[
        int, typer.Option(min=0, help="Be not ready for so long before new flows are refused.")
    ] = 0,
    output: Output = "text",
) -> None:
    """Be not ready and refuse new flows; live ones go on. With --wait-s, shows how many are left and ends
    with 1 if some still are."""
    client = relay(context)
    order = {"notice_s": notice_s} | ({"wait_s": wait_s} if wait_s else {})
    said = client.request("POST", ("drain",), body=order)
    if wait_s:
        said = wait_until_drained(client, said)
    show(said, output)
    raise typer.Exit(1 if wait_s and not said["done"] else 0)


def wait_until_drained(client: AdminClient, said: dict[str, Any]) -> dict[str, Any]:
    """Look every second until the drain is over, or somebody ended it; a line to standard error whenever
    something changed, and now and then. What was said last."""
    shown, due_s = "", 0.0
    while said["draining"] and not said["over"]:
        may_come = "" if said["refusing"] else " (new ones may come)"
        flows = f"live flows left: {said['live_flows']:,}{may_come}"
        if flows != shown or time.monotonic() >= due_s:
            print(f"{flows}; {said['deadline_left_s'] or 0:.0f} s until the deadline", file=sys.stderr)
            shown, due_s = flows, time.monotonic() + PROGRESS_S
        time.sleep(min(POLL_S, said["deadline_left_s"] or POLL_S))
        said = client.get("drain")
    return said


@app.command()
def undrain(context: typer.Context, output: Output = "text") -> None:
    """Take new flows again."""
    show(relay(context).request("DELETE", ("drain",)), output)


@app.command()
def reload(context: typer.Context, output: Output = "text") -> None:
    """Read the configuration again. No flow is lost; keys that need a restart are named."""
    show(relay(context).request("POST", ("reload",)), output)


@app.command()
def upgrade(context: typer.Context, output: Output = "text") -> None:
    """Let the version that is installed now take over. No flow is lost; one that does not work is refused."""
    client = relay(context)
    said = client.request("POST", ("upgrade",))
    deadline_s = time.monotonic() + UPGRADE_S
    while said["state"] in ("none", "running") and time.monotonic() < deadline_s:
        time.sleep(UPGRADE_POLL_S)
        with contextlib.suppress(UnreachableError):  # while one engine goes and the other comes
            said = client.get("upgrade")
    show(said, output)
    raise typer.Exit(0 if said["state"] == "done" else 1)


@app.command()
def loglevel(
    context: typer.Context,
    level: Annotated[str | None, typer.Argument(metavar="|".join(LEVELS), help="The new level.")] = None,
    output: Output = "text",
) -> None:
    """Show or change the least level that is logged."""
    client = relay(context)
    said = (
        client.get("loglevel")
        if level is None
        else client.request("PUT", ("loglevel",), body={"level": level})
    )
    show(said, output)


@app.command()
def capture(
    context: typer.Context,
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
) -> None:
    """Write what clients send and get to a pcapng: see `pyfastpath capture --help`."""
    wanted = taking.Request(session, ufrag, client, backend, full, snap, duration, max_bytes)
    taking.run(relay(context), output, wanted, end=end)
