"""System calls of real daemons that fail to order, and their wall clock: the other end of faults.c.

with Faults(tmp_path) as faults, running_relay(tmp_path) as relay:
    faults.fail("sendmmsg", errno.ENOBUFS, times=3, messages=5, port=trunk_port)
    ...                                      # one call sends 5 messages of more, the next three fail
    assert faults.failed("sendmmsg") == 3
    faults.step_clock(hours=-5)

Counted, not timed: the same traffic meets the same fault.
"""

import mmap
import os
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from tests.support.require import require

SOURCE: Final = Path(__file__).with_name("faults.c")
CALLS: Final = (
    "sendmmsg",
    "sendto",
    "sendmsg",
    "send",
    "recvmmsg",
    "recvfrom",
    "recvmsg",
    "recv",
    "epoll_pwait2",
    "connect",
)
WORD: Final = struct.Struct("=q")
RULE: Final = struct.Struct("=8q")  # struct rule of faults.c: skip, messages, times, error, port, bytes, ...
TIMES, FAILED, CUT = (field * WORD.size for field in (2, 6, 7))
FOREVER: Final = 1 << 62


class Faults:
    """Every process started inside `with` obeys, and so do those it starts."""

    def __init__(self, directory: Path) -> None:
        require("gcc")
        self._library, self._control = directory / "faults.so", directory / "faults"
        command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", str(SOURCE)]
        subprocess.run([*command, "-o", str(self._library), "-ldl"], check=True, timeout=60)
        self._control.write_bytes(bytes(WORD.size + len(CALLS) * RULE.size))
        with self._control.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._environment = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        # A sanitizer's runtime, if there is one, must stay the first.
        libraries = (os.environ.get("LD_PRELOAD", ""), str(self._library))
        self._environment.setenv("LD_PRELOAD", " ".join(filter(None, libraries)))
        self._environment.setenv("FASTPATH_FAULTS", str(self._control))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._environment.undo()

    def fail(
        self,
        call: str,
        error: int,
        *,
        times: int = 1,
        skip: int = 0,
        messages: int = 0,
        port: int = 0,
        size_bytes: int = 0,
    ) -> None:
        """After `skip` calls: one that carries only `messages` of more than those, then `times` that fail.

        port: only sockets bound to this local port. size_bytes: only sends of at least so much. A rule
        replaces the last one of its call.
        """
        at, failed, cut = self._at(call), self.failed(call), self.cut(call)
        self.stop(call)  # nothing fails while the rule is written
        RULE.pack_into(self._memory, at, skip, messages, 0, error, port, size_bytes, failed, cut)
        self._put(at + TIMES, times)

    def stop(self, call: str) -> None:
        """The call works again."""
        self._put(self._at(call) + TIMES, 0)

    def failed(self, call: str) -> int:
        """How many calls were failed so far."""
        return self._get(self._at(call) + FAILED)

    def cut(self, call: str) -> int:
        """How many calls carried fewer messages than they were asked to."""
        return self._get(self._at(call) + CUT)

    def step_clock(self, *, hours: float) -> None:
        """The wall clock of all these processes steps by so much. Monotonic time goes on as it was."""
        self._put(0, self._get(0) + int(hours * 3600 * 1e9))

    def _at(self, call: str) -> int:
        return WORD.size + CALLS.index(call) * RULE.size

    def _get(self, at: int) -> int:
        value: int = WORD.unpack_from(self._memory, at)[0]
        return value

    def _put(self, at: int, value: int) -> None:
        WORD.pack_into(self._memory, at, value)
