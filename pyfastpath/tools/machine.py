"""The machine card: what a reader must know about machine and build to make sense of a figure."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyfastpath import __version__

CPU = Path("/sys/devices/system/cpu")
NET = Path("/proc/sys/net/core")
TREE = Path(__file__).parents[2]  # where this program lies: its repository, or an installation


def card() -> dict[str, Any]:
    """CPU, kernel, versions, buffers, governor and load at this moment."""
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "hypervisor": "hypervisor" in _cpuinfo("flags").split(),
        "governor": _read(CPU / "cpu0/cpufreq/scaling_governor") or "not exposed",
        "mitigations": _mitigations(),
        "kernel": platform.release(),
        "buffers_bytes": {name: _read(NET / name) for name in ("rmem_default", "rmem_max", "wmem_default")},
        "python": platform.python_version(),
        **versions("cython", "uvloop"),
        "go": output("go", "version"),
        "compiler": (output("gcc", "--version").splitlines() or [""])[0],
        "load": os.getloadavg()[0],
    }


def versions(*distributions: str) -> dict[str, str]:
    """Of what else was measured with; empty for what is not installed."""
    return {name: _version(name) for name in distributions}


def commit() -> str:
    """Short hash of what was measured, `-dirty` when the tree differs from it; the version outside git."""
    here = ("git", "-C", str(TREE))
    own = output(*here, "ls-files", "--error-unmatch", str(Path(__file__)))
    head = output(*here, "rev-parse", "--short=10", "HEAD") if own else ""
    if not head:
        return __version__
    return head + ("-dirty" if output(*here, "status", "--porcelain", "--untracked-files=no") else "")


def cpu_model() -> str:
    """The processor as it names itself, with its numbers."""
    name = _cpuinfo("model name") or platform.machine()
    numbers = [_cpuinfo(key) for key in ("cpu family", "model", "stepping")]
    return (
        f"{name} (family {numbers[0]}, model {numbers[1]}, stepping {numbers[2]})" if all(numbers) else name
    )


def output(*command: str) -> str:
    """What a command prints, empty when it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _mitigations() -> dict[str, str]:
    """CPU weaknesses the kernel does something about: they make every system call dearer."""
    found = {path.name: _read(path) for path in sorted((CPU / "vulnerabilities").glob("*"))}
    return {name: state for name, state in found.items() if state and state != "Not affected"}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
