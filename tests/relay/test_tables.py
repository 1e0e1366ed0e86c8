"""The tables as arrays: copies of one flow are one, conservation holds, what is in use is known."""

import mmap
import socket

import numpy as np
import pytest
from fastpath.shard import Shard, Shared, format_shard, format_shared, shard_bytes, shared_bytes

from pyfastpath.relay import layout
from pyfastpath.relay.relay import Relay
from pyfastpath.relay.tables import Tables, conservation_error
from tests.relay.test_relay import address_of
from tests.support.plain_call import PlainCall
from tests.support.rig import until

SIZES = {"flows_max": 16, "provisional_max": 16, "transactions_max": 16, "targets_max": 4}


def two_shards(first_version: int, second_version: int, clock: int) -> Tables:
    """Tables over two shards that both hold the flow of one client, in these versions."""
    memory = mmap.mmap(-1, shared_bytes(2, 16, 4))
    format_shared(memory, seed=bytes(16), shards=2, routes_max=16, targets_max=4, trunk_epoch=1)
    np.frombuffer(memory, layout.SHARED_HEADER, 1)["flow_version"][0] = clock
    shared = Shared(memory)
    shards = []
    for index, version in enumerate((first_version, second_version)):
        region = mmap.mmap(-1, shard_bytes(**SIZES))
        format_shard(region, index=index, **SIZES)
        header = np.frombuffer(region, layout.SHARD_HEADER, 1)[0]
        rows = np.frombuffer(region, layout.FLOW, 2, int(header["flows_offset"]))
        rows["state"] = layout.FLOW_CONFIRMED
        rows["version"] = version
        rows["client"]["port"] = [7, 100 + index]  # one client of both shards, one of its own
        rows["datagrams_up"] = index
        shards.append(Shard(shared, region))
    return Tables(memory, shards)


@pytest.mark.parametrize(
    ("first", "second", "clock", "newer"),
    [(5, 9, 9, 1), (9, 5, 9, 0), (0xFFFFFFFE, 3, 3, 1), (3, 0xFFFFFFFE, 3, 0)],
)
def test_of_copies_in_two_shards_the_newest_counts(first: int, second: int, clock: int, newer: int) -> None:
    rows = two_shards(first, second, clock).flows()
    assert sorted(rows["client"]["port"].tolist()) == [7, 100, 101]
    assert rows["datagrams_up"][rows["client"]["port"] == 7].tolist() == [newer]


def test_every_shards_flows_are_there(relay: Relay, server: socket.socket) -> None:
    calls = []
    for number in range(8):  # as many as one shard has upstream ports: the kernel may give it all of them
        relay.routes.install(f"ufrag{number}", "a")
        calls.append(PlainCall(address_of(relay), server, f"ufrag{number}"))
        calls[-1].confirm()
        calls[-1].exchange()
    per_shard = relay.call(lambda control: control.tables.headers()["flows_count"].tolist())
    assert sum(per_shard) == len(relay.flows()) == 8
    for call in calls:
        call.close()


def test_conservation_over_forwarded_and_dropped(relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        call.exchange()
        call.client.sendto(b"\xff nonsense", call.relay)
        until(lambda: relay.counters()["dropped"].sum() == 1, "the drop is counted")
    counters = relay.counters()
    assert counters["received"].sum() == 5
    assert not conservation_error(counters).any()
    wrong = counters.copy()
    wrong["received"][1, layout.DOWN] += 3
    assert conservation_error(wrong)[1, layout.DOWN] == 3


def test_upstream_ports_by_state(relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    assert relay.call(lambda control: control.tables.upstream_ports()) == [(0, 0), (0, 0)]
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
    used = relay.call(lambda control: control.tables.upstream_ports())
    assert sorted(used) == [(0, 0), (1, 0)]


def test_what_is_in_use(relay: Relay, server: socket.socket) -> None:
    relay.backends.add("b", "127.0.0.1:9", allow=["127.0.0.0/8"])
    relay.backends.add("c", "127.0.0.1:10")
    in_use = lambda: relay.call(lambda control: control.tables.backends_in_use())  # noqa: E731
    assert in_use() == set()
    relay.routes.install("ufrag1", "b", target="127.0.0.1:5000")
    assert in_use() == {1}, "a route to a target names the target's backend"
    relay.routes.install("ufrag2", "a")
    with PlainCall(address_of(relay), server, "ufrag2") as call:
        call.confirm()
    relay.routes.remove("ufrag2")
    assert in_use() == {0, 1}, "a live flow, though its route is gone"
