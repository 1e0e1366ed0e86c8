"""What the seccomp filter of the relay's unit costs a system call: python -m bench.filter_cost

Two processes in turn, one under the filter of deploy/systemd/pyfastpath-relay.service, one without; each
times a call that does nothing. The least of all rounds counts: what is above it is the machine's.
A relay makes two calls a batch, of up to 64 datagrams.
"""

import ctypes
import subprocess
import sys
import time
from pathlib import Path

UNIT = Path(__file__).parent.parent / "deploy" / "systemd" / "pyfastpath-relay.service"
ROUNDS = 15
CALLS = 4000
SAMPLES = 5
GETPPID = 110  # its number on x86-64: the C library's own may remember the answer


def call_ns() -> float:
    """Nanoseconds a call, Python's own part included: it is the same in both processes."""
    syscall = ctypes.CDLL(None).syscall
    least = float("inf")
    for _ in range(SAMPLES):
        began_ns = time.perf_counter_ns()
        for _ in range(CALLS):
            syscall(GETPPID)
        least = min(least, (time.perf_counter_ns() - began_ns) / CALLS)
    return least


def main() -> None:
    """Print both, and the difference."""
    own = [sys.executable, "-m", "bench.filter_cost", "--once"]
    ways = {"without": own, "with": [sys.executable, "-m", "tests.support.confined", str(UNIT), *own]}
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for way, command in ways.items():
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            least[way] = min(least[way], float(said))
    cost_ns = least["with"] - least["without"]
    print(f"{least['without']:.0f} ns a call without, {least['with']:.0f} ns with: {cost_ns:+.0f} ns")


if __name__ == "__main__":
    print(call_ns()) if "--once" in sys.argv else main()
