"""The life of a flow as its counters tell it; flows whose clients moved to another shard."""

from typing import Any

import numpy as np
import pytest
from fastpath._testing.forward import Bench
from fastpath.backends import PLAIN, TRUNK

from pyfastpath.relay.layout import FLOW, PROVISIONAL, SHARD_HEADER
from pyfastpath.wire import stun
from tests.support.regions import SEED, address16, client

ADDRESS = {index: (address16(192, 0, 2, index), 7000, 4) for index in range(4)}
MODES = {0: TRUNK, 1: TRUNK, 2: PLAIN, 3: PLAIN}
WHO = client(1)
EVENTS = ["confirmed", "expired", "replaced", "closed", "taught", "copied"]
EVENTS += ["provisional_created", "provisional_evicted", "provisional_expired"]


class World(Bench):
    """Two trunk and two plain backends; `calls` sessions of each, by the ufrag "<backend>/<number>"."""

    def __init__(self, shards: int = 1, **sizes: Any) -> None:
        super().__init__(shards, seed=SEED, **({"ports": 16} | sizes))
        for index, mode in MODES.items():
            self.shared.backends.publish(index, *ADDRESS[index], mode, index)
            for number in range(20):
                self.shared.routes.install(b"call%d/%d" % (index, number), index, 1 << 30, session=number)
        self.now_ms = 1_000_000
        self.numbers = 0

    def ask(self, who: Any, backend: int, number: int = 0, shard: int = 0) -> tuple[bytes, dict]:
        self.numbers += 1
        transaction = self.numbers.to_bytes(12, "big")
        request = stun.build_binding_request(transaction, b"call%d/%d:peer" % (backend, number))
        return transaction, self.from_client(shard, who, request, self.now_ms)

    def answer(self, who: Any, backend: int, transaction: bytes, port: int | None, shard: int = 0) -> dict:
        datagram = stun.build_message(stun.BINDING_SUCCESS, transaction)
        return self.down(who, backend, datagram, port, shard)

    def down(self, who: Any, backend: int, datagram: bytes, port: int | None, shard: int = 0) -> dict:
        if port is None:
            return self.from_trunk(shard, backend, who, datagram, self.now_ms)
        return self.from_plain(shard, port, ADDRESS[backend], datagram, self.now_ms)

    def connect(self, who: Any, backend: int, number: int = 0, shard: int = 0) -> int | None:
        """A check and its answer; the upstream port."""
        transaction, verdict = self.ask(who, backend, number, shard)
        assert self.answer(who, backend, transaction, verdict["port"], shard)["action"] == "forward"
        return verdict["port"]

    def media(self, who: Any, shard: int = 0) -> dict:
        return self.from_client(shard, who, b"\x80media", self.now_ms)

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.expire(self.now_ms)

    def events(self, shard: int = 0) -> dict[str, int]:
        """What has happened to flows, by counter, without those that are zero."""
        counts = {name: self.counter(shard, name) for name in EVENTS}
        return {name: count for name, count in counts.items() if count}

    def rows(self, dtype: Any, table: str, shard: int = 0) -> Any:
        memory = self.shards[shard].memory
        header = np.frombuffer(memory, SHARD_HEADER, 1)[0]
        return np.frombuffer(memory, dtype, int(header[f"{table}_capacity"]), int(header[f"{table}_offset"]))


@pytest.mark.parametrize("backend", [0, 2], ids=["trunk", "plain"])
def test_a_flow_is_opened_confirmed_and_expires(backend: int) -> None:
    world = World()
    transaction, verdict = world.ask(WHO, backend)
    assert world.events() == {"provisional_created": 1}
    world.answer(WHO, backend, transaction, verdict["port"])
    assert world.events() == {"provisional_created": 1, "confirmed": 1}
    world.wait(60_000)
    assert world.events() == {"provisional_created": 1, "confirmed": 1, "expired": 1}
    assert world.media(WHO)["reason"] == "unknown_flow"


def test_an_unanswered_flow_expires_provisionally() -> None:
    world = World()
    world.ask(WHO, 0)
    world.wait(5_000)
    assert world.events() == {"provisional_created": 1, "provisional_expired": 1}


def test_an_ice_restart_replaces_and_flow_closed_closes() -> None:
    world = World()
    world.connect(WHO, 0, number=7)
    world.connect(WHO, 1, number=7)  # the same call at another backend
    assert world.events() == {"provisional_created": 2, "confirmed": 2, "replaced": 1}
    world.flow_closed(0, 0, WHO, world.now_ms)
    assert world.media(WHO)["backend"] == 1, "the former backend has no say any more"
    world.flow_closed(0, 1, WHO, world.now_ms)
    assert world.events() == {"provisional_created": 2, "confirmed": 2, "replaced": 1, "closed": 1}


def test_a_taught_flow_is_counted_and_its_clients_first_datagram_keeps_it() -> None:
    world = World()
    assert world.from_trunk(0, 0, WHO, b"\x80", world.now_ms, may_teach=True)["action"] == "forward"
    assert world.events() == {"taught": 1}
    assert world.media(WHO)["backend"] == 0
    world.wait(59_999)
    assert world.events() == {"taught": 1}
    world.wait(1)
    assert world.events() == {"taught": 1, "expired": 1}


def test_a_flood_of_valid_ufrags_costs_provisional_flows_never_confirmed_ones() -> None:
    """A ring of 16: the 17th newcomer takes the place at the hand; its upstream port rests."""
    world = World(provisional_max=16, ports=64)
    world.connect(client(99), 2)
    flood = [(client(number), 2 + number % 2, number % 20) for number in range(40)]
    for who, backend, number in flood:
        assert world.ask(who, backend, number)[1]["action"] == "forward"
    assert world.events() == {"provisional_created": 41, "confirmed": 1, "provisional_evicted": 24}
    waiting = world.rows(PROVISIONAL, "provisional")
    left = waiting["client"]["address"][waiting["state"] > 0][:, 3]
    assert sorted(left.tolist()) == list(range(24, 40))
    assert world.media(client(99))["action"] == "forward"
    world.wait(5_000)
    assert world.events()["provisional_expired"] == 16
    assert world.media(client(99))["action"] == "forward"


def test_a_ninth_ufrag_of_one_address_costs_its_oldest_and_nobody_elses() -> None:
    """The owner of many valid sessions spoofs one address, that of a live call: the call goes on."""
    world = World(ports=64)
    world.connect(WHO, 2)
    waiting, _ = world.ask(client(2), 0)
    for number in range(1, 20):
        assert world.ask(WHO, number % 4, number)[1]["action"] == "forward"
        held = world.rows(PROVISIONAL, "provisional")
        assert (held["state"] > 0).sum() == min(number, 8) + 1
    assert world.events() == {"provisional_created": 21, "confirmed": 1, "provisional_evicted": 11}
    assert world.media(WHO)["backend"] == 2
    assert world.answer(client(2), 0, waiting, None)["confirmed"], "who waits beside them is not touched"


def test_what_a_client_may_get_does_not_wrap_around() -> None:
    """Bytes are counted in 32 bits. A spoofer who had sent 1.5 GB from a victim's address could wrap the
    count of what went down, and from then on nothing bounded it."""
    world = World()
    error = stun.build_message(stun.BINDING_ERROR, bytes(12))
    world.ask(WHO, 0)
    (flow,) = world.rows(PROVISIONAL, "provisional")[:1]
    flow["bytes_up"], flow["bytes_down"] = 1_600_000_000, (1 << 32) - len(error) - 1
    world.ask(WHO, 0)
    assert world.down(WHO, 0, error, None)["action"] == "forward"
    for _ in range(3):
        assert world.down(WHO, 0, error, None)["reason"] == "amplification"


# ---- another shard ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [0, 2], ids=["trunk", "plain"])
def test_clients_that_come_to_another_shard_go_on_for_hours(backend: int) -> None:
    """A plain flow keeps its upstream port, so the shard that owns it keeps the original as long as the copy
    is fed; both end when the client falls silent."""
    world = World(2)
    port = world.connect(WHO, backend)
    for minute in range(30):
        world.wait(30_000)
        verdict = world.media(WHO, shard=1)
        assert (verdict["action"], verdict["port"]) == ("forward", port), f"after {minute / 2} minutes"
        down = world.down(WHO, backend, b"\x80", port, shard=0)
        assert (down["action"], down["client"]) == ("forward", WHO)
    assert world.events(1) == {"copied": 1}
    world.wait(60_000)
    world.wait(60_000)
    assert all(not (world.rows(FLOW, "flows", shard)["state"] > 1).any() for shard in range(2))
    assert world.media(WHO, shard=1)["reason"] == "unknown_flow"
    assert world.down(WHO, backend, b"\x80", port, shard=0)["reason"] == "unknown_flow"


def test_of_several_shards_flows_the_newest_is_copied() -> None:
    """Shard 0 has the flow of before the ICE restart, which came to shard 1."""
    world = World(3)
    world.connect(WHO, 0, number=7, shard=0)
    world.connect(WHO, 1, number=7, shard=1)
    assert world.events(1)["replaced"] == 1
    assert world.media(WHO, shard=2)["backend"] == 1
