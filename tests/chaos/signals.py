"""What arrives at a relay beside media, from callers with confirmed flows and from strangers.

with Signals(rig, key) as signals:
    signals.start(2_000)                    # datagrams a second, of every kind as many
    ...
    signals.stop()
    assert signals.sent["stun"] == signals.heard["stun"]
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Final, Self

from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from pyfastpath.wire.demux import Kind, demux
from tests.chaos.attacks.attackers import Spoofer, paced, sources
from tests.chaos.behind import Behind
from tests.chaos.rig import ChaosRig
from tests.chaos.sessions import minted
from tests.support.rig import until

CALLERS: Final = 50
NUMBER: Final = 40  # of the callers' transceiver, and of the one that hears new sessions
NEWCOMERS: Final = 41
KINDS: Final = ("stun", "dtls", "rtcp", "unknown", "new", "forged")
DTLS: Final = b"\x17\xfe\xfd" + bytes(99)
RECEIVER_REPORT: Final = bytes([0x81, 201]) + bytes(62)
MEDIA: Final = bytes([0x80, 111]) + bytes(170)
SOMEBODY: Final = Endpoint.parse("127.0.0.1:9")  # a relay does not read XOR-MAPPED-ADDRESS
FRESH_TOKENS: Final = 50_000
PATIENCE_S: Final = 20.0


class Signals:
    """Callers of class voice; sent and heard count datagrams by kind."""

    def __init__(self, rig: ChaosRig, key: tuple[int, bytes]) -> None:
        self._rig, self._over, self._alone = rig, threading.Event(), threading.Event()
        self.sent, self.heard = Counter[str](), Counter[str]()
        self._callers = dict(
            zip(sources("127.90.0.1", CALLERS), minted(*key, [NUMBER] * CALLERS), strict=True)
        )
        self._fresh = iter(minted(*key, [NEWCOMERS] * FRESH_TOKENS))
        self._forged = iter(minted(key[0], secrets.token_bytes(16), [NEWCOMERS] * FRESH_TOKENS))
        self._transactions = (number.to_bytes(12, "big") for number in count(secrets.randbits(64)))
        self._spoofer = Spoofer(rig.relay.listen)
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
        self._rate_pps = 0
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._spoofer.close)
            undo.enter_context(Behind(self._rig, "signals", NUMBER, self._answers))
            undo.enter_context(Behind(self._rig, "newcomers", NEWCOMERS))
            undo.callback(self.stop)
            self._undo = undo.pop_all()
        for caller in self._callers:
            self._send("stun", caller, self._check(self._callers[caller]))
        until(self._all_answered, "every caller's check is answered", PATIENCE_S)
        self.sent, self.heard = Counter(), Counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def start(self, rate_pps: int) -> None:
        """From now on."""
        self._rate_pps = rate_pps
        self._thread.start()

    def only_callers(self) -> None:
        """From now on strangers are silent."""
        self._alone.set()
        later = self.sent["stun"] + 2
        until(lambda: self.sent["stun"] >= later, "callers go on", PATIENCE_S)

    def stop(self) -> None:
        """No more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _all_answered(self) -> bool:
        """An answer that came through the relay has confirmed its flow on the way."""
        self._spoofer.hear()
        return self._spoofer.heard >= CALLERS

    def _run(self) -> None:
        for kind, source, payload in paced(self._shots(), self._rate_pps, self._spoofer.hear):
            if self._over.is_set():
                return
            self._send(kind, source, payload)

    def _shots(self) -> Iterator[tuple[str, str, bytes]]:
        strangers = sources("127.94.0.1", 10_000)
        while True:
            for (caller, ufrag), stranger in zip(self._callers.items(), strangers, strict=False):
                yield "stun", caller, self._check(ufrag)
                yield "dtls", caller, DTLS
                yield "rtcp", caller, RECEIVER_REPORT
                if not self._alone.is_set():
                    yield "unknown", stranger, MEDIA
                    yield "new", stranger, self._check(next(self._fresh))
                    yield "forged", stranger, self._check(next(self._forged))
            strangers = strangers[CALLERS:] + strangers[:CALLERS]

    def _check(self, ufrag: str) -> bytes:
        return stun.build_binding_request(next(self._transactions), f"{ufrag}:client".encode())

    def _send(self, kind: str, source: str, payload: bytes) -> None:
        self._spoofer.send(source, payload)
        self.sent[kind] += 1

    def _answers(self, payload: bytes) -> Iterable[bytes]:
        """Of the callers' transceiver."""
        kind = demux(payload)
        self.heard["rtcp" if kind == Kind.RTP else kind.name.lower()] += 1
        if kind != Kind.STUN:
            return ()
        return (stun.build_binding_success(stun.parse_message(payload).transaction, SOMEBODY),)
