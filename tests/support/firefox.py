"""One call in Debian's Firefox, headless, driven over WebDriver BiDi by tests/e2e/firefox/call.mjs."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import npm
from tests.support.recording import decode
from tests.support.require import require
from tests.support.speech import Pcm

FOLDER = Path(__file__).parent.parent / "e2e" / "firefox"
CALL_TIMEOUT_S = 90


@dataclass(frozen=True)
class FirefoxCall:
    """What came of it.

    failure: in the page's words; stats: getStats; shown: the page's numbers by id; levels: of its two meters,
    you and the agent, in percent.
    """

    states: list[str]
    failure: str | None
    heard: Pcm
    stats: list[dict[str, Any]]
    shown: dict[str, str]
    levels: list[int]

    def stat(self, kind: str) -> dict[str, Any]:
        """The first statistic of a type."""
        return next(stat for stat in self.stats if stat["type"] == kind)


def call_with_firefox(
    url: str,
    agent: str,
    *,
    seconds: float,
    microphone_hz: int,
    screenshot: Path,
    prefix: Sequence[str] = (),
) -> FirefoxCall:
    """Open the page at `url`, call `agent` for so long, hang up. The microphone is a tone.

    prefix: the command before the browser's, as of a network namespace.
    """
    npm.install(FOLDER)
    job = {
        "firefox": require("firefox-esr"),
        "url": url,
        "agent": agent,
        "seconds": seconds,
        "microphone_hz": microphone_hz,
        "screenshot": str(screenshot),
    }
    command = [*prefix, require("node"), str(FOLDER / "call.mjs"), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return FirefoxCall(
        states=said["states"],
        failure=said["failure"],
        heard=decode(said["recording"]) if "recording" in said else np.zeros(0, np.int16),
        stats=said.get("stats", []),
        shown=said.get("shown", {}),
        levels=said.get("levels", []),
    )
