"""A network of a test's own: a namespace with one address that is not loopback, and nothing beyond it.

Firefox offers no candidate on 127.0.0.1, and none at all where there is no default route. Both ends of the
veth pair stay inside; datagrams to the own address never leave it.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ADDRESS = "10.77.0.1"


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
    namespace = Namespace(f"fastpath-{os.getpid()}")
    _ip("netns", "add", namespace.name)
    try:
        inside = ("-n", namespace.name)
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "add", "here", "type", "veth", "peer", "name", "there")
        _ip(*inside, "address", "add", f"{namespace.address}/24", "dev", "here")
        for end in ("here", "there"):
            _ip(*inside, "link", "set", end, "up")
        _ip(*inside, "route", "add", "default", "dev", "here")
        yield namespace
    finally:
        _ip("netns", "delete", namespace.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
