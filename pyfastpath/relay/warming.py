"""How an engine's process begins (python -m pyfastpath.relay.warming): it imports all, in nobody's way.

An engine that is to stand by starts beside one that serves, often on the same CPU, and imports for half a
second. A thread does that at a low priority; those of the engine have the usual one. A whole process could
not: without privileges nobody takes back what he gave away. On Linux each thread has its own, setpriority(2).
"""

import contextlib
import os
import select
import sys
import threading
from typing import Final

NICE: Final = 10  # beside somebody who needs all of the CPU a tenth of it: ready in seconds all the same


def warm_up(keeper: int) -> None:
    """Import the engine in a thread that gives way. What goes wrong there goes wrong again in the caller's
    import, which says so. keeper: descriptor of the socket to it; once it is gone, this process ends at once,
    for the sockets that it has inherited are the next relay's."""
    done = os.eventfd(0)
    threading.Thread(target=_import_engine, args=(done,), name="warming", daemon=True).start()
    waiting = select.poll()
    waiting.register(keeper, 0)  # POLLHUP is always told
    waiting.register(done, select.POLLIN)
    if done not in dict(waiting.poll()):
        os._exit(0)
    os.close(done)


def _import_engine(done: int) -> None:
    with contextlib.suppress(Exception):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        import pyfastpath.relay.engine  # noqa: F401
    os.eventfd_write(done, 1)


if __name__ == "__main__":
    warm_up(int(sys.argv[1]))
    from pyfastpath.relay.engine import main

    sys.exit(main())
