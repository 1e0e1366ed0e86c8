"""Which tests of whole roads this build can run, and where: alone, for they count every datagram."""

import os

from tests.support.loopback import alone

__all__ = ["alone"]

# A relay that can be broken on purpose exists only in builds with C asserts. Elsewhere the file is not even
# collected: a skip would count as a failure in CI (`make debug` runs it).
collect_ignore = (
    [] if os.environ.get("FASTPATH_PROFILE") in {"debug", "asan"} else ["test_replay_sabotage.py"]
)
