"""One shard's tables, and its whole decision: what a new flow costs, a known one, a forged token, a turn."""

import os

import pytest
from fastpath._testing.forward import Bench
from fastpath.load.generator import binding_request

from fastpath._testing import bench_shard
from pyfastpath.relay.layout import MODE_PLAIN, MODE_TRUNK
from pyfastpath.wire.token import mint
from tests.support.rig import address16

COUNT = 65_536
PORTS = 4096  # the default pool
KEY = bytes(range(16))
SEED = bytes(range(16, 32))
WALL_S = 1_800_000_000
IP, PORT = "127.0.0.1", 5000
TOKEN = {"cluster": 1, "xcvr": 2, "incarnation": 3}


def request(ufrag):
    return binding_request(ufrag, os.urandom(12), b"password")


def relay_with(mode="trunk", **sizes):
    """A relay of one shard with one backend that tokens lead to."""
    relay = Bench(seed=SEED, provisional_max=COUNT, flows_max=4 * COUNT, transactions_max=64 * COUNT, **sizes)
    relay.shared.backends.publish(
        0, address16(IP), PORT, 4, MODE_TRUNK if mode == "trunk" else MODE_PLAIN, name_hash=1,
        cluster=1, xcvr=2, incarnation=3, has_xcvr=True
    )  # fmt: skip
    bench_shard.prefault(relay.shards[0])
    relay.publish(WALL_S, token_keys={0: KEY}, trunk_keys={})
    return relay


@pytest.fixture
def relay():
    """Its settings live as long as itself, not as long as its shards."""
    return relay_with()


@pytest.fixture(scope="module")
def valid():
    """Requests whose tokens lead to the backend; each its own session."""
    return [
        request(mint(KEY, 0, expires_s=WALL_S + 3600, session=serial, **TOKEN).encode())
        for serial in range(COUNT)
    ]


def test_flow_insert_and_remove(per_operation, relay):
    per_operation(bench_shard.flow_inserts, COUNT, relay.shards[0])


def test_provisional_insert_lookup_remove(per_operation, relay):
    per_operation(bench_shard.provisionals, COUNT, relay.shards[0])


def test_counters_of_a_batch(per_operation, relay):
    per_operation(bench_shard.counts, COUNT, relay.shards[0])


def test_settings_of_a_turn(per_operation, relay):
    per_operation(bench_shard.settings_looks, COUNT, relay.shards[0], relay.settings)


def test_expiry_of_a_turn(per_operation, relay):
    per_operation(bench_shard.expiry, 1000, relay.shards[0], 1)


def test_backend_by_token(per_operation, relay):
    per_operation(bench_shard.backend_tokens, COUNT, relay.shards[0], 1, 2, 3)


def test_backend_by_address(per_operation, relay):
    per_operation(bench_shard.backend_addresses, COUNT, relay.shards[0], address16(IP), PORT)


def test_backend_by_hash(per_operation, relay):
    per_operation(bench_shard.backend_hashes, COUNT, relay.shards[0], b"abcdefgh")


def fresh(benchmark, make, run, count=COUNT):
    """Each round on tables of its own: what is measured fills them."""
    benchmark.extra_info["operations"] = count

    def setup():
        return (make(),), {}

    assert benchmark.pedantic(run, setup=setup, rounds=5) == count


def test_port_taken_found_released(benchmark):
    """A released port rests for a minute, so a round ends where the pool does."""
    fresh(
        benchmark,
        lambda: relay_with(mode="plain", ports=PORTS),
        lambda relay: bench_shard.ports(relay.shards[0], 0, address16(IP), PORT, PORTS),
        PORTS,
    )


def test_transaction_remembered(benchmark):
    fresh(benchmark, relay_with, lambda relay: bench_shard.transactions(relay.shards[0], COUNT))


def arriving(requests):
    """(relay, crowd): nobody has asked yet."""
    relay = relay_with()
    return relay, bench_shard.Crowd(relay.shards[0], requests)


def test_new_flow_under_a_valid_token(benchmark, valid):
    """From STUN to forwarded: parse, FINGERPRINT, token, provisional flow, transaction."""
    fresh(benchmark, lambda: arriving(valid), lambda crowd: crowd[1].ask(1000, COUNT))


def test_forged_token_refused(per_operation):
    forged = [request(os.urandom(11).hex().encode()) for _ in range(1024)]
    _relay, crowd = arriving(forged)
    per_operation(lambda count: crowd.refused(1000, count), 1024)


def asked(requests):
    """(relay, crowd): every flow is provisional."""
    relay, crowd = arriving(requests)
    assert crowd.ask(1000, COUNT) == COUNT
    return relay, crowd


def test_flow_confirmed(benchmark, valid):
    fresh(benchmark, lambda: asked(valid), lambda crowd: crowd[1].confirm(0, 1001, COUNT))


def test_media_of_a_known_flow(per_operation, valid):
    """65,536 flows in turn, nothing prefetched: the worst order there is."""
    _relay, crowd = asked(valid)
    assert crowd.confirm(0, 1001, COUNT) == COUNT
    per_operation(crowd.talk, COUNT, bytes([0x80, 111]) + bytes(170), 1002)
