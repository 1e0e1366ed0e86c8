"""`pyfastpath bench` itself: its flags, and the way from them to an exit code."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import typer

from pyfastpath.tools import flags as flag
from pyfastpath.tools.bench.options import Flags, read_options
from pyfastpath.tools.interrupts import interruptible

EXIT_CODES = (
    "Exit codes: 0 pass · 1 a condition of --fail-if holds · 2 usage · 3 nobody answers at the target · "
    "4 no valid run (the generator could not hold its rate, or the machine refuses)"
)


# Keys are fields of Flags, then of Files; the order is that of --help.
OPTIONS: Mapping[str, Any] = {
    "pps": flag.text("--pps", "N", "Datagrams a second on a schedule (50k), or `flood`. Default: 50k."),
    "duration_s": flag.seconds("--duration", "What is measured. Default: 10, of the survey 30 in all."),
    "sessions": flag.text("--sessions", "N", "Clients, each with a flow of its own. Default: 1000."),
    "ramp_s": flag.seconds(
        "--ramp", "Half of it opens the sessions evenly, in the other half the rate grows."
    ),
    "warmup_s": flag.seconds("--warmup", "What does not count. Default: 1; mode setup: 0.2."),
    "size_bytes": flag.number("--size", "BYTES", "UDP payload. Default: 172, a voice packet."),
    "size_dist": flag.text(
        "--size-dist", "fixed|spread|MIX", "spread: ± 24 bytes; a mix: sizes and shares, 172:0.9,1200:0.1."
    ),
    "mode": flag.text(
        "--mode",
        "up|down|echo|setup",
        "To the backend, from it, there and back, or new sessions. Default: echo.",
    ),
    "inject": flag.text(
        "--inject", "mmsg|gso|packet", "How datagrams leave; packet: raw frames, as root. Default: mmsg."
    ),
    "upstream": flag.text(
        "--upstream", "plain|trunk", "How relay and sink talk. Default: plain; mode setup: trunk."
    ),
    "target": flag.text("--target", "IP:PORT", "Where clients reach the relay. Default: a relay of our own."),
    "socket": flag.text(
        "--socket", "PATH", "Admin socket of a relay that runs: it gets our sink and our routes."
    ),
    "token_key": flag.text(
        "--token-key", "KID:HEX", "Routes by minted tokens instead.", variable="PYFASTPATH_TOKEN_KEYS"
    ),
    "transceiver": flag.text("--transceiver", "[CLUSTER/]N[/INCARNATION]", "What the minted tokens name."),
    "trunk_key": flag.text(
        "--trunk-key", "ID:HEX", "The relay's trunk key, if it has one.", variable="PYFASTPATH_TRUNK_KEYS"
    ),
    "sink": flag.text("--sink", "IP:PORT", "Where the relay reaches our sink. Default: a port of loopback."),
    "source": flag.text("--source", "IP", "Address of the first client; the others follow it."),
    "fail_if": flag.texts("--fail-if", "CONDITION", "Fail when it holds: loss>0.001."),
    "json": flag.file("--json", "Everything, as JSON."),
    "csv": flag.file("--csv", "The figures, one line a row."),
    "hdr": flag.file("--hdr", "Latency percentiles for HDR tools (.hgrm), a file for each row."),
    "junit": flag.file("--junit", "Each --fail-if as a JUnit case."),
    "markdown": flag.file("--markdown", "The table as Markdown."),
}


@flag.with_options(OPTIONS)
def bench(**given: Any) -> None:
    """Measure what a relay forwards, at what cost and with what latency.

    Without flags: half a minute, no root, no relay needed. Relays of our own in both upstream modes take
    turns with no relay at all.

    Datagrams are sent on a schedule and latency counts from the intended time: a relay that stalls is not
    spared. The generator's own rate is measured in the same run: what comes too near to it is marked, and a
    schedule that was not held ends with 4.

    --fail-if knows loss (a share, 0 to 1), lost, duplicates, misrouted, reordered, p50_us, p90_us, p99_us,
    p999_us, max_us, pps, cpu_ns and late.
    """
    names = {field.name for field in fields(Flags)}
    flags = {name: value for name, value in given.items() if name in names and value is not None}
    options = read_options(Flags(**flags))
    # The data plane is loaded by whoever measures, not by every command.
    from pyfastpath.tools.bench.output import Files, finish
    from pyfastpath.tools.bench.run import run
    from pyfastpath.tools.progress import Progress

    files = Files(**{name: value for name, value in given.items() if name not in names})
    files.check()
    began_s = time.monotonic()
    with interruptible(), Progress() as progress:
        outcome = run(options, progress)
    raise typer.Exit(finish(options, outcome, files, seconds=time.monotonic() - began_s))
