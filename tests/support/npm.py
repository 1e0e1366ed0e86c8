"""npm packages of a test, in the versions its package-lock.json pins, installed once beside it."""

import subprocess
from pathlib import Path

import pytest

from tests.support.require import require

INSTALL_TIMEOUT_S = 100
NETWORK_ERRORS = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "network")


def install(folder: Path) -> None:
    """Fill `folder`/node_modules unless it is what the lock says. Skips the test where npm cannot fetch."""
    npm = require("node", "npm")
    lock, done = folder / "package-lock.json", folder / "node_modules" / ".fastpath-lock.json"
    if done.exists() and done.read_bytes() == lock.read_bytes():
        return
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
    )
    if installed.returncode and any(word in installed.stderr for word in NETWORK_ERRORS):
        pytest.skip(f"npm cannot fetch {folder.name}: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    done.write_bytes(lock.read_bytes())
