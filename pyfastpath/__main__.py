"""`python -m pyfastpath` and the command `pyfastpath`."""

import os
import sys


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    # numpy starts a thread a CPU for linear algebra, of which nobody here has enough: a sixth of a relay's
    # start. Set before anything imports it, and inherited by every process that is started.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pyfastpath.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
