"""What a datagram is, by its first byte: the leaf and its twin say the same."""

from collections.abc import Iterator

from fastpath._testing import leaves
from pyfastpath.wire.demux import demux

BYTES_MAX = 64
SMOKE_RUNS = 3000
ON_DATA_PLANE = True
CRASHERS: dict[str, bytes] = {}


def seeds() -> Iterator[bytes]:
    yield from (bytes([first]) for first in (0, 3, 4, 19, 20, 63, 64, 127, 128, 191, 192, 255))


def one_input(data: bytes) -> None:
    assert leaves.demux(data) == demux(data)
