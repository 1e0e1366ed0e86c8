"""`make run-aiortc`: the relay in front of an unmodified aiortc server, and one scripted call through it.

Starts both, makes the call, prints the relay's own numbers and a verdict, then serves the page until Ctrl-C.
ONCE=1 ends with the verdict as exit code. RELAY_PORT, PAGE_PORT and HEALTH_PORT choose other ports.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from examples.aiortc_echo.addresses import offer_loopback_if_alone, own_networks
from examples.aiortc_echo.call import CallError, make_call, with_page
from examples.aiortc_echo.children import DemoError, child, wait_for
from examples.aiortc_echo.verdict import find_faults, report
from pyfastpath.tools.relay_numbers import PUBLISH_S, read_relay_numbers

HOST = "127.0.0.1"
PYTHON = os.path.relpath(sys.executable)
CALL_S = 6

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
                        f"or choose another port: make run-aiortc {name}={port + 1}"
                    ) from None


def _port(name: str, usual: int) -> int:
    text = os.environ.get(f"{name}_PORT", str(usual))
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise DemoError(f"{name}_PORT={text} is no port: choose a number from 1 to 65535")
    return int(text)


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


def write_configuration(directory: Path, ports: Ports, networks: list[str]) -> Path:
    """The relay's configuration for this demo."""
    path = directory / "relay.toml"
    path.write_text(
        CONFIG.format(
            host=HOST,
            relay_port=ports.relay,
            health_port=ports.health,
            directory=directory,
            networks=json.dumps(networks),
        )
    )
    return path


async def run(ports: Ports, *, once: bool) -> bool:
    """Everything from start to end; returns the verdict."""
    ports.check()
    offer_loopback_if_alone()
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastpath-")))
        networks = own_networks()
        config = write_configuration(directory, ports, networks)
        log = directory / "relay.log"
        command = ["pyfastpath", "relay", "--config", str(config)]
        relay = await stack.enter_async_context(child("the relay", log, *command))
        await wait_for("the relay", f"http://{HOST}:{ports.health}/readyz", relay, log)
        print(
            f"relay on UDP {HOST}:{ports.relay}, for this machine alone ({', '.join(networks)})", flush=True
        )

        log = directory / "aiortc.log"
        command = ["examples.aiortc_echo.server", "--relay-admin", f"{directory}/admin.sock"]
        command += ["--host", HOST, "--port", str(ports.page)]
        server = await stack.enter_async_context(child("the aiortc server", log, *command))
        await wait_for("the aiortc server", f"http://{HOST}:{ports.page}/", server, log)

        verdict = await call_and_judge(ports)
        if not once:
            await serve(ports, directory, {"the relay": relay, "the aiortc server": server})
    return verdict


async def serve(ports: Ports, directory: Path, children: dict[str, Process]) -> None:
    """Until cancelled, or the end of a child."""
    print(
        f"\nCall it yourself: http://{HOST}:{ports.page}\n"
        f"Metrics:          http://{HOST}:{ports.health}/metrics\n"
        f"Look inside:      {PYTHON} -m pyfastpath ctl --socket {directory}/admin.sock flows\n"
        f"Logs:             {directory}\n"
        "Ctrl-C stops everything.",
        flush=True,
    )
    ends = {asyncio.ensure_future(process.wait()): name for name, process in children.items()}
    ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    raise DemoError(" and ".join(f"{ends[end]} ended with code {end.result()}" for end in ended))


async def until_interrupted(ports: Ports, *, once: bool) -> bool:
    """`run`, cancelled by SIGINT, SIGTERM or SIGHUP: between two steps, so that no child is forgotten."""
    task = asyncio.ensure_future(run(ports, once=once))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def main() -> int:
    """Exit code 0: the call was right; 1: it was not, or the demo could not run."""
    try:
        once = os.environ.get("ONCE") == "1"
        return 0 if asyncio.run(until_interrupted(Ports.from_environment(), once=once)) else 1
    except asyncio.CancelledError:
        print("\nstopped")
        return 0
    except (DemoError, CallError) as error:
        print(f"make run-aiortc: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
