"""`pyfastpath replay` itself: flags in, one screen and files out, one exit code."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pyfastpath.errors import ConfigError, SocketError
from pyfastpath.tools import flags as flag
from pyfastpath.tools.interrupts import interruptible
from pyfastpath.tools.junit import junit
from pyfastpath.tools.progress import Progress
from pyfastpath.tools.replay.options import Flags, read_flags
from pyfastpath.tools.replay.report import Outcome, to_cases, to_document, to_text

EXIT_CODES: Final = (
    "Exit codes: 0 pass · 1 a datagram or a condition of --fail-if failed · 2 usage, or no capture that can "
    "be played · 3 nobody answers at the target · 4 no valid run (times were not kept, the machine refuses)"
)


# Every flag, by the name of its field in Flags; those of files that are written stand at the end.
OPTIONS: Final[Mapping[str, Any]] = {
    "target": flag.text("--target", "IP:PORT", "The relay, where it is not one of our own."),
    "socket": flag.text(
        "--socket", "PATH", "Admin socket of a relay that runs: it gets backends and routes."
    ),
    "self_test": flag.switch("--self-test", "Start a relay for this run (as without --target and --socket)."),
    "sessions": flag.number("--sessions", "N", "Sessions, spread over the calls. Default: one a call."),
    "speed": flag.text("--speed", "1x|10x|max", "Recorded time, faster, or as fast as it goes. Default: 1x."),
    "loop": flag.number("--loop", "N", "Play it N times, with new sessions each time."),
    "limit": flag.number("--limit", "DATAGRAMS", "Play only the first ones of the capture."),
    "seed": flag.number("--seed", "S", "Of the moments at which sessions begin. Default: 0."),
    "preload": flag.switch("--preload", "Read the capture into memory first."),
    "passwords": flag.file("--passwords", "JSON lines: server_ufrag, server_pwd, client_ufrag, client_pwd."),
    "password": flag.texts("--password", "UFRAG=PWD", "ICE password of one side."),
    "token_key": flag.text(
        "--token-key",
        "KID:HEX",
        "Mint ufrags as tokens; with --transceiver.",
        variable="PYFASTPATH_TOKEN_KEYS",
    ),
    "transceiver": flag.text("--transceiver", "[CLUSTER/]N[/INCARNATION]", "What our tokens name."),
    "trunk_key": flag.text(
        "--trunk-key", "ID:HEX", "Key of a tagged trunk.", variable="PYFASTPATH_TRUNK_KEYS"
    ),
    "upstream": flag.text(
        "--upstream", "plain|trunk", "How the relay talks to our backends. Default: plain."
    ),
    "backends": flag.number("--backends", "K", "How many backends share the sessions. Default: 2."),
    "sink": flag.texts("--sink", "IP:PORT", "Where the relay reaches a backend of ours. Default: loopback."),
    "source": flag.text("--source", "IP", "Address of the first client; the others follow it."),
    "server": flag.text(
        "--server", "IP:PORT", "Who is the server in the capture; port 0: whatever its port."
    ),
    "fail_if": flag.texts("--fail-if", "CONDITION", "Fail when it holds: 'loss>0.001', 'p99_us>200'."),
    "json": flag.file("--json", "Everything, as JSON."),
    "junit": flag.file("--junit", "Each rule and --fail-if as a JUnit case."),
}


@flag.with_options(
    OPTIONS,
    arguments={
        "file": Annotated[Path, typer.Argument(metavar="FILE", help="pcap or pcapng.", show_default=False)]
    },
)
def replay(**given: Any) -> None:
    """Play a capture of real calls through a relay, both sides of it, and judge every datagram.

    The WebRTC calls of the capture are found by their first Binding Request. Each session plays one of them
    with a ufrag, transaction ids and a client address of its own; the last four bytes of media and DTLS carry
    the client's number. A side sends when everything it answers has come out, and at the recorded time.

    Passed is a replay of which every datagram came out once, unchanged, in order, at its backend or client.
    A --fail-if on a figure replaces that rule for it. Figures: loss lost duplicates misrouted reordered
    corrupted strangers unroutable unsent p50_us p90_us p99_us p999_us max_us pps timing_p50_us timing_p99_us.

    Without --target and --socket it starts a relay of its own.
    """
    flags = {name: value for name, value in given.items() if value is not None}
    json_file, junit_file = flags.pop("json", None), flags.pop("junit", None)
    if "passwords" in flags:
        flags["password_lines"] = _lines(flags["passwords"])
        flags["passwords"] = str(flags["passwords"])
    with interruptible():
        outcome = _play(Flags(**flags), {"--json": json_file, "--junit": junit_file})
    with flag.telling():
        print(to_text(outcome))
    if json_file:
        flag.write(json_file, json.dumps(to_document(outcome), indent=2) + "\n")
    if junit_file:
        flag.write(junit_file, _junit(outcome))
    raise typer.Exit(outcome.exit_code)


def _play(flags: Flags, files: Mapping[str, Path | None]) -> Outcome:
    """Replay, once everything that was named on the command line is known to be usable."""
    wishes = read_flags(flags, wall_s=int(time.time()))
    _check_readable(flags.file)
    flag.check_folders(files)
    read = {"the capture": flags.file, "--passwords": Path(flags.passwords) if flags.passwords else None}
    flag.check_apart({**read, **files})
    # The data plane is loaded by whoever plays, not by every command.
    from pyfastpath.tools.replay.run import replay as play

    try:
        with Progress() as progress:
            progress.show(f"reading {flags.file}")  # a minute a gigabyte, before anything is sent
            return play(wishes, lambda counters: progress.show(_going(counters)))
    except OSError as error:
        raise SocketError(f"the machine refuses: {error}", "See --sink, --source and `ulimit -n`.") from None


def _junit(outcome: Outcome) -> str:
    facts = {"capture": outcome.file, "sessions": str(outcome.sessions), "target": outcome.target}
    return junit("pyfastpath.replay", to_cases(outcome), properties=facts)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}", key="--passwords") from None


def _check_readable(file: Path) -> None:
    """A pipe is asked before it is opened: that would wait for whoever writes."""
    try:
        if file.is_fifo():
            raise ConfigError(
                f"{file} is a pipe, and a capture is read once for each turn and once before",
                "Write it to a file first.",
            )
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", "Name a pcap or pcapng file.") from None


def _going(counters: Mapping[str, Any]) -> str:
    """How it goes, in one line."""
    ways = counters["up"], counters["down"]
    delivered = sum(way["delivered"] for way in ways)
    faults = sum(
        way[name] for way in ways for name in ("lost", "duplicates", "reordered", "corrupted", "misrouted")
    )
    return f"{delivered:,} delivered, {faults:,} not as they should"
