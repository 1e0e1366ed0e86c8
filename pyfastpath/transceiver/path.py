"""The way to a client: through which relay socket and ingress, to which transport address (wire/trunk.py).

A path is a plain tuple because every datagram is looked up by one, and the data plane makes them so:
(relay, ingress, client), where relay and client are (address16, port, family). A client that sends to the
transceiver directly has the path (None, 0, client).
"""

from pyfastpath.types import Endpoint

Address = tuple[bytes, int, int]
Path = tuple[Address | None, int, Address]
Identity = tuple[bytes, int, Address]


def client_of(path: Path) -> Endpoint:
    """The client's transport address, as the relay (or our own socket) saw it."""
    return Endpoint.from_address16(*path[2])


def identity_of(path: Path) -> Identity:
    """What of a path names the client: (relay address, empty without a relay; ingress; client).

    The relay's port is no part of it: another shard of the same relay may carry the client's next datagram,
    and the newest one is followed (wire/trunk.py).
    """
    relay, ingress, client = path
    return (relay[0] if relay else b"", ingress, client)
