"""Where faults happen: alone, for the scenarios count every datagram."""

from tests.support.loopback import alone

__all__ = ["alone"]
