"""A real relay under real load, for scenarios that do something to it.

    with ChaosRig(directory, SHORT, mode="echo") as rig:
        rig.load_start()
        rig.mark()                                    # a fault's moment
        os.kill(rig.engine_pid(), signal.SIGKILL)
        rig.arrives_again()
        rig.load_stop()
        rig.outcome("engine killed").assert_nothing_lost()

The relay is `pyfastpath relay` with its processes. Generator and sinks are threads of this process that run
without the GIL: nothing done to the relay reaches them. Clients stand at addresses of their own in 127.1/16,
one for each session. Two backends, so that a datagram at the wrong one is seen.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from pyfastpath.tools.bench.cpu import divide, pinned
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.options import Part
from pyfastpath.tools.bench.relays import allow_files
from pyfastpath.tools.bench.streams import Crowd, Stream
from pyfastpath.tools.bench.threads import (
    NAP_US,
    in_threads,
    serving,
    sinks_serve,
    stop_generator,
)
from pyfastpath.tools.edge import toml_of
from pyfastpath.tools.ports import free_port
from tests.chaos import processes
from tests.chaos.books import Mode, Opening, Totals, behind, totals_of
from tests.chaos.outcome import Outcome
from tests.chaos.scale import Scale
from tests.chaos.sessions import installed, minted
from tests.chaos.timeline import Look, Watcher, recovery_ms
from tests.support.relay import PUBLISH_S, Relay, running_relay
from tests.support.rig import until

Upstream = Literal["plain", "trunk"]
Key = tuple[int, bytes]  # id, and what is secret

NAMES: Final = ("sink-0", "sink-1")  # backends, and the numbers that tokens name them by
NUMBERS: Final = (1, 2)
SIZE_BYTES: Final = 172  # 20 ms of Opus voice in SRTP
CLIENTS: Final = Crowd("127.1.0.1", 1)
OPEN_TIMEOUT_S: Final = 20.0
SERVE_S: Final = 3600.0
SETTLE_S: Final = 0.1
STILL_S: Final = 2.0  # nothing arrived for so long: what is missing is lost
BUFFER_BYTES: Final = 16 << 20
SPARE: Final = 1024
BUSY_MAX: Final = 0.75  # of the relay's CPU, by the load alone
PPS_LEAST: Final = 10_000
LOOK_S: Final = 0.5


def key_tables(name: str, *keys: Key | None) -> list[dict[str, object]]:
    """Keys as relay.toml has them. name: of the key's number."""
    return [{name: key[0], "key": key[1].hex()} for key in keys if key]


class ChaosRig:
    """Relay, confirmed flows, and a load that can be started, watched and stopped.

    upstream       how the relay speaks to its backends
    mode           up: probes end at the sink; echo: the sink returns them and they end where they began
    token_key      (kid, key): the flows under load are opened by tokens; default: by installed routes
    trunk_key      (id, key) of the trunk's tag
    start          starts the relay: running_relay, or something like it with an environment of its own
    relay_config   further keys of relay.toml; they beat what is chosen here
    """

    def __init__(
        self,
        directory: Path,
        scale: Scale,
        *,
        upstream: Upstream = "plain",
        mode: Mode = "up",
        start: Callable[..., AbstractContextManager[Relay]] = running_relay,
        token_key: Key | None = None,
        trunk_key: Key | None = None,
        **relay_config: Any,
    ) -> None:
        self.directory, self.scale, self.upstream, self.mode = directory, scale, upstream, mode
        self._start, self._config = start, relay_config
        self._token_key, self._trunk_key = token_key, trunk_key
        self._undo = ExitStack()
        self._before: Opening
        self._span_s = (0.0, 0.0)  # begin and end of the load
        self._disturbed = ""
        self._marks_ns: list[int] = []
        self._memory_bytes = 0
        self._sending: ExitStack | None = None
        self.totals = Totals()
        self.relay: Relay
        self.load: Load
        self.ufrags: list[str] = []

    # ---- start and end -------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            division = divide(frozenset(os.sched_getaffinity(0)))
            key = dict(zip(("key_id", "key"), self._trunk_key, strict=True)) if self._trunk_key else {}
            parts = [Part(SIZE_BYTES, share=1 / len(NAMES))] * len(NAMES)
            self.load = Load(parts, self.scale.flows, self.upstream, ("127.0.0.1", 0), **key)
            undo.callback(self.load.close)
            apart = self.scale.pinned and division.relay is not None
            with pinned(division.relay) if apart else ExitStack():  # type: ignore[arg-type]
                self.relay = undo.enter_context(self._start(self.directory, **self._relay_config()))
            if apart:
                undo.enter_context(pinned(*division.load))
            self.ufrags = self._sessions()
            self.load.aim([self.relay.listen] * len(NAMES), self.ufrags, CLIENTS, {"inject": "mmsg"})
            confirmed = self.load.open(OPEN_TIMEOUT_S)
            assert confirmed == self.scale.flows, f"{confirmed} of {self.scale.flows} flows are confirmed"
            undo.enter_context(
                sinks_serve(self.load.streams, SERVE_S, echo=self.mode == "echo", nap=self.scale.is_full)
            )
            self._before = Opening.now(self._sums(), self.relay)
            self._watcher = Watcher(self._look)
            undo.callback(self._watcher.close)
            undo.callback(self._end_load)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _relay_config(self) -> dict[str, Any]:
        flows, is_trunk = self.scale.flows, self.upstream == "trunk"
        mode: dict[str, Any] = {"mode": "trunk", "assume_up": True} if is_trunk else {}
        if not is_trunk:
            allow_files(flows + 2 * SPARE)
        chosen: dict[str, Any] = {
            "backends": [
                {"id": name, "address": f"{host}:{port}", "transceiver": number, **mode}
                for name, number, (host, port) in zip(NAMES, NUMBERS, self.load.backends, strict=True)
            ],
            "token_keys": key_tables("kid", self._token_key),
            "flows_max": max(4096, flows * 2),
            "routes_max": flows + 64 * SPARE,
            "plain_ports": 0 if is_trunk else flows + SPARE,
            "receive_buffer_bytes": BUFFER_BYTES,
            "drain_deadline_s": 60,
        }
        if is_trunk:
            shards = self._config.get("shards", 2)
            chosen |= {
                "trunk_port": free_port(socket.SOCK_DGRAM, shards),
                "trunk_keys": key_tables("id", self._trunk_key),
                "trunk_key_id": self._trunk_key[0] if self._trunk_key else 0,
            }
        return chosen | self._config

    def _sessions(self) -> list[str]:
        """A stream's flows belong to its backend."""
        owners = [number for number, stream in enumerate(self.load.streams) for _ in range(stream.sessions)]
        if self._token_key:
            return minted(*self._token_key, [NUMBERS[owner] for owner in owners])
        return installed(self.relay, [NAMES[owner] for owner in owners])

    # ---- the relay -----------------------------------------------------------------------------

    @property
    def keeper_pid(self) -> int:
        """The process that was started."""
        return self.relay.process.pid

    def engine_pid(self, *, not_pid: int = 0) -> int:
        """The process that forwards, as it says itself; waits until it does and is another than not_pid."""
        found = 0

        def answers() -> bool:
            nonlocal found
            try:
                found = int(self.ask("GET", "/v1/status")["pid"])
            except (OSError, ValueError):
                return False
            return found != not_pid

        until(answers, "the engine answers", seconds=30)
        return found

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One admin request that has to be accepted; its JSON."""
        status, said = self.relay.request(method, path, b"" if body is None else json.dumps(body).encode())
        assert status < 300, f"{method} {path}: {status} {said.decode()}"
        return json.loads(said) if said else None

    def reload(self, **changes: Any) -> None:
        """Change keys of relay.toml and have them read (SIGHUP); returns when the relay follows them."""
        file = self.directory / "relay.toml"
        file.write_text(toml_of(tomllib.loads(file.read_text()) | changes))
        done = self._reloads()
        self.relay.process.send_signal(signal.SIGHUP)
        until(lambda: self._reloads() > done, "the reload", seconds=20)

    def _reloads(self) -> int:
        return self.relay.log.read_text().count("reloaded; changed: ")

    def memory_mib(self) -> float:
        """Of the relay's processes now; `outcome` reports the most seen by this since load_start."""
        now = processes.memory_bytes(processes.tree(self.keeper_pid))
        self._memory_bytes = max(self._memory_bytes, now)
        return now / (1 << 20)

    def kernel_drops(self) -> int:
        """What the kernel dropped at the relay's sockets since load_start."""
        return self._before.kernel_drops(self.relay)

    def relay_drops(self) -> dict[str, int]:
        """What the relay dropped since load_start, by reason; empty while it does not answer."""
        return self._before.drops(self.relay)

    # ---- the load ------------------------------------------------------------------------------

    def load_start(self, busy_max: float = BUSY_MAX) -> None:
        """Send on a schedule, whatever becomes of the relay, until load_stop. Books begin at zero.

        busy_max: of its CPU the engine may take so much. What a fault costs can be told only where there was
        headroom before, and a virtual CPU is not the same at all hours: at full size four fifths of the rate
        are tried, and four fifths of that. The load's words tell the rate.
        """
        self._begin_load()
        while (
            self.scale.is_full
            and self.scale.pps > PPS_LEAST
            and processes.busy(self.engine_pid(), LOOK_S) > busy_max
        ):
            self.load_stop()
            self.scale = replace(self.scale, pps=max(PPS_LEAST, self.scale.pps * 4 // 5))
            self._begin_load()

    def _begin_load(self) -> None:
        self._before = Opening.now(self._sums(), self.relay)
        self._marks_ns, self.totals, self._memory_bytes = [], Totals(), 0
        self.memory_mib()
        nap_us = NAP_US if self.scale.is_full else 0
        speed = {"duration_ms": int(SERVE_S * 1000), "drain_ms": 0, "nap_us": nap_us}

        def send(stream: Stream) -> None:
            rate = self.load.share(stream, self.scale.pps)
            stream.generator.run(echo=self.mode == "echo", rate_pps=rate, **speed)

        self._span_s = (time.monotonic(), 0.0)
        self._sending = ExitStack()
        self._sending.enter_context(serving(self.load.streams, send, stop_generator))
        until(lambda: self.live().arrived > 0, "the first datagram arrives", seconds=30)

    def load_stop(self) -> Totals:
        """Stop sending, wait for everything that still moves; what happened since load_start."""
        self.memory_mib()
        self._span_s = (self._span_s[0], time.monotonic())
        self._end_load()
        arrived, moved_s = -1, time.monotonic()
        while (now := self.live()).lost > 0 and time.monotonic() - moved_s < STILL_S:
            if now.arrived != arrived:
                arrived, moved_s = now.arrived, time.monotonic()
            self._take_echoes()
        self._take_echoes()  # a duplicate may follow the last one
        time.sleep(PUBLISH_S)
        self._disturbed = self._before.disturbance()
        self.totals = self.live()
        return self.totals

    def load_for(self, seconds: float) -> None:
        """Let the load go on; looks at the memory meanwhile."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.memory_mib()
            time.sleep(min(0.1, max(0.0, end_s - time.monotonic())))

    def live(self) -> Totals:
        """A look at the running load: sums since load_start."""
        return self._sums().since(self._before.totals)

    def hurt_flows(self) -> dict[int, int]:
        """flow -> datagrams missing, for the flows that miss any; over the whole life of the rig."""
        found, first = {}, 0
        for stream in self.load.streams:
            end = stream.end(self.mode)
            for flow in range(stream.sessions):
                missing = stream.generator.sent(flow) - end.flow(flow)["received"]
                if missing:
                    found[first + flow] = missing
            first += stream.sessions
        return found

    # ---- faults --------------------------------------------------------------------------------

    def mark(self) -> None:
        """A fault happens now: recovery is measured from here."""
        self._marks_ns.append(time.monotonic_ns())

    def arrives_again(self, seconds: float = 30) -> None:
        """Wait until a twentieth of a second's worth has arrived from now on."""
        goal = self.live().arrived + max(64, self.scale.pps // 20)
        until(lambda: self.live().arrived >= goal, "datagrams arrive again", seconds)

    def looks(self) -> list[Look]:
        """(time, sent, arrived) each millisecond of the last three minutes."""
        return list(self._watcher.looks)

    def recoveries_ms(self) -> list[float]:
        """For each mark, the longest silence before the next one."""
        looks, ends = self.looks(), [*self._marks_ns[1:], None]
        found = (recovery_ms(looks, at, end) for at, end in zip(self._marks_ns, ends, strict=False))
        return [one for one in found if one is not None]

    # ---- the result ----------------------------------------------------------------------------

    @property
    def load_words(self) -> str:
        """As in a table."""
        return f"{self.scale.pps:,}/s over {self.scale.flows:,} flows, {self.upstream}, {self.mode}"

    def outcome(self, fault: str, *, note: str = "", repeats: int | None = None) -> Outcome:
        """The figures since load_start, after load_stop. repeats: by default as many as there were marks."""
        assert self._sending is None, "load_stop first: what still flies is neither lost nor arrived"
        dropped = self.relay_drops()
        said = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        notes = (note, f"relay dropped {said}" if said else "", "" if self.scale.is_full else self._behind())
        recoveries = self.recoveries_ms()
        return Outcome(
            fault=fault,
            load=self.load_words,
            repeats=max(1, len(self._marks_ns)) if repeats is None else repeats,
            sent=self.totals.sent,
            arrived=self.totals.arrived,
            lost=self.totals.lost,
            duplicated=self.totals.duplicates,
            misrouted=self.totals.misrouted,
            kernel_dropped=self.kernel_drops(),
            recovery_ms=max(recoveries) if recoveries else None,
            memory_mib=self._memory_bytes / (1 << 20),
            note="; ".join(filter(None, notes)),
            invalid=self._why_invalid(),
        )

    def _behind(self) -> str:
        return behind(self.totals.sent, self.scale.pps, self._span_s[1] - self._span_s[0])

    def _why_invalid(self) -> str:
        """A rate that was not held may not go on record; a short version claims no rate."""
        if overrun := self._before.overrun():
            return overrun
        return (self._behind() or self._disturbed) if self.scale.is_full else ""

    # ---- inside --------------------------------------------------------------------------------

    def _end_load(self) -> None:
        if self._sending is not None:
            self._sending.close()
            self._sending = None

    def _take_echoes(self) -> None:
        if self.mode != "echo":
            time.sleep(SETTLE_S)
            return
        wait_ms = int(SETTLE_S * 1000)
        in_threads(
            self.load.streams, lambda stream: stream.generator.receive(duration_ms=wait_ms), stop_generator
        )

    def _look(self) -> tuple[int, int]:
        sent = sum(stream.generator.counters()["sent"] for stream in self.load.streams)
        return sent, sum(stream.end(self.mode).counters()["received"] for stream in self.load.streams)

    def _sums(self) -> Totals:
        return totals_of(self.load, self.mode)
