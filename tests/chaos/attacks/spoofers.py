"""Somebody else's address on hostile datagrams: to make the relay shout at a victim, or to take its call."""

from __future__ import annotations

import itertools
import secrets
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from pyfastpath.wire import stun
from tests.chaos.aging import Tables
from tests.chaos.attacks.attackers import paced, sources, victim_of
from tests.chaos.attacks.siege import Bystanders, Still, besiege, gone, hostile, slow_pps
from tests.chaos.behind import Behind
from tests.chaos.outcome import Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.sessions import installed
from tests.support.rig import until

REQUESTS: Final = 20_000
ANSWERS: Final = 5  # of the loud backend to each
VICTIMS: Final = 20
VICTIM: Final = "127.91.0.1"
LOUD, HONEST, THIEF = 7, 8, 9  # numbers of backends
AMPLIFICATION: Final = 3
STATE_MIB: Final = 64.0  # transaction memory (16 MiB a shard) and ring, touched for the first time
SILENT_MS: Final = 7_000  # from then on a call may be replaced
TALK: Final = 3
ARRIVES_S: Final = 20.0
MEDIA: Final = b"\x80" + bytes(171)


# ---- reflection ---------------------------------------------------------------------------------------


class Reflection:
    """Requests in the names of victims, to a backend that answers with twenty times as much: mostly STUN, and
    media too. What the victims get is counted where they stand."""

    def __init__(self, rig: ChaosRig, backend: str, count: int) -> None:
        self.expected = Counter[str]()
        pairs = {host: victim_of(rig.relay.listen, host) for host in sources("127.90.0.1", VICTIMS)}
        self.victims = {host: victim for host, (victim, _) in pairs.items()}
        self._spoofers = {host: spoofer for host, (_, spoofer) in pairs.items()}
        ufrags = installed(rig.relay, [backend] * VICTIMS * 4)
        turns = itertools.cycle(zip(itertools.cycle(self.victims), ufrags, strict=False))
        self._requests = iter([(host, asking(ufrag)) for host, ufrag in itertools.islice(turns, count)])
        self.sent_bytes = Counter[str]()
        self.got_bytes = Counter[str]()
        self.got = 0

    def fire(self, count: int, rate_pps: int) -> None:
        """The next `count` requests."""
        for host, request in paced(itertools.islice(self._requests, count), rate_pps, self.hear):
            self._spoofers[host].send(host, request)
            self.sent_bytes[host] += len(request)
            self.expected[""] += 1

    def hear(self) -> None:
        """Count what the victims got."""
        for host, sock in self.victims.items():
            with suppress(BlockingIOError):
                while True:
                    self.got_bytes[host] += len(sock.recv(65_536, socket.MSG_DONTWAIT))
                    self.got += 1

    def worst(self) -> float:
        """The most that any victim got for a byte in its name."""
        return max(self.got_bytes[host] / self.sent_bytes[host] for host in self.victims)

    def close(self) -> None:
        for each in (*self.victims.values(), *self._spoofers.values()):
            each.close()


def asking(ufrag: str) -> bytes:
    """A request under it, by somebody who has not its password."""
    return stun.build_binding_request(secrets.token_bytes(12), f"{ufrag}:x".encode(), key=b"none")


def loud(request: bytes) -> Iterator[bytes]:
    """What the worst backend says to a request: never the answer that confirms."""
    transaction = request[8:20]
    yield stun.build_message(stun.BINDING_ERROR, transaction, [(stun.Attribute.SOFTWARE, bytes(1000))])
    stale = [(stun.Attribute.SOFTWARE, bytes(200))]
    yield stun.build_message(stun.BINDING_SUCCESS, secrets.token_bytes(12), stale)
    yield stun.build_message(stun.BINDING_INDICATION, transaction)
    yield MEDIA
    yield b"\x16\xfe\xfd" + bytes(200)


def reflection(rig: ChaosRig, peace: Bystanders) -> Outcome:
    """Two of five answers are no STUN, and are dropped for that; of the others, what is not counted at a
    victim was dropped because it would have been too much."""
    count, still = hostile(rig.scale, REQUESTS), Still()
    with Behind(rig, "loud", LOUD, loud, yields=rig.scale.is_full) as backend:
        attack = Reflection(rig, backend.name, count)

        def settled() -> bool:
            attack.hear()
            heard, said = backend.heard, backend.said
            attack.expected["provisional"] = 2 * heard
            attack.expected["amplification"] = 3 * heard - attack.got
            named = attack.expected["provisional"] + attack.expected["amplification"]
            dropped = sum(rig.relay_drops().values())
            if gone(rig) > 0:
                return still.so_far(heard, said, attack.got, dropped)
            all_heard = heard == attack.expected[""] and said == ANSWERS * heard
            return all_heard and dropped == named

        outcome = besiege(
            rig,
            peace,
            attack,
            "reflection through a loud backend",
            count=count,
            pace=slow_pps(rig.scale) // (1 + ANSWERS),
            brings=ANSWERS,
            memory_mib=STATE_MIB,
            settled=settled,
            note=lambda: f"the worst victim got {attack.worst():.2f} bytes for each sent in its name",
        )
        worst, got = attack.worst(), attack.got
        attack.close()
    return outcome.promising(got > 0, "a victim is reached, or nothing is shown").promising(
        worst <= AMPLIFICATION, f"no victim gets more than {AMPLIFICATION} times what was sent in its name"
    )


# ---- theft --------------------------------------------------------------------------------------------


def honest(datagram: bytes) -> Iterator[bytes]:
    """A backend that answers checks and returns media."""
    if datagram[0] == 0:
        yield stun.build_message(stun.BINDING_SUCCESS, datagram[8:20])
    else:
        yield datagram


def thief(datagram: bytes) -> Iterator[bytes]:
    """The attacker's own backend: confirms, and then talks."""
    if datagram[0] == 0:
        yield stun.build_message(stun.BINDING_SUCCESS, datagram[8:20])
    yield from [MEDIA] * TALK


class Victim:
    """A call of somebody whose address is known, and everything that arrives there."""

    def __init__(self, rig: ChaosRig, ufrag: str) -> None:
        self._target, self._ufrag = rig.relay.listen, ufrag
        self.socket, self.thief = victim_of(self._target, VICTIM)
        self.socket.settimeout(ARRIVES_S)
        self.media = 0

    def check(self) -> None:
        """A Binding Request that is answered."""
        transaction = secrets.token_bytes(12)
        request = stun.build_binding_request(transaction, f"{self._ufrag}:victim".encode())
        self.socket.sendto(request, self._target)
        self._await(stun.build_message(stun.BINDING_SUCCESS, transaction))

    def talk(self, datagrams: int) -> None:
        """Media that comes back, each from its own backend."""
        for _ in range(datagrams):
            sent = MEDIA[:-12] + secrets.token_bytes(12)
            self.socket.sendto(sent, self._target)
            self._await(sent)
            self.media += 1

    def _await(self, wanted: bytes) -> None:
        while (got := self.socket.recv(2048)) != wanted:
            assert got != MEDIA, "the thief is heard"


def theft(rig: ChaosRig) -> Outcome:
    """The owner of a valid session asks in the name of a live call's address, again and again; his backend
    confirms and talks at once. The call's checks come as rarely as every four seconds."""
    rounds = 20 if rig.scale.is_full else 4
    tables = Tables(rig.keeper_pid)
    with Behind(rig, "honest", HONEST, honest) as own, Behind(rig, "thief", THIEF, thief) as evil:
        victim = Victim(rig, *installed(rig.relay, [own.name]))
        (ufrag,) = installed(rig.relay, [evil.name])
        spoofer = victim.thief
        victim.check()
        rig.load_start()
        for asked in range(1, rounds + 1):
            request = stun.build_binding_request(secrets.token_bytes(12), f"{ufrag}:thief".encode())
            spoofer.send(VICTIM, request)
            until(lambda asked=asked: evil.said == asked * (1 + TALK), "the thief's backend talks", 20)
            victim.talk(10)
            tables.age_checks(4_000, VICTIM)
            victim.check()
        until(lambda: rig.relay_drops().get("provisional", 0) >= rounds * TALK, "all its talk is dropped", 20)
        drops, heard = rig.relay_drops(), evil.heard
        replaced = rig.relay.total("flow_changes", state="replaced")
        tables.age_checks(SILENT_MS, VICTIM)  # now the call is over, as far as anybody can tell
        spoofer.send(VICTIM, stun.build_binding_request(secrets.token_bytes(12), f"{ufrag}:thief".encode()))
        until(lambda: rig.relay.total("flow_changes", state="replaced") > replaced, "an heir at last", 20)
        rig.load_stop()
        spoofer.close()
        victim.socket.close()
    note = f"{victim.media:,} datagrams of the victim's call came back; it gave way once it was silent"
    outcome = rig.outcome("owner of a valid session spoofs the address of a live call", note=note)
    return (
        outcome.promising(heard == rounds, "the thief hears nothing but his own requests")
        .promising(drops == {"provisional": rounds * TALK}, f"what he says is dropped by name: {drops}")
        .promising(replaced == 0, "the live call is not replaced")
        .promising_calls_whole()
    )
