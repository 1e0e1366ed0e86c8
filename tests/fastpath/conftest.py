"""Where the data plane is tested: alone. Every datagram counts, and SO_REUSEPORT sockets on a port that the
kernel chose for both would share them."""

from tests.support.loopback import alone

__all__ = ["alone"]
