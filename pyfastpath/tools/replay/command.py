"""`pyfastpath replay` itself: flags in, one screen and files out, one exit code."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pyfastpath.errors import ConfigError, SocketError
from pyfastpath.tools.junit import junit
from pyfastpath.tools.replay.options import Flags, read_flags
from pyfastpath.tools.replay.report import Outcome, to_cases, to_document, to_text

EXIT_CODES = (
    "Exit codes: 0 pass · 1 a datagram or a condition of --fail-if failed · 2 usage, or no capture that can "
    "be played · 3 nobody answers at the target · 4 no valid run (times were not kept, the machine refuses)"
)

Capture = Annotated[Path, typer.Argument(metavar="FILE", help="pcap or pcapng.", show_default=False)]
Target = Annotated[str, typer.Option(metavar="IP:PORT", help="The relay, where it is not one of our own.")]
SocketPath = Annotated[
    str,
    typer.Option(
        "--socket", metavar="PATH", help="Admin socket of a relay that runs: it gets our backends and routes."
    ),
]
SelfTest = Annotated[bool, typer.Option("--self-test", help="Start a relay for this run (the default).")]
Sessions = Annotated[
    int, typer.Option(metavar="N", help="Sessions, spread over the capture's calls. Default: one a call.")
]
Speed = Annotated[
    str, typer.Option(metavar="1x|10x|max", help="Recorded time, faster, or as fast as it goes.")
]
Loop = Annotated[int, typer.Option(metavar="N", help="Play it N times, with new sessions each time.")]
Limit = Annotated[int, typer.Option(metavar="DATAGRAMS", help="Play only the first ones of the capture.")]
Seed = Annotated[int, typer.Option(metavar="S", help="Of the moments in which sessions begin.")]
Preload = Annotated[bool, typer.Option("--preload", help="Read the capture into memory first.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="JSON lines: server_ufrag, server_pwd, client_ufrag, client_pwd."),
]
Password = Annotated[
    list[str] | None, typer.Option(metavar="UFRAG=PWD", help="One side's ICE password. Repeatable.")
]
TokenKey = Annotated[
    str,
    typer.Option(
        metavar="KID:HEX", envvar="PYFASTPATH_TOKEN_KEYS", help="Mint ufrags as tokens; with --transceiver."
    ),
]
Transceiver = Annotated[
    str, typer.Option(metavar="[CLUSTER/]N[/INCARNATION]", help="What the first backend's tokens name.")
]
TrunkKey = Annotated[
    str, typer.Option(metavar="ID:HEX", envvar="PYFASTPATH_TRUNK_KEYS", help="Key of a tagged trunk.")
]
Upstream = Annotated[str, typer.Option(metavar="plain|trunk", help="How the relay talks to our backends.")]
Backends = Annotated[int, typer.Option(metavar="K", help="How many backends share the sessions. Default: 2.")]
Sink = Annotated[
    list[str] | None,
    typer.Option(metavar="IP:PORT", help="Where the relay reaches a backend of ours. Repeatable."),
]
Source = Annotated[str, typer.Option(metavar="IP", help="Address of the first client; the others follow it.")]
Server = Annotated[
    str, typer.Option(metavar="IP:PORT", help="Who is the server in the capture; port 0: whatever its port.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Everything, as JSON.")]
JunitFile = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Each rule and --fail-if as a JUnit case.")
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(metavar="CONDITION", help="Fail when it holds: 'loss>0.001', 'p99_us>200'. Repeatable."),
]


def replay(
    file: Capture,
    *,
    target: Target = "",
    socket: SocketPath = "",
    self_test: SelfTest = False,
    sessions: Sessions = 0,
    speed: Speed = "1x",
    loop: Loop = 1,
    limit: Limit = 0,
    seed: Seed = 0,
    preload: Preload = False,
    passwords: PasswordFile = None,
    password: Password = None,
    token_key: TokenKey = "",
    transceiver: Transceiver = "",
    trunk_key: TrunkKey = "",
    upstream: Upstream = "plain",
    backends: Backends = 0,
    sink: Sink = None,
    source: Source = "",
    server: Server = "",
    json_file: JsonFile = None,
    junit_file: JunitFile = None,
    fail_if: FailIf = None,
) -> None:
    """Play a capture of real calls through a relay, both sides of it, and judge every datagram.

    The WebRTC calls of the capture are found by their first Binding Request. Each session plays one of them
    with a ufrag, transaction ids and a client address of its own; the last bytes of media and DTLS carry
    the session's number. A side sends when everything it answers has come out, and at the recorded time.

    Passed is a replay of which every datagram came out once, unchanged, in order, at its backend or client.
    A --fail-if on a figure replaces that rule for it. Figures: loss lost duplicates misrouted reordered
    corrupted strangers unroutable p50_us p90_us p99_us p999_us max_us pps timing_p50_us timing_p99_us.

    Without --target and --socket it starts a relay of its own.
    """
    flags = Flags(
        file=file,
        target=target,
        socket=socket,
        self_test=self_test,
        sessions=sessions,
        speed=speed,
        loop=loop,
        limit=limit,
        seed=seed,
        preload=preload,
        passwords=str(passwords or ""),
        password_lines=_lines(passwords) if passwords else (),
        password=password or (),
        token_key=token_key,
        transceiver=transceiver,
        trunk_key=trunk_key,
        upstream=upstream,
        backends=backends,
        sink=sink or (),
        source=source,
        server=server,
        fail_if=fail_if or (),
    )
    raise typer.Exit(run(flags, json_file=json_file, junit_file=junit_file))


def run(flags: Flags, *, json_file: Path | None = None, junit_file: Path | None = None) -> int:
    """Replay, tell, write; the exit code. Errors as `replay.run.replay`, and ConfigError for a wrong flag."""
    from pyfastpath.tools.replay.run import replay as play

    wishes = read_flags(flags, wall_s=int(time.time()))
    _check_readable(flags.file)
    for place in filter(None, (json_file, junit_file)):
        _write(place, "")
    try:
        outcome = play(wishes, _show_progress if sys.stderr.isatty() else None)
    except OSError as error:
        raise SocketError(
            f"the machine refuses: {error}", "See --sink and --source, and `ulimit -n`."
        ) from None
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(to_text(outcome))
    if json_file:
        _write(json_file, json.dumps(to_document(outcome), indent=2) + "\n")
    if junit_file:
        _write(junit_file, _junit(outcome))
    return outcome.exit_code


def _junit(outcome: Outcome) -> str:
    facts = {"capture": outcome.file, "sessions": str(outcome.sessions), "target": outcome.target}
    return junit("pyfastpath.replay", to_cases(outcome), properties=facts)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}", key="--passwords") from None


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", "Name a pcap or pcapng file.") from None


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write {file}: {error.strerror}", "Name a file that can be written."
        ) from None


def _show_progress(counters: Mapping[str, Any]) -> None:
    up, down = counters["up"], counters["down"]
    faults = sum(
        way[name]
        for way in (up, down)
        for name in ("lost", "duplicates", "reordered", "corrupted", "misrouted")
    )
    line = f"  {up['delivered'] + down['delivered']:,} delivered, {faults:,} not as they should"
    print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
