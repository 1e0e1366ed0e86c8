"""Relays as child processes: started in their place, known to serve before anybody sends, always ended."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contestants.contract import Address
from bench.place import Place

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / "peers"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
CONNECTED_PORTS = 28_000  # of net.ipv4.ip_local_port_range
DESCRIPTORS_SPARE = 512
LOG_TAIL_BYTES = 2000
DIE_WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]


def program(name: str) -> str:
    """The path of a program, also of one that Debian keeps off the path of ordinary users; "": not here."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or ""


def sockets_max() -> int:
    """How many sockets a relay may have here towards one backend address: ports the kernel gives to connected
    sockets, or descriptors of a process."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return min(CONNECTED_PORTS, max(descriptors - DESCRIPTORS_SPARE, 0))


@contextmanager
def child(place: Place, command: Sequence[str], log: Path, **environment: str) -> Iterator[int]:
    """A process in `place`, output in `log`; yields its id. It dies with us, whatever becomes of us."""
    with place.inside(), log.open("ab") as out:
        process = subprocess.Popen(
            [*DIE_WITH_US, *command],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], bool], pid: int, log: Path) -> None:
    """Until `ready` says so. RuntimeError with the end of the log when the process ends or time is up."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if _ended(pid) or time.monotonic() > deadline_s:
            said = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
            raise RuntimeError(f"{log.stem} did not start; the end of what it said:\n{said}")
        time.sleep(POLL_S)


def bound(pid: int, address: Address) -> bool:
    """Is a UDP socket bound to this IPv4 address in the network of this process?"""
    number = int.from_bytes(bytes(map(int, address[0].split("."))), "little")
    wanted = f"{number:08X}:{address[1]:04X}"
    try:
        lines = Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(line.split()[1] == wanted for line in lines)


def fill(template: Path, out: Path, **values: object) -> Path:
    """A configuration file from its template: every @NAME@ replaced. KeyError for one without a value."""
    text = template.read_text()
    for name, value in values.items():
        marker = f"@{name}@"
        if marker not in text:
            raise KeyError(f"{template.name} has no {marker}")
        text = text.replace(marker, str(value))
    settings = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    left = [word for line in settings for word in line.split() if "@" in word]
    if left:
        raise KeyError(f"{template.name}: no value for {left[0]}")
    out.write_text(text)
    return out


def _ended(pid: int) -> bool:
    """A child that nobody has waited for yet is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
