"""A cable between two network namespaces: the relay at one end, what it talks to at the other.

with cable() as wire, entered(wire.near):
    with entered(wire.far):
        backend = PlainBackend(FAR)              # a socket stays where it was made
    wire.set_up(False)
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEAR, FAR = "10.78.0.1", "10.78.0.2"
DEVICE = "cable"
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Cable:
    """Two namespaces by their names, with addresses NEAR and FAR."""

    near: str
    far: str

    def set_up(self, is_up: bool) -> None:
        """Pull the near end out, or plug it in again."""
        _ip("-n", self.near, "link", "set", DEVICE, "up" if is_up else "down")

    def set_mtu(self, mtu_bytes: int) -> None:
        """Of both ends."""
        for end in (self.near, self.far):
            _ip("-n", end, "link", "set", DEVICE, "mtu", str(mtu_bytes))

    def set_address(self, is_there: bool) -> None:
        """Take NEAR from its interface, or give it again."""
        _ip("-n", self.near, "address", "add" if is_there else "delete", f"{NEAR}/24", "dev", DEVICE)


@contextmanager
def cable() -> Iterator[Cable]:
    """Both namespaces, removed at the end. Needs root and iproute2."""
    wire = Cable(f"fastpath-near-{os.getpid()}", f"fastpath-far-{os.getpid()}")
    made = []
    try:
        for end in (wire.near, wire.far):
            _ip("netns", "add", end)
            made.append(end)
            _ip("-n", end, "link", "set", "lo", "up")
        peer = ("peer", "name", DEVICE, "netns", wire.far)
        _ip("-n", wire.near, "link", "add", DEVICE, "type", "veth", *peer)
        for end, address in ((wire.near, NEAR), (wire.far, FAR)):
            _ip("-n", end, "address", "add", f"{address}/24", "dev", DEVICE)
            _ip("-n", end, "link", "set", DEVICE, "up")
        yield wire
    finally:
        for end in made:
            _ip("netns", "delete", end)


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """This thread, and the processes it starts, are inside; sockets made here stay there."""
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{namespace}").open() as there:
        _set_namespace(there.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def _set_namespace(fd: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
