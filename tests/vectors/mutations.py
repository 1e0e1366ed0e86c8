"""Everything that can happen to the bytes of a vector, near to it."""

from collections.abc import Iterator


def truncations(vector: bytes) -> Iterator[bytes]:
    """Every shorter beginning."""
    for length in range(len(vector)):
        yield vector[:length]


def single_byte_changes(vector: bytes) -> Iterator[bytes]:
    """Every byte replaced by each of the 255 others."""
    for at, byte in enumerate(vector):
        for other in range(256):
            if other != byte:
                yield vector[:at] + bytes([other]) + vector[at + 1 :]


def neighbourhood(vector: bytes) -> Iterator[bytes]:
    """The vector itself, what is cut off from it, what differs from it in one byte."""
    yield vector
    yield from truncations(vector)
    yield from single_byte_changes(vector)
