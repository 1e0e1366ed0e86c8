"""What the screen shows: readings as rich tables. Pure; every panel fits 80 columns, two beside each other.

Numbers are short (1.23k, 45.6M) so that a column never moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyfastpath.tools.top.readings import Changes, octaves, quantile_s

STYLES: Final = {"up": "green", "draining": "yellow", "down": "red"}
BARS: Final = " ▁▂▃▄▅▆▇█"
SPANS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
OCTAVES: Final = 12
FIRST_OCTAVE_S: Final = 4096e-9  # columns end at 4, 8, 16 … µs (powers of two of ns); the last: all slower
SCALE: Final = "≤4µs    ≤64µs   ≤1ms   >"  # above the columns, two characters each


def headline(status: dict[str, Any]) -> Text:
    """One line: what it is, whether it is ready, how full it is."""
    ready = status["ready"] and not status["draining"]
    word = "ready" if ready else "draining" if status["draining"] else "not ready"
    flows = status["flows"]
    text = Text(f" pyfastpath {status['version']} ", style="bold reverse")
    text.append(f" {word} ", style="bold green" if ready else "bold yellow")
    text.append(
        f"up {span(status['uptime_s'])} · engine {status['engine_starts']} · "
        f"flows {short(flows['confirmed'])} +{short(flows['provisional'])} of {short(flows['max'])}"
    )
    return text


def trouble(message: str) -> Text:
    """The headline while the relay does not answer; what stands below is old."""
    return Text(f" {message} ", style="bold white on red", no_wrap=True, overflow="ellipsis")


def held() -> Text:
    """The headline while the picture is held."""
    return Text(" paused: p goes on ", style="bold black on yellow")


def traffic(changes: Changes) -> RenderableType:
    """Rates each way, and conservation's other side: what was dropped."""
    table = _table("datagrams/s", "received", "forwarded", "dropped", "Mbit/s")
    for name, way in changes.ways.items():
        dropped = Text(short(way.dropped_pps), style="red" if way.dropped_pps else "")
        table.add_row(
            name, short(way.received_pps), short(way.forwarded_pps), dropped, f"{way.megabits_s:.2f}"
        )
    totals = Text("forwarded in all  ", style="dim")
    totals.append(" · ".join(f"{name} {short(way.forwarded)}" for name, way in changes.ways.items()))
    return Group(table, totals)


def latency(changes: Changes) -> RenderableType:
    """How long datagrams stayed in the relay since the last look, kernel queue included."""
    table = _table("in the relay", "p50", "p99", "p99.9", SCALE, left={0, 4})
    for name, way in changes.ways.items():
        found = [quantile_s(way.residence, changes.residence_ends_s, share) for share in (0.5, 0.99, 0.999)]
        counts = octaves(way.residence, changes.residence_ends_s, FIRST_OCTAVE_S, OCTAVES)
        last_s = changes.residence_ends_s[-1]
        table.add_row(name, *(micros(one, last_s) for one in found), bars(counts))
    return table


def workers(changes: Changes) -> RenderableType:
    """Who does the work; a batch near 64 means that a worker is busy, many naps that it is not."""
    table = _table("worker", "shards", "flows", "in/s", "batch", "naps/s", left={0, 1}, gap=1)
    for row in changes.workers:
        table.add_row(
            "none" if row.worker is None else str(row.worker),
            shard_list(row.shards),
            short(row.flows),
            short(row.received_pps),
            f"{row.batch:.1f}",
            short(row.naps_s),
        )
    return table


def drops(changes: Changes, limit: int) -> RenderableType:
    """The busiest drop reasons, at most `limit` of them, kernel drops first: they mean overload."""
    table = _table("dropped", "way", "/s", "total", left={0, 1}, gap=1)
    if changes.kernel_dropped:
        table.add_row(
            Text("kernel: buffer full", style="bold red"),
            "",
            short(changes.kernel_dropped_pps),
            short(changes.kernel_dropped),
        )
    for row in changes.drops[:limit]:
        table.add_row(
            Text(row.reason, style="red" if row.pps else ""), row.direction, short(row.pps), short(row.total)
        )
    if not changes.drops and not changes.kernel_dropped:
        table.add_row(Text("nothing", style="green"), "", "", "")
    return table


def backends(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """Every backend; sessions and round trip are known of transceivers only."""
    table = _table("backend", "state", "mode", "address", "sessions", "rtt", left={0, 1, 2, 3})
    for row in rows:
        trunk = row["trunk"] or {}
        load = f"{trunk['sessions']}/{trunk['capacity']}" if trunk.get("reported") else "-"
        rtt = f"{trunk['rtt_us']} µs" if trunk.get("rtt_us") else "-"
        state = Text(row["state"], style=STYLES.get(row["state"], ""))
        table.add_row(row["id"], state, row["mode"], row["address"], load, rtt)
    return table if rows else Text("no backend yet", style="yellow")


def short(number: float) -> str:
    """At most five characters: 0, 12.3, 999, 1.23k, 45.6M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            return f"{number / size:.3g}{unit}" if number < size * 999.5 else f"{number / size:.0f}{unit}"
    return f"{number:.3g}"


def span(seconds: float) -> str:
    """A time span in its two largest units: 42s, 3m05s, 7h12m, 12d04h."""
    whole = int(seconds)
    for (size, name), (smaller, smaller_name) in pairwise(SPANS):
        if whole >= size:
            return f"{whole // size}{name}{whole % size // smaller:02d}{smaller_name}"
    return f"{whole}s"


def micros(seconds: float | None, last_s: float) -> str:
    """A latency bound; `-` without any datagram; last_s: the last bound there is."""
    if seconds is None:
        return "-"
    if seconds == float("inf"):
        return f"> {last_s * 1e3:.0f} ms"
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def bars(counts: Sequence[int]) -> str:
    """Two characters a column; whatever is not zero can be seen."""
    highest = max(counts, default=0)
    if not highest:
        return ""
    steps = len(BARS) - 1
    return "".join(BARS[max(1, round(count / highest * steps)) if count else 0] * 2 for count in counts)


def shard_list(shards: Sequence[int]) -> str:
    """0-3 when they follow each other, else 0,2,5."""
    if len(shards) > 2 and list(shards) == list(range(shards[0], shards[-1] + 1)):
        return f"{shards[0]}-{shards[-1]}"
    return ",".join(map(str, shards))


def _table(*columns: str, left: set[int] | None = None, gap: int = 2) -> Table:
    """A table without lines; the first column, or those in `left`, stand left, numbers right."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold", expand=False)
    for number, name in enumerate(columns):
        justify = "left" if number in (left or {0}) else "right"
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return table
