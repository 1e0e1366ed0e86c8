"""Which tests of whole roads this build can run, and where: alone, for they count every datagram."""

import os
from collections.abc import Iterator

import pytest

from tests.support.loopback import own_loopback

# A relay that can be broken on purpose exists only in builds with C asserts. Elsewhere the file is not even
# collected: a skip would count as a failure in CI (`make debug` runs it).
collect_ignore = (
    [] if os.environ.get("FASTPATH_PROFILE") in {"debug", "asan"} else ["test_replay_sabotage.py"]
)


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """Nobody else's datagrams come here."""
    with own_loopback():
        yield
