"""A relay of one command's own: started for a load run or a replay, in a folder that is gone afterwards.

    with own_relay(backends=[{"id": "sink", "address": "127.0.0.1:5000"}]) as relay:
        relay.install_many({"ufrag": "sink"})
        ...                                     # datagrams to relay.listen
        print(relay.numbers().forwarded_up)

It is the real daemon, `python -m pyfastpath relay --config …`, and ends with the thread that started it in
whatever way that ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from pyfastpath.errors import FastpathError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.edge import toml_of
from pyfastpath.tools.live_relay import install_routes
from pyfastpath.tools.ports import LOOPBACK, free_port
from pyfastpath.tools.relay_numbers import RelayNumbers, read_relay_numbers
from pyfastpath.types import Endpoint

READY_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.03
LOG_LINES: Final = 10
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class OwnRelayError(FastpathError):
    """The relay did not start; with the end of its log."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class OwnRelay:
    """A relay that runs. listen: where clients send. health: the URL before /metrics. pid: its keeper's."""

    listen: tuple[str, int]
    admin: AdminClient
    health: str
    pid: int
    log: Path

    def install_many(self, routes: Mapping[str, str]) -> None:
        """Install session routes: ufrag -> backend id. RefusedError when the relay refuses one."""
        install_routes(self.admin, ({"ufrag": ufrag, "backend": name} for ufrag, name in routes.items()))

    def numbers(self) -> RelayNumbers:
        """What it counted so far (published once a batch: PUBLISH_S behind at most). Not inside a loop."""
        return asyncio.run(read_relay_numbers(self.health))


@contextmanager
def own_relay(
    *,
    backends: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any] | None = None,
    cpu: int | None = None,
    profile: str | None = None,
) -> Iterator[OwnRelay]:
    """Start a relay, wait until it serves, stop it at the end.

    backends   tables as in relay.toml: id, address, mode, …
    settings   further keys of relay.toml; they beat what is chosen here
    cpu        the CPU it may use, alone; None: any
    profile    another build of the data plane, `debug` or `asan`, which `make` left under build/

    A trunk backend is routed to once the relay has heard it, or at once with assume_up.
    """
    with tempfile.TemporaryDirectory(prefix="fastpath-relay-") as name:
        folder = Path(name)
        chosen = _settings(folder, backends, settings or {})
        file, log = folder / "relay.toml", folder / "relay.log"
        file.write_text(toml_of(chosen), encoding="utf-8")
        process = _start(file, log, cpu, environment_of(profile))
        try:
            health = f"http://{chosen['health_listen']}"
            _wait_until_it_serves(process, health, log)
            first = chosen["listen"][0]
            listen = Endpoint.parse(first if isinstance(first, str) else first["address"])
            admin = AdminClient(chosen["admin_socket"])
            yield OwnRelay((str(listen.address), listen.port), admin, health, process.pid, log)
        finally:
            _stop(process)


def _settings(
    folder: Path, backends: Sequence[Mapping[str, Any]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """One shard, one worker, loopback; a trunk when a backend wants one."""
    trunk = any(backend.get("mode") == "trunk" for backend in backends)
    return {
        "listen": [f"{LOOPBACK}:{free_port(socket.SOCK_DGRAM)}"],
        "backends": [dict(backend) for backend in backends],
        "shards": 1,
        "workers": 1,
        "pin": False,
        "allow_clients": ["127.0.0.0/8"],
        "admission_flows_per_s": 0,  # all clients of a load stand in a few networks
        "trunk_port": free_port(socket.SOCK_DGRAM) if trunk else 0,
        "admin_socket": str(folder / "admin.sock"),
        "health_listen": f"{LOOPBACK}:{free_port(socket.SOCK_STREAM)}",
    } | dict(given)


def environment_of(profile: str | None) -> dict[str, str]:
    """Of the child: settings of another relay in the caller's variables are none of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYFASTPATH_")}
    if profile is None:
        return inherited
    root = Path(__file__).parents[2]
    build = root / "build" / profile / "lib"
    if not build.is_dir():
        raise OwnRelayError(f"there is no build of the profile {profile!r}", f"Run: make {profile}")
    # PYTHONSAFEPATH: without it `python -m` puts the tree, and its release build, before PYTHONPATH.
    return inherited | {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{build}:{root}"}


def _start(file: Path, log: Path, cpu: int | None, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pyfastpath", "relay", "--config", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches it through its parent alone
            preexec_fn=lambda: _prepare(parent, cpu),  # noqa: PLW1509  it takes no lock of any thread
        )


def _wait_until_it_serves(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with suppress(OSError), urlopen(f"{health}/healthz", timeout=2):
            return
        time.sleep(POLL_S)
    code = process.poll()
    what = "did not serve in time" if code is None else f"ended with code {code}"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    raise OwnRelayError(
        f"the relay started for this run {what}. The end of its log:\n  " + "\n  ".join(lines)
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGINT ends a relay at once; one that does not obey is killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


_libc = ctypes.CDLL(None, use_errno=True)


def _prepare(parent: int, cpu: int | None) -> None:
    """In the child, before it becomes the relay: no orphan, not even of a parent that was killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
