"""The workers of one engine: threads that serve the shards, each shard by exactly one of them.

Changing their number reassigns shards; no socket is opened or closed, so no flow moves in the kernel.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastpath.settings import Settings
from fastpath.shard import Shard
from fastpath.worker import Worker

from pyfastpath.errors import RouteError
from pyfastpath.relay.opening import ShardSockets

log = logging.getLogger("pyfastpath.engine")


@dataclass(slots=True)
class Member:
    """One worker: its thread, its CPU (None: not pinned) and the shards it serves."""

    worker: Worker
    thread: threading.Thread
    cpu: int | None
    shards: list[int]


class Crew:
    """Starts, counts and stops the workers. Called by the control thread only."""

    def __init__(
        self,
        settings: Settings,
        shards: list[Shard],
        sockets: tuple[ShardSockets, ...],
        *,
        pin: bool,
        failed: Callable[[], None],
    ) -> None:
        """`failed` is called in a worker's thread when that worker ends by an error."""
        self._settings = settings
        self._shards = shards
        self._sockets = sockets
        self._pin = pin
        self._failed = failed
        self.members: list[Member] = []

    def resize(self, count: int) -> None:
        """Serve all shards with `count` workers; what arrives in between waits in the kernel."""
        if not 1 <= count <= len(self._shards):
            raise RouteError(
                f"{count} workers cannot serve {len(self._shards)} shards.",
                f"Give 1 to {len(self._shards)}: each worker serves at least one shard.",
                code="bad_request",
            )
        self.stop()
        # Those there are now: a cpuset may have shrunk since the last time.
        cpus = sorted(os.sched_getaffinity(0)) if self._pin else []
        for number in range(count):
            indices = list(range(number, len(self._shards), count))
            cpu = cpus[number % len(cpus)] if cpus else None
            worker = Worker(
                self._settings,
                [self._shards[index] for index in indices],
                [self._handed(index) for index in indices],
                cpu,
            )
            thread = threading.Thread(target=self._run, args=(worker,), name=f"worker-{number}", daemon=True)
            self.members.append(Member(worker, thread, cpu, indices))
        for member in self.members:
            member.thread.start()

    def stop(self) -> None:
        """Let every worker finish its batch and end."""
        for member in self.members:
            member.worker.stop()
        for member in self.members:
            member.thread.join()
        self.members = []

    def is_whole(self) -> bool:
        """Does every worker run?"""
        return bool(self.members) and all(member.thread.is_alive() for member in self.members)

    def rows(self) -> list[dict[str, Any]]:
        """What /v1/workers shows."""
        return [
            {
                "worker": number,
                "cpu": member.cpu,
                "shards": member.shards,
                "alive": member.thread.is_alive(),
            }
            for number, member in enumerate(self.members)
        ]

    def _handed(self, index: int) -> dict[str, Any]:
        """The sockets of one shard, and its siblings' plain ports: a copied flow keeps its upstream port."""
        own = self._sockets[index]
        siblings = {
            port: fd
            for number, sockets in enumerate(self._sockets)
            if number != index
            for port, fd in sockets.plain.items()
        }
        return {"clients": list(own.clients), "trunk": own.trunk, "plain": own.plain, "siblings": siblings}

    def _run(self, worker: Worker) -> None:
        try:
            worker.run()
        except BaseException:
            log.exception("a worker ended by an error")
            self._failed()
