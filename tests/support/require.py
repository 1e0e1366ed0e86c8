"""What a test needs from the machine. Missing: the test is skipped with the reason; in CI it fails.

require("chromium")            a browser, as a path
require("go", "janus")         commands
require("root", "namespaces")  rights
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

COMMANDS = {  # what it is called: Debian's package
    "go": "golang-go",
    "janus": "janus",
    "npm": "npm",
    "node": "nodejs",
    "ip": "iproute2",
    "nft": "nftables",
    "gcc": "gcc",
    "editcap": "wireshark-common",
    "capinfos": "wireshark-common",
    "tshark": "tshark",
    "espeak-ng": "espeak-ng",
    "spin": "spin",
    "firefox-esr": "firefox-esr",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _root() -> str | None:
    return "root" if os.geteuid() == 0 else None


@functools.cache
def can_make_namespaces() -> bool:
    """A network namespace can be made and its loopback raised."""
    command = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _namespaces() -> str | None:
    return "namespaces" if can_make_namespaces() else None


RIGHTS: dict[str, tuple[Callable[[], str | None], str]] = {
    "chromium": (_browser, "no browser: apt-get install chromium"),
    "root": (_root, "needs root"),
    "namespaces": (_namespaces, "no network namespaces: needs root (CAP_SYS_ADMIN) and iproute2"),
}


def require(*needs: str) -> str:
    """Skip the calling test unless everything named is there.

    Returns the path of the last need that is a command or a browser (its name otherwise).
    """
    found: str | None = None
    for need in needs:
        if need in RIGHTS:
            look, reason = RIGHTS[need]
            found = look()
        else:
            found = shutil.which(need)
            reason = f"no {need}: apt-get install {COMMANDS.get(need, need)}"
        if found is None:
            pytest.skip(reason)
    return found or ""
