"""This machine's own IPv4 addresses: where aiortc offers its sockets, and what the relay must therefore
allow.

aioice, the ICE agent of aiortc, binds a socket to each address of the machine but 127.0.0.1. Datagrams
between a machine's own addresses never leave it, so the demo uses aiortc exactly as it is. Only where there
is no other address at all (a container without a network) would it offer nothing, and there alone its list
is filled with 127.0.0.1.
"""

from aioice import ice

LOOPBACK = "127.0.0.1"


def own_addresses() -> list[str]:
    """The IPv4 addresses aioice would bind to here."""
    return ice.get_host_addresses(use_ipv4=True, use_ipv6=False)


def offer_loopback_if_alone() -> bool:
    """Without any other address, let aioice offer 127.0.0.1; returns whether that was necessary."""
    if own_addresses():
        return False
    ice.get_host_addresses = lambda use_ipv4, use_ipv6: [LOOPBACK]
    return True


def own_networks() -> list[str]:
    """Loopback and every own address as CIDR: what `allow` and `allow_clients` have to cover in this demo."""
    return [
        "127.0.0.0/8",
        *(f"{address}/32" for address in own_addresses() if not address.startswith("127.")),
    ]
