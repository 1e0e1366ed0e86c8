"""Where faults happen: alone, for the scenarios count every datagram."""

from collections.abc import Iterator

import pytest

from tests.support.loopback import own_loopback


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """Nobody else's datagrams come here."""
    with own_loopback():
        yield
