"""Two runs of the micro benchmarks side by side. Pure: values in, a Markdown table out."""

from __future__ import annotations

from collections.abc import Mapping

SLOWER, FASTER = 1.15, 0.87  # beyond these a change is marked; within, it is noise on a shared machine


def compare(now_ns: Mapping[str, float], before_ns: Mapping[str, float]) -> str:
    """One line a benchmark: now, before, the ratio, and what stands out."""
    lines = ["| operation | ns now | ns before | now / before | |", "| --- | --- | --- | --- | --- |"]
    for name, ns in now_ns.items():
        was = before_ns.get(name)
        cells = (f"{was:.1f}", f"{ns / was:.2f}", remark(ns / was)) if was else ("", "", "new")
        lines.append("| " + " | ".join((name, f"{ns:.1f}", *cells)) + " |")
    lines += [f"| {name} | | {was:.1f} | | gone |" for name, was in before_ns.items() if name not in now_ns]
    return "\n".join(lines) + "\n"


def remark(ratio: float) -> str:
    """What a ratio now/before means."""
    return "slower" if ratio > SLOWER else "faster" if ratio < FASTER else ""
