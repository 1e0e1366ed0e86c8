"""A result's table and plots, beside its JSON; and the newest ones in the README (`make bench-readme`).

The README holds them between `<!-- bench:begin -->` and `<!-- bench:end -->`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.figures import Result
from bench.plots import draw_all
from bench.report import headline, report

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
SHOWN = ("throughput", "latency", "coalescing", "flows")


def publish(path: Path, result: Result) -> str:
    """Writes NAME.md and NAME-*.svg for the result NAME.json; the text. No run is lost for want of plots."""
    base = path.with_suffix("")
    try:
        plots = [each.name for each in draw_all(result, base)]
    except Exception as error:
        hint = ": pip install 'pyfastpath[bench]'" if isinstance(error, ImportError) else ""
        sys.stderr.write(f"bench: no plots ({type(error).__name__}: {error}){hint}\n")
        plots = []
    text = report(result, plots)
    path.with_suffix(".md").write_text(text)
    return text


def newest(folder: Path) -> Path:
    """The last whole run that came to its end. FileNotFoundError when there is none."""
    found = [
        (result["date"], path)
        for path in folder.glob("bench-*.json")
        if not path.name.endswith(".partial.json") and (result := json.loads(path.read_text()))["finished"]
    ]
    if not found:
        raise FileNotFoundError(f"{folder} holds no finished run: make bench")
    return max(found)[1]


def section(result: Result, path: Path, relative_to: Path) -> str:
    """What the README says: the headline, the machine, and the plots."""
    base = path.relative_to(relative_to).with_suffix("")
    machine, topologies = result["machine"], ", ".join(result["topologies"])
    plots = [path.with_name(f"{path.stem}-{name}.svg") for name in SHOWN]
    links = "\n".join(
        f"![{each.stem.rpartition('-')[2]}]({base.parent / each.name})" for each in plots if each.exists()
    )
    return (
        "Forwarded datagrams per CPU second of the relay, ours over theirs; each range is over "
        f"{topologies}, as far as both relays gave a valid figure there.\n\n{headline(result)}\n"
        f"Measured {result['date'][:10]} at commit {result['commit']} on {machine['cpu']}, "
        f"{machine['cpus']} CPUs{' (virtual)' if machine['hypervisor'] else ''}, "
        f"Linux {machine['kernel']}, one worker each; [every figure]({base}.md).\n\n{links}\n"
    )


def placed(readme: str, text: str) -> str:
    """The README with `text` between its markers. ValueError when they are missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{text}{END}{after}"


def main() -> None:
    """The newest run into the README."""
    try:
        path = newest(RESULTS)
        text = section(json.loads(path.read_text()), path, ROOT)
        README.write_text(placed(README.read_text(), text))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"bench-readme: {error}") from None


if __name__ == "__main__":
    main()
