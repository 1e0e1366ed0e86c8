"""`make bench-setup`: how long a browser waits, from its POST to the first RTP packet, beside aiortc.

One headless Chromium, a page of each server's own origin, calls in turn: agent `tone`, which speaks as soon
as it may. No page waits for its own candidates: both servers find the client by its checks.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from bench.calls.capacity import DISTRIBUTIONS, RESULTS, ROOT
from bench.calls.servers import Server, aiortc, fastpath
from bench.calls.tables import setup_report
from pyfastpath.tools.machine import card, commit, versions
from tests.support.browser import browser_page, write_tone
from tests.support.require import BROWSERS

CALLS, WARM_CALLS = 20, 3
SCRIPT = (Path(__file__).parent / "first_packet.js").read_text()
PAUSE_S = 0.3  # for both sides to end the call before
HOW = {
    "fastpath": {"path": "/v1/realtime/calls", "kind": "sdp"},
    "aiortc": {"path": "/offer", "kind": "json"},
}


def one_call(page: Page, server: Server, how: dict[str, str]) -> dict[str, Any]:
    """From the POST to the first packet, then hang up."""
    steps_ms = page.evaluate(SCRIPT, how)
    live = [session for session in server.sessions() if session["state"] == "live"]
    page.evaluate("window.call.close()")
    time.sleep(PAUSE_S)
    return {"steps_ms": steps_ms, "server_ms": live[-1]["steps_ms"] if live else {}}


def measure(chromium: str, calls: int) -> dict[str, list[dict[str, Any]]]:
    """A B A B, the first WARM_CALLS of each forgotten."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in HOW}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            "fastpath": stack.enter_context(fastpath(directory, "tone")),
            "aiortc": stack.enter_context(aiortc(directory, "tone")),
        }
        first = stack.enter_context(browser_page(chromium, write_tone(directory / "tone.wav", 300)))
        pages = {"fastpath": first, "aiortc": first.context.browser.new_page()}
        for name, page in pages.items():
            page.goto(servers[name].page)
        for number in range(WARM_CALLS + calls):
            for name, page in pages.items():
                page.bring_to_front()
                result = one_call(page, servers[name], HOW[name])
                if number >= WARM_CALLS:
                    found[name].append(result)
    return found


def main() -> None:
    """Calls, then JSON and table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.calls.first_packet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=CALLS, help="of each server")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON and the table")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise SystemExit("bench-setup needs a browser: apt-get install chromium")
    machine, version, began = card() | versions(*DISTRIBUTIONS), commit(), datetime.now(UTC)
    result = {
        "commit": version,
        "date": began.isoformat(timespec="seconds"),
        "machine": machine,
        "calls": measure(chromium, arguments.calls),
    }
    text = setup_report(result)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"setup-{began:%Y-%m-%d}-{version}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    sys.stdout.write(text)
    sys.stderr.write(
        f"bench-setup: written: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}\n"
    )


if __name__ == "__main__":
    main()
