"""What a run says: one table for the eye, and the files for programs. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pyfastpath.tools.bench.figures import HEADROOM, Row, cpu, figures, invalid, row_json, throughput
from pyfastpath.tools.bench.options import Options
from pyfastpath.tools.gate import Judgement, judge
from pyfastpath.tools.junit import Case, junit

HEAD: Final = ("path", "way", "k/s", "±", "CPU ns", "±", "loss", "p50 µs", "p99 µs", "p99.9 µs")
DASH: Final = "–"
LEFT_COLUMNS: Final = 2
CSV_EXTRA: Final = ("path", "mode", "asked_pps", "sent_pps", "generator_bound")


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table."""
    pps, half = throughput(row)
    said = figures(row)
    cpu_ns, cpu_half = cpu(row.judged)
    bound = "≥ " if row.generator_bound else ""
    return (
        row.path,
        row.mode,
        f"{bound}{pps / 1000:,.1f}",
        _share(half, pps),
        DASH if cpu_ns is None else f"{cpu_ns:,.0f}",
        DASH if cpu_ns is None else _share(cpu_half, cpu_ns),
        _loss(said["loss"]),
        *(_micro(said[name]) for name in ("p50_us", "p99_us", "p999_us")),
    )


def legend(rows: Sequence[Row], options: Options) -> list[str]:
    """What the columns mean in this run, and at which rates they were taken."""
    setup = not options.survey and options.way == "setup"
    flood = any(row.floods for row in rows if row.own_pps is not None)
    unit = "sessions opened" if setup else "datagrams forwarded"
    twice = "; an echo counts twice" if any(row.mode == "echo" for row in rows) else ""
    said = {
        "no relay": "the generator straight to its sink: what it can do here, and its share of the latency",
        "k/s": f"thousand {unit} a second{', in a flood' if flood else ' (no relay: in a flood)'}{twice}",
    }
    if any(row.generator_bound for row in rows):
        said["≥"] = f"within {1 - HEADROOM:.0%} of the generator's own rate: the relay may do more"
    paced, timed = _rates(rows, "paced"), _rates(rows, "timed") or _rates(rows, "paced")
    one = "session" if setup else "forwarded datagram"
    said["CPU ns"] = f"nanoseconds of CPU the relay used for one {one}{paced}"
    if setup:
        said["loss"] = "share of the sessions that were never confirmed"
        said["p50 …"] = "from the intended time of the request to its answer"
    else:
        said["loss"] = f"share of what was sent that never arrived{paced}"
        said["p50 …"] = f"from the intended send time to the arrival{timed}"
    if flood and not options.survey:
        said["p50 …"] += "; in a flood that is the queue: give it --pps"
    said["±"] = "half of the 95 % confidence interval"
    return [f"{name:9}{text}" for name, text in said.items()]


def _rates(rows: Sequence[Row], kind: str) -> str:
    """`, at 90 k/s up, 60 k/s echo`; empty when nothing of that kind was measured."""
    rates = {row.mode: getattr(row, kind)[0].rate_pps for row in rows if getattr(row, kind)}
    if not rates:
        return ""
    return ", at " + ", ".join(f"{_thousands(rate)} k/s {mode}" for mode, rate in rates.items())


def table(rows: Sequence[Row]) -> list[str]:
    """The table as lines of text: the first two columns to the left, numbers to the right."""
    lines = [HEAD, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = [
        "  ".join(
            cell.ljust(width) if column < LEFT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return [texts[0], "─" * len(texts[0]), *texts[1:]]


def remarks(rows: Iterable[Row]) -> list[str]:
    """Everything that is not nothing: what was lost and by whose account, doubled, misrouted, late."""
    found = []
    for row in rows:
        said = figures(row)
        names = ("lost", "duplicates", "misrouted", "reordered", "late")
        counts = [f"{said[name]:,.0f} {name}" for name in names if said[name]]
        counts += [f"{sum(sample.retried for sample in row.judged):,} retried"] * any(
            sample.retried for sample in row.judged
        )
        counts += [f"the relay dropped {count:,} {reason}" for reason, count in row.drops]
        if counts:
            found.append(f"{row.label}: {', '.join(counts)}")
    return found


def heading(options: Options, machine: dict[str, Any]) -> str:
    """What was run, in one line."""
    sizes = ", ".join(_size(part.size_bytes, part.spread_bytes, part.share) for part in options.parts)
    what = "survey" if options.survey else f"{options.way}, {'flood' if not options.pps else _rate(options)}"
    return (
        f"pyfastpath bench {machine['version']} · {what} · {options.sessions:,} sessions · {sizes} · "
        f"{options.duration_s:g} s"
    )


def card_lines(options: Options, machine: dict[str, Any]) -> list[str]:
    """The machine in two lines; the JSON file has all of it."""
    kind = "virtual" if machine["hypervisor"] else "bare"
    if machine["relay_cpu"] is not None:
        division = (
            f"relays of our own (coalesce_us {machine['coalesce_us']}) on CPU {machine['relay_cpu']}, "
            f"generator and sink on {machine['load_cpus']}"
        )
    elif not options.own:
        division = f"generator and sink on {machine['load_cpus']}"
    else:
        division = "generator, sink and relay share one CPU: no figure is the relay's alone"
    return [
        f"machine  {machine['cpu']} · {machine['cpus']} CPUs, {kind} · Linux {machine['kernel']} · "
        f"Python {machine['python']} · load {machine['load']:.2f}",
        f"         {division} · build {machine['commit']} · {machine['date']}",
    ]


def judgements(rows: Sequence[Row], options: Options) -> list[tuple[Row, Judgement]]:
    """Every gate on every row that has a relay in it."""
    return [
        (row, said) for row in rows if row.own_pps is not None for said in judge(options.gates, figures(row))
    ]


def result_json(
    rows: Sequence[Row], options: Options, machine: dict[str, Any], reasons: Sequence[str], code: int
) -> dict[str, Any]:
    """The JSON file: settings, machine, every sample of every row, histograms, gates and verdict."""
    return {
        "tool": "pyfastpath bench",
        "verdict": {0: "pass", 1: "fail", 4: "invalid"}[code],
        "reasons": list(reasons),
        "settings": {
            "survey": options.survey,
            "mode": None if options.survey else options.way,
            "pps": None if options.survey else options.pps,
            "duration_s": options.duration_s,
            "warmup_s": options.warmup_s,
            "ramp_s": options.ramp_s,
            "sessions": options.sessions,
            "sizes": [[part.size_bytes, part.spread_bytes, part.share] for part in options.parts],
            "inject": options.inject,
            "upstream": None if options.survey else options.upstream,
        },
        "machine": machine,
        "gates": [
            {"row": row.label, "gate": str(said.gate), "value": said.value, "failed": said.failed}
            for row, said in judgements(rows, options)
        ],
        "rows": [row_json(row) for row in rows],
    }


def csv_text(rows: Sequence[Row]) -> str:
    """The table for spreadsheets: one line a row, every figure in base units, empty when not measured."""
    out = io.StringIO()
    names = list(figures(rows[0]))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*CSV_EXTRA, *names, "pps_95", "cpu_ns_95"])
    for row in rows:
        known = row_json(row)
        values = [known["figures"][name] for name in names]
        writer.writerow(
            ["" if value is None else value for value in (*(known[name] for name in CSV_EXTRA), *values)]
            + ["" if known[name] is None else known[name] for name in ("pps_95", "cpu_ns_95")]
        )
    return out.getvalue()


def markdown(rows: Sequence[Row], options: Options, machine: dict[str, Any], reasons: Sequence[str]) -> str:
    """The table, what it means, and the machine, as Markdown."""
    lines = [f"## {heading(options, machine)}", ""]
    grid = (HEAD, ("---", "---", *["---:"] * (len(HEAD) - LEFT_COLUMNS)), *map(cells, rows))
    lines += ["| " + " | ".join(line) + " |" for line in grid]
    lines += ["", *(f"* {line.strip()}" for line in (*remarks(rows), *reasons)), ""]
    lines += ["```", *legend(rows, options), *card_lines(options, machine), "```", ""]
    return "\n".join(lines)


def junit_text(rows: Sequence[Row], options: Options, machine: dict[str, Any], *, seconds: float) -> str:
    """A case for the run being a measurement at all, and one a gate and row."""
    measured = [row for row in rows if row.own_pps is not None]
    cases = [Case(f"{row.label}: the run is valid", error="\n".join(invalid(row))) for row in measured]
    cases += [
        Case(f"{row.label}: {said.gate}", failure=str(said) if said.failed else "", output=str(said))
        for row, said in judgements(rows, options)
    ]
    cases[0] = Case(cases[0].name, error=cases[0].error, seconds=seconds)
    facts = {name: str(machine[name]) for name in ("version", "commit", "cpu", "kernel")}
    return junit("pyfastpath bench", cases, properties=facts)


def _rate(options: Options) -> str:
    unit = " sessions" if options.way == "setup" else ""
    return f"{options.pps:,}{unit} a second"


def _size(size_bytes: int, spread_bytes: int, share: float) -> str:
    spread = f" ± {spread_bytes}" if spread_bytes else ""
    return f"{size_bytes}{spread} bytes" + (f" ({share:.0%})" if share < 1 else "")


def _thousands(rate_pps: int) -> str:
    """`5,000`, `45.6`, `0.01`: never in powers of ten."""
    if rate_pps < 1000:
        return f"{rate_pps / 1000:g}"
    return f"{rate_pps / 1000:,.1f}".removesuffix(".0")


def _share(half: float, value: float) -> str:
    return f"{half / value:.0%}" if value and math.isfinite(half) else DASH


def _loss(value: float | None) -> str:
    if value is None:
        return DASH
    return "0" if value == 0 else f"{value:.2%}" if value >= 0.0001 else f"{value:.0e}"


def _micro(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
