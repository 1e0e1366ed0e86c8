"""Everything that a soak does to a relay: each thing once, then at random by a seed, over and over."""

from __future__ import annotations

import os
import random
import signal
import socket
import string
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from fastpath.load.generator import Generator

from pyfastpath.wire.token import CHARACTERS
from tests.chaos.rig import NAMES, ChaosRig, Key, key_tables
from tests.chaos.sessions import patiently
from tests.support.rig import until

SHARDS: Final = 4
FORGED: Final = 500  # tokens of one flood
FLOOD_PER_S: Final = 5_000
FLOOD_MS: Final = 300
JUNK: Final = 1_500
JUNK_BYTES_MAX: Final = 1_500
STRANGERS: Final = "127.200.0.1"  # where forged tokens come from: an address each
PAUSE_S: Final = (0.1, 1.0)
LETTERS: Final = string.ascii_letters + string.digits


class Mischief:
    """The things to do, and how often each was done; `first` is what was not done yet. keys: of tokens; the
    first is that of live calls."""

    def __init__(self, rig: ChaosRig, randomness: random.Random, keys: list[Key]) -> None:
        self.done: Counter[str] = Counter()
        self.silences_ms: list[float] = []  # after each kill and upgrade
        self._rig, self._random, self._keys = rig, randomness, keys
        self._harmless: dict[str, Callable[[], None]] = {
            "reload": self._reload,
            "token key learnt or withdrawn": self._change_keys,
            "workers changed": self._change_workers,
            "backend drained": self._drain_backend,
            "relay drained": self._drain,
            "flood of forged tokens": self._forge,
            "flood of junk": self._junk,
        }
        self._all = self._harmless | {"engine killed": self._kill, "engine upgraded": self._upgrade}
        # Taken from its end: once the restarts are over, memory can be followed.
        harmless = list(self._harmless)
        self.first = [*self._random.sample(harmless, len(harmless)), "engine killed", "engine upgraded"]
        self._said = 0  # length of the log when an engine went for the last time

    def one(self, *, restart: bool) -> None:
        """One thing, and a pause: one that was not done yet, or any. restart: an engine may go again."""
        again = list(self._all if restart else self._harmless)
        name = self.first.pop() if self.first else self._random.choice(again)
        self._all[name]()
        self.done[name] += 1
        self._rig.load_for(self._random.uniform(*PAUSE_S))

    def put_right(self) -> None:
        """As it was at the start."""
        self._ask("DELETE", "/v1/drain")
        for name in NAMES:
            self._ask("POST", f"/v1/backends/{name}/undrain")
        self._ask("PUT", "/v1/workers", {"count": 1})
        self._rig.reload(token_keys=key_tables("kid", *self._keys))

    def has_restarted(self) -> bool:
        """Since the last engine went, another has come to stand by: no process is about to grow any more."""
        return not self._said or " stands by\n" in self._rig.relay.log.read_text()[self._said :]

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        return patiently(lambda: self._rig.ask(method, path, body))

    def _kill(self) -> None:
        self._replaced(lambda engine: os.kill(engine, signal.SIGKILL))

    def _upgrade(self) -> None:
        """To the version that serves already."""
        self._replaced(lambda _: self._ask("POST", "/v1/upgrade"))
        until(lambda: self._ask("GET", "/v1/upgrade")["state"] == "done", "the upgrade", seconds=30)

    def _replaced(self, go: Callable[[int], object]) -> None:
        """Another engine serves afterwards."""
        engine = self._rig.engine_pid()
        self._rig.mark()
        self._said = len(self._rig.relay.log.read_text())
        go(engine)
        self._rig.engine_pid(not_pid=engine)
        self._rig.arrives_again()
        self.silences_ms.append(self._rig.recoveries_ms()[-1])

    def _reload(self) -> None:
        self._rig.reload(coalesce_us=self._random.choice((0, 100, 200, 400)))

    def _change_keys(self) -> None:
        self._rig.reload(
            token_keys=key_tables("kid", *self._keys[: self._random.randint(1, len(self._keys))])
        )

    def _change_workers(self) -> None:
        self._ask("PUT", "/v1/workers", {"count": self._random.randint(1, SHARDS)})

    def _drain_backend(self) -> None:
        name = self._random.choice(NAMES)
        self._ask("POST", f"/v1/backends/{name}/drain")
        self._rig.load_for(self._random.random())
        self._ask("POST", f"/v1/backends/{name}/undrain")

    def _drain(self) -> None:
        self._ask("POST", "/v1/drain", {"notice_s": self._random.choice((0, 0.5))})
        self._rig.load_for(self._random.random())
        self._ask("DELETE", "/v1/drain")

    def _forge(self) -> None:
        """Binding Requests under 22 letters and digits that no key made; nobody may be answered."""
        made = ("".join(self._random.choices(LETTERS, k=CHARACTERS)).encode() for _ in range(FORGED))
        flood = Generator(self._rig.relay.listen, list(made), first_source=STRANGERS)
        try:
            answered = flood.open_at(rate_pps=FLOOD_PER_S, duration_ms=FLOOD_MS, drain_ms=50)
        finally:
            flood.close()
        assert answered == 0, f"{answered} forged tokens were answered"

    def _junk(self) -> None:
        """Datagrams of any length and content, some of which begin like STUN, DTLS or media."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.201.0.1", 0))
            for _ in range(JUNK):
                stranger.sendto(
                    self._random.randbytes(self._random.randrange(JUNK_BYTES_MAX)), self._rig.relay.listen
                )
