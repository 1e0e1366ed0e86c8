"""Results of the two call benchmarks as Markdown: medians, spread, and what makes a run invalid.

Pure: plain values in, text out (tests/bench/test_tables.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]

ANSWERED = 0.98  # of what was sent; with fewer replies the server did less than it was asked to
SENT = 0.99  # of the schedule
LATE_MS = 5.0  # a quarter of a packet's length: a load that is later sends bursts
LOAD_SHARE = 0.8  # of its CPU
DISTURBED = 0.1  # of the time the server was ready to run and others ran
SATURATED = 0.9  # of its CPU: then it defers work, and the figure flatters it

SETUP_STEPS = (
    ("answered", "the POST is answered"),
    ("accepted", "the answer is set"),
    ("ice", "ICE is connected"),
    ("dtls", "DTLS is connected"),
    ("media", "**first RTP packet received**"),
)
SERVER_STEPS = (
    ("check", "first check"),
    ("path", "path proven"),
    ("handshake", "first DTLS record"),
    ("keys", "handshake done"),
    ("media_out", "first RTP packet left"),
)


# ---- capacity -------------------------------------------------------------------------------------------


def faults(sample: Row) -> list[str]:
    """Why a measurement is not valid; empty when it is."""
    found = []
    if sample["load_cpu_share"] > LOAD_SHARE:
        found.append(f"the load saturates: {sample['load_cpu_share']:.0%} of its CPU")
    if sample["late_p99_ms"] > LATE_MS:
        found.append(f"the load saturates: {sample['late_p99_ms']:.1f} ms late")
    if sample["sent"] < SENT * sample["scheduled"]:
        found.append(f"the load saturates: {sample['sent'] / sample['scheduled']:.1%} sent")
    if sample["replies"] < ANSWERED * sample["sent"]:
        found.append(f"{sample['replies'] / sample['sent']:.1%} answered")
    if sample["wrong"] or not sample["checked"]:
        found.append(f"{sample['wrong']} of {sample['checked']} replies wrong")
    return found


def remarks(sample: Row) -> list[str]:
    """What a reader of a valid figure must know."""
    found = []
    if sample["cpu_share"] > SATURATED:
        found.append(f"saturated: {sample['cpu_share']:.0%} of its CPU")
    if sample["waited_share"] > DISTURBED:
        found.append(f"disturbed: waited for its CPU {sample['waited_share']:.0%} of the time")
    return found


def capacity_report(result: Row) -> str:
    """The whole document."""
    settings = result["settings"]
    return "\n".join(
        [
            f"# bench-calls, {result['date']}, commit {result['commit']}\n",
            machine_table(result["machine"]),
            f"* {settings['rounds']} rounds of {settings['measure_s']:g} s after {settings['warmup_s']:g} s\n"
            "* 50 packets a second each way; the server alone on CPU 0, load and relay on CPU 1\n",
            table(
                (
                    "server",
                    "sessions",
                    "CPU ms a session-second",
                    "least-most",
                    "goal",
                    "sessions a core",
                    "its CPU",
                    "answer p50 ms",
                    "p99 ms",
                    "relay ms",
                    "remarks",
                ),
                (_server(name, rows, result["goals_ms"][name]) for name, rows in result["servers"].items()),
            ),
            *_against(result["servers"]),
        ]
    )


def _server(name: str, rows: list[Row], goal_ms: float | None) -> Sequence[str]:
    valid = [row for row in rows if not faults(row)]
    said = sorted({one for row in rows for one in [*faults(row), *remarks(row)]})
    if len(valid) < len(rows):
        said = [f"{len(rows) - len(valid)} of {len(rows)} rounds invalid", *said]
    sessions = str(rows[0]["sessions"])
    if not valid:
        return name, sessions, "invalid", *[""] * 7, "; ".join(said)
    costs = [row["cpu_ms"] for row in valid]
    return (
        name,
        sessions,
        f"**{median(costs):.2f}**",
        f"{min(costs):.2f}-{max(costs):.2f}",
        f"≤ {goal_ms}" if goal_ms else "",
        f"{1000 / median(costs):,.0f}",
        f"{median(row['cpu_share'] for row in valid):.0%}",
        f"{median(row['response_p50_ms'] for row in valid):.1f}",
        f"{median(row['response_p99_ms'] for row in valid):.1f}",
        f"{median(row['relay_ms'] for row in valid):.2f}",
        "; ".join(said),
    )


def _against(servers: dict[str, list[Row]]) -> Iterable[str]:
    """Ratios inside of a round, of rounds in which both were valid."""
    *ours, theirs = servers
    for name in ours:
        pairs = zip(servers[name], servers[theirs], strict=True)
        found = [b["cpu_ms"] / a["cpu_ms"] for a, b in pairs if not faults(a) and not faults(b)]
        if found:
            yield f"{theirs} costs {median(found):.1f} times {name} ({min(found):.1f}-{max(found):.1f}).\n"


# ---- setup ----------------------------------------------------------------------------------------------


def setup_report(result: Row) -> str:
    """The whole document."""
    calls: dict[str, list[Row]] = result["calls"]
    ours = next(iter(calls))
    return "\n".join(
        [
            f"# bench-setup, {result['date']}, commit {result['commit']}\n",
            machine_table(result["machine"]),
            f"* {len(calls[ours])} calls of each in one Chromium, in turn and warm\n"
            "* milliseconds since the POST: median (least-most)\n",
            table(
                ("step, in the page", *calls),
                (
                    (text, *(_spread(rows, "steps_ms", step) for rows in calls.values()))
                    for step, text in SETUP_STEPS
                ),
            ),
            "Steps as the transceiver saw them, since it was asked for the session:\n",
            table(
                ("step, in the transceiver", ours),
                ((text, _spread(calls[ours], "server_ms", step)) for step, text in SERVER_STEPS),
            ),
        ]
    )


def _spread(rows: list[Row], where: str, step: str) -> str:
    known = [row[where][step] for row in rows if step in row[where]]
    return f"{median(known):.1f} ({min(known):.1f}-{max(known):.1f})" if known else "–"


# ---- both -----------------------------------------------------------------------------------------------


def machine_table(machine: Row) -> str:
    """The machine card."""
    return table(("machine", ""), ((key, _plain(value)) for key, value in machine.items()))


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
