"""`pyfastpath up`: relay, transceivers and gateway on one machine, and a first call to prove it.

Starts them as one tree of processes, calls itself with aiortc, prints a verdict, then serves until Ctrl-C. A
transceiver or gateway that dies is replaced; nothing survives this process, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

from aioice import ice

from pyfastpath.tools.children import Child, Children
from pyfastpath.tools.edge import LOOPBACK, Edge, Wishes, check_ports, usable
from pyfastpath.tools.ports import free_port
from pyfastpath.tools.relay_numbers import PUBLISH_S, read_relay_numbers
from pyfastpath.tools.selfcall import CallError, SelfCall
from pyfastpath.tools.verdict import find_faults, report

CALL_S: Final = 4.0
SELF_AGENT: Final = "echo"
PARROT: Final = "parrot"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PREFIX: Final = "PYFASTPATH_"


def say(line: str) -> None:
    """One line for whoever watches."""
    print(line, flush=True)


def run(wishes: Wishes, *, once: bool) -> int:
    """The whole command; its exit code: 0 as told, 1 the verdict of `once` was not OK.

    FastpathError when it cannot start or go on.
    """
    check_ports(wishes)
    return asyncio.run(_until_interrupted(wishes, once=once))


async def _until_interrupted(wishes: Wishes, *, once: bool) -> int:
    """Signals cancel between two steps, so that no child and no file is forgotten."""
    task = asyncio.ensure_future(_run(wishes, once=once))
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        task.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
        say("\nstopped")
        return 0


async def _run(wishes: Wishes, *, once: bool) -> int:
    directory = Path(tempfile.mkdtemp(prefix="fastpath-"))  # of mode 0700
    edge = Edge(wishes, directory, _own_addresses(), free_port(socket.SOCK_DGRAM))
    children = Children(_clean_environment(), say)
    good = False
    try:
        edge.write()
        for child in children_of(edge):
            await children.start(child)
        await children.wait_until_ready()
        say(f"relay on UDP {', '.join(edge.candidates)}, {wishes.transceivers} transceivers, gateway")
        good = await call_and_judge(edge)
        if not once:
            _invite(edge)
            await children.keep()
    except asyncio.CancelledError:
        good = True  # ended as told: nobody wants the logs
        raise
    finally:
        await children.close()
        if good:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"the logs stay in {directory}")
    return 0 if good else 1


def children_of(edge: Edge) -> list[Child]:
    """Relay, gateway and transceivers, in the order they are started."""

    def child(name: str, daemon: str, file: str, number: int) -> Child:
        return Child(
            name=name,
            command=("pyfastpath", daemon, "--config", str(edge.directory / f"{file}.toml")),
            log=edge.directory / f"{file}.log",
            ready=f"http://{edge.wishes.health(number)}/readyz",
        )

    return [
        child("the relay", "relay", "relay", 0),
        child("the gateway", "gateway", "gateway", 1),
        *(
            child(f"transceiver {name}", "transceiver", name, 2 + number)
            for number, name in enumerate(edge.transceiver_names())
        ),
    ]


async def call_and_judge(edge: Edge) -> bool:
    """Call the gateway, print what caller and relay saw; is it as it should be?"""
    say(f"calling myself for {CALL_S:.0f} s …")
    health = f"http://{edge.wishes.health(0)}"
    call = SelfCall(edge.gateway, SELF_AGENT, edge.via)
    try:
        before = await read_relay_numbers(health)
        await call.place()
        await call.talk(CALL_S)
        seen = await call.report()
        await asyncio.sleep(PUBLISH_S)
        relay = (await read_relay_numbers(health)).since(before)
        say(report(seen, relay, SELF_AGENT, edge.via))
        faults = list(find_faults(seen, relay, edge.candidates))
        await call.hang_up()
    except CallError as error:
        faults = [str(error)]
    finally:
        await call.close()
    say("\n".join(f"  FAULT      {fault}" for fault in faults) if faults else "  verdict    OK")
    return not faults


def _invite(edge: Edge) -> None:
    warning = "  (your browser will warn: the certificate is this machine's own)" if edge.wishes.tls else ""
    choice = "" if edge.wishes.agent == PARROT else "/#own"  # else the page would choose the parrot
    say(
        f"\nTalk to it:    {edge.page}{choice}{warning}\n"
        f"Metrics:       http://{edge.wishes.health(0)}/metrics, and the ports after it\n"
        f"Look inside:   {sys.executable} -m pyfastpath ctl --socket {edge.directory}/relay.sock flows\n"
        f"Logs:          {edge.directory}\n"
        "Ctrl-C stops everything."
    )


def _own_addresses() -> tuple[str, ...]:
    """This machine's IPv4 addresses; on a machine that has no other, aioice is made to offer 127.0.0.1."""
    own = usable(ice.get_host_addresses(use_ipv4=True, use_ipv6=False))
    if not own:
        ice.get_host_addresses = lambda use_ipv4, use_ipv6: [LOOPBACK]
    return own


def _clean_environment() -> dict[str, str]:
    """The children go by their files alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
