"""`make run`: the relay in front of an unmodified aiortc server, and one scripted call through it.

Starts both, makes the call, prints the relay's own numbers and a verdict, then serves the page until Ctrl-C.
ONCE=1 ends with the verdict as exit code. RELAY_PORT, PAGE_PORT and HEALTH_PORT choose other ports.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

from examples.aiortc_echo.addresses import offer_loopback_if_alone, own_networks
from examples.aiortc_echo.call import CallError, make_call, with_page
from examples.aiortc_echo.relay_numbers import PUBLISH_S, read_relay_numbers
from examples.aiortc_echo.verdict import find_faults, report

HOST = "127.0.0.1"
CALL_S = 6
START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 5
LOG_LINES = 15

# `allow` and `allow_clients` name this machine alone: aiortc and the browser use its own addresses, and the
# relay sends to private or loopback ones only where it is told to. `address` is for routes without a target;
# here every route has one, because aiortc opens a port per call.
CONFIG = """\
listen = ["{host}:{relay_port}"]
allow_clients = {networks}
plain_ports = 256
admin_socket = "{directory}/admin.sock"
health_listen = "{host}:{health_port}"

[[backends]]
id = "aiortc"
address = "{host}:9"
allow = {networks}
"""


class DemoError(Exception):
    """Why the demo cannot go on, and what to do."""


@dataclass(frozen=True)
class Ports:
    """Where everything listens on 127.0.0.1."""

    relay: int
    page: int
    health: int

    @classmethod
    def from_environment(cls) -> "Ports":
        """The usual ports unless RELAY_PORT, PAGE_PORT or HEALTH_PORT say otherwise."""
        return cls(
            *(_port(name, usual) for name, usual in (("RELAY", 3478), ("PAGE", 8080), ("HEALTH", 9478)))
        )

    def check(self) -> None:
        """Raise DemoError for the first port that somebody else has."""
        for name, port, kind, protocol in (
            ("RELAY_PORT", self.relay, socket.SOCK_DGRAM, "UDP"),
            ("PAGE_PORT", self.page, socket.SOCK_STREAM, "TCP"),
            ("HEALTH_PORT", self.health, socket.SOCK_STREAM, "TCP"),
        ):
            with socket.socket(socket.AF_INET, kind) as end:
                if kind == socket.SOCK_STREAM:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    end.bind((HOST, port))
                except OSError as error:
                    raise DemoError(
                        f"{protocol} port {port} of {HOST}: {error.strerror}. Stop what uses it, "
                        f"or choose another port: make run {name}={port + 1}"
                    ) from None


def _port(name: str, usual: int) -> int:
    text = os.environ.get(f"{name}_PORT", str(usual))
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise DemoError(f"{name}_PORT={text} is no port: choose a number from 1 to 65535")
    return int(text)


@contextmanager
def child(name: str, log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that writes to `log`; ended with SIGINT, at the latest killed. Ctrl-C reaches it through us."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(f"{name} did not stop within {STOP_TIMEOUT_S} s and was killed", file=sys.stderr)
            process.kill()
            process.wait()


def wait_for(name: str, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `url` answers 200. Raises DemoError with the end of its log when `name` ends or stays silent."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    fate = "did not become ready" if process.poll() is None else f"ended with code {process.returncode}"
    raise DemoError("\n  ".join([f"{name} {fate}. The end of its log:", *lines]))


async def call_and_judge(ports: Ports) -> bool:
    """Make the call, print what it and the relay saw; returns the verdict."""
    print(f"calling for {CALL_S} s …", flush=True)
    call = await make_call(with_page(f"http://{HOST}:{ports.page}"), CALL_S)
    await asyncio.sleep(PUBLISH_S)
    relay = await read_relay_numbers(f"http://{HOST}:{ports.health}")
    print(report(call, relay))
    faults = list(find_faults(call, relay, f"{HOST}:{ports.relay}"))
    print("\n".join(f"  FAULT      {fault}" for fault in faults) if faults else "  verdict    OK", flush=True)
    return not faults


def run(ports: Ports, *, once: bool) -> bool:
    """Everything from start to end; returns the verdict."""
    ports.check()
    offer_loopback_if_alone()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastpath-")))
        networks = own_networks()
        config = directory / "relay.toml"
        config.write_text(
            CONFIG.format(
                host=HOST,
                relay_port=ports.relay,
                health_port=ports.health,
                directory=directory,
                networks=str(networks).replace("'", '"'),
            )
        )
        log = directory / "relay.log"
        relay = stack.enter_context(child("the relay", log, "pyfastpath", "relay", "--config", str(config)))
        wait_for("the relay", f"http://{HOST}:{ports.health}/readyz", relay, log)
        print(
            f"relay on UDP {HOST}:{ports.relay}, for this machine alone ({', '.join(networks)})", flush=True
        )

        log = directory / "aiortc.log"
        command = (
            "examples.aiortc_echo.server",
            "--relay-admin",
            f"{directory}/admin.sock",
            "--port",
            str(ports.page),
        )
        server = stack.enter_context(child("the aiortc server", log, *command))
        wait_for("the aiortc server", f"http://{HOST}:{ports.page}/", server, log)

        verdict = asyncio.run(call_and_judge(ports))
        if not once:
            serve(ports, directory, {"the relay": relay, "the aiortc server": server})
    return verdict


def serve(ports: Ports, directory: Path, children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Until Ctrl-C or the end of a child."""
    print(
        f"\nCall it yourself: http://{HOST}:{ports.page}\n"
        f"Metrics: http://{HOST}:{ports.health}/metrics   "
        f"Admin: curl --unix-socket {directory}/admin.sock http://relay/v1/flows   Logs: {directory}\n"
        "Ctrl-C stops everything.",
        flush=True,
    )
    while True:
        for name, process in children.items():
            if process.poll() is not None:
                raise DemoError(f"{name} ended with code {process.returncode}; its log was in {directory}")
        time.sleep(0.5)


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Exit code 0: the call was right; 1: it was not, or the demo could not run."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return 0 if run(Ports.from_environment(), once=os.environ.get("ONCE") == "1") else 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 0
    except (DemoError, CallError) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
