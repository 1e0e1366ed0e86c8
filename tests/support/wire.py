"""A cable between two network namespaces: the relay at one end, what it talks to at the other.

with cable() as wire, entered(wire.near):
    with entered(wire.far):
        backend = PlainBackend(FAR)              # a socket stays where it was made
    wire.set_up(False)
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.support.namespace import ip, namespace

NEAR, FAR = "10.78.0.1", "10.78.0.2"
DEVICE = "cable"


@dataclass(frozen=True)
class Cable:
    """Two namespaces by their names, with addresses NEAR and FAR."""

    near: str
    far: str

    def set_up(self, is_up: bool) -> None:
        """Pull the near end out, or plug it in again."""
        ip("-n", self.near, "link", "set", DEVICE, "up" if is_up else "down")

    def set_mtu(self, mtu_bytes: int) -> None:
        """Of both ends."""
        for end in (self.near, self.far):
            ip("-n", end, "link", "set", DEVICE, "mtu", str(mtu_bytes))

    def set_address(self, is_there: bool) -> None:
        """Take NEAR from its interface, or give it again."""
        ip("-n", self.near, "address", "add" if is_there else "delete", f"{NEAR}/24", "dev", DEVICE)


@contextmanager
def cable() -> Iterator[Cable]:
    """Both namespaces, removed at the end. Needs root and iproute2."""
    with ExitStack() as stack:
        names = (f"fastpath-{end}-{os.getpid()}" for end in ("near", "far"))
        wire = Cable(*(stack.enter_context(namespace(name)) for name in names))
        peer = ("peer", "name", DEVICE, "netns", wire.far)
        ip("-n", wire.near, "link", "add", DEVICE, "type", "veth", *peer)
        for end, address in ((wire.near, NEAR), (wire.far, FAR)):
            ip("-n", end, "address", "add", f"{address}/24", "dev", DEVICE)
            ip("-n", end, "link", "set", DEVICE, "up")
        yield wire
