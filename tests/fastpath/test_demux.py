"""All 256 first bytes, and the empty datagram, as the twin sees them."""

from fastpath._testing import leaves
from pyfastpath.wire.demux import demux


def test_every_first_byte() -> None:
    datagrams = [b"", *(bytes([first]) for first in range(256)), *(bytes([first, 0]) for first in range(256))]
    assert [leaves.demux(each) for each in datagrams] == [demux(each) for each in datagrams]
