"""Networks of a test's own: with a loopback alone, or with one more address; nothing beyond.

Firefox offers no candidate on 127.0.0.1, and none at all where there is no default route. Both ends of the
veth pair stay inside; datagrams to the own address never leave it.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ADDRESS = "10.77.0.1"
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Namespace:
    """A namespace by its name, with the address it has besides 127.0.0.1."""

    name: str
    address: str = ADDRESS

    def command(self, *command: str) -> list[str]:
        """The command that runs `command` inside."""
        return ["ip", "netns", "exec", self.name, *command]


@contextmanager
def network_namespace() -> Iterator[Namespace]:
    """A new namespace, removed at the end. Needs root and iproute2."""
    with namespace(f"fastpath-{os.getpid()}") as name:
        inside = ("-n", name)
        ip(*inside, "link", "add", "here", "type", "veth", "peer", "name", "there")
        ip(*inside, "address", "add", f"{ADDRESS}/24", "dev", "here")
        for end in ("here", "there"):
            ip(*inside, "link", "set", end, "up")
        ip(*inside, "route", "add", "default", "dev", "here")
        yield Namespace(name)


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace with a loopback, removed at the end. Needs root and iproute2."""
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "delete", name)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, and the processes it starts, are inside; sockets made here stay there."""
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{name}").open() as there:
        _set_namespace(there.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def _set_namespace(fd: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def ip(*arguments: str) -> None:
    """One call of iproute2, which must succeed."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
