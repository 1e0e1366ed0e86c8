"""How an engine that is to wait begins (python -m pyfastpath.relay.warming): it imports all in nobody's way.

It starts beside an engine that serves, often on the same CPU, and imports for half a second. A thread does
that at a lower priority; those of the engine have the usual one. A whole process could not: nobody without
privileges takes back what he gave away. On Linux each thread has a priority of its own, setpriority(2).
"""

import contextlib
import os
import select
import sys
import threading
from typing import Final

NICE: Final = 10  # lower: a tenth of a CPU beside one that needs all of it, and ready in seconds


def warm_up(keeper: int) -> None:
    """Import the engine in a thread that gives way; what goes wrong there is raised here. keeper: descriptor
    of the socket to it. Once it is gone this process ends at once: its sockets are the next relay's."""
    done, failed = os.eventfd(0), list[BaseException]()
    thread = threading.Thread(target=_import_engine, args=(done, failed), name="warming", daemon=True)
    thread.start()
    waiting = select.poll()
    waiting.register(keeper, 0)  # POLLHUP is always told
    waiting.register(done, select.POLLIN)
    if done not in dict(waiting.poll()):
        os._exit(0)
    thread.join()
    os.close(done)
    if failed:
        raise failed[0]


def _import_engine(done: int, failed: list[BaseException]) -> None:
    with contextlib.suppress(OSError):  # where that is forbidden: at the usual priority
        os.nice(NICE)
    try:
        import pyfastpath.relay.engine  # noqa: F401
    except BaseException as error:
        failed.append(error)
    finally:
        os.eventfd_write(done, 1)


if __name__ == "__main__":
    warm_up(int(sys.argv[1]))
    from pyfastpath.relay.engine import main

    sys.exit(main())
