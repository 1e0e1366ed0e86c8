"""Backends: configured ids, address:port targets under them, and the three ways a worker finds one."""

from collections import Counter
from typing import Any

import pytest
from fastpath._testing.tables import (
    backend_by_address,
    backend_by_hash,
    backend_by_token,
    takes_flows,
)
from fastpath.backends import BACKENDS, DOWN, DRAINING, PLAIN, TRUNK, UP
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.wire.siphash import siphash
from tests.support.examples import examples
from tests.support.regions import Region, address16, make_region

IDLE_S = 120


def address(number: int) -> tuple[bytes, int, int]:
    """IPv4 for even numbers, IPv6 for odd ones."""
    if number % 2:
        return bytes.fromhex("20010db8") + number.to_bytes(12, "big"), 7000, 6
    return address16(198, 51, number >> 8 & 255, number & 255), 7000, 4


def publish(region: Region, index: int, mode: int = TRUNK, **identity: Any) -> None:
    region.shared.backends.publish(index, *address(index), mode, name_hash=1000 + index, **identity)


# ---- found by address, token, hash --------------------------------------------------------------------


def test_by_address_only_registered_trunk_backends_are_believed() -> None:
    region = make_region()
    for index in range(4):
        publish(region, index, PLAIN if index == 2 else TRUNK)
    found = [backend_by_address(region.shared, address(number)) for number in range(5)]
    assert found == [0, 1, None, 3, None]
    raw, port, family = address(0)
    assert backend_by_address(region.shared, (raw, port + 1, family)) is None
    region.shared.backends.set_state(0, DOWN)
    assert backend_by_address(region.shared, address(0)) == 0, "down, it may say that it is up again"
    region.shared.backends.remove(0)
    assert backend_by_address(region.shared, address(0)) is None


def test_by_token_cluster_transceiver_and_incarnation_must_fit() -> None:
    region = make_region()
    publish(region, 3, cluster=7, xcvr=4242, incarnation=2, has_xcvr=True)
    publish(region, 4, cluster=0, xcvr=0, incarnation=0)
    publish(region, 255, cluster=7, xcvr=4243, incarnation=0, has_xcvr=True)
    assert backend_by_token(region.shared, 7, 4242, 2) == 3
    assert backend_by_token(region.shared, 7, 4243, 0) == 255
    for wrong in ((8, 4242, 2), (7, 4241, 2), (7, 4242, 1), (0, 0, 0)):
        assert backend_by_token(region.shared, *wrong) is None
    region.shared.backends.set_identity(3, 7, 4242, 3)
    assert backend_by_token(region.shared, 7, 4242, 2) is None, "it restarted: old tokens name nobody"
    assert backend_by_token(region.shared, 7, 4242, 3) == 3
    region.shared.backends.remove(3)
    assert backend_by_token(region.shared, 7, 4242, 3) is None


def rendezvous(ufrag: bytes, up: list[int]) -> int | None:
    """The slow twin: the highest keyed weight of (backend, ufrag) wins."""
    inner = siphash(bytes(16), ufrag).to_bytes(8, "little")
    return max(
        up, default=None, key=lambda index: siphash(bytes(16), (1000 + index).to_bytes(8, "little") + inner)
    )


@examples(100)
@given(
    st.dictionaries(st.integers(0, BACKENDS - 1), st.sampled_from([UP, UP, DRAINING, DOWN]), max_size=8),
    st.binary(min_size=4, max_size=40),
)
def test_by_hash_equals_rendezvous_hashing(states: dict[int, int], ufrag: bytes) -> None:
    region = make_region()
    for index, state in states.items():
        publish(region, index, state=state)
    up = sorted(index for index, state in states.items() if state == UP)
    assert backend_by_hash(region.shared, ufrag) == rendezvous(ufrag, up)


def test_by_hash_a_backend_that_leaves_moves_only_its_own() -> None:
    region = make_region()
    for index in range(8):
        publish(region, index)
    ufrags = [f"ufrag{number}".encode() for number in range(2000)]
    before = {ufrag: backend_by_hash(region.shared, ufrag) for ufrag in ufrags}
    shares = Counter(before.values())
    assert len(shares) == 8
    assert min(shares.values()) > 150
    region.shared.backends.set_state(3, DRAINING)
    after = {ufrag: backend_by_hash(region.shared, ufrag) for ufrag in ufrags}
    assert {ufrag for ufrag in ufrags if before[ufrag] != after[ufrag]} == {
        ufrag for ufrag in ufrags if before[ufrag] == 3
    }


def test_new_flows_need_the_backend_and_its_parent_up() -> None:
    region = make_region()
    publish(region, 1, PLAIN)
    target = region.shared.backends.target(1, *address(50), 0)
    for state, takes in ((UP, True), (DRAINING, False), (DOWN, False), (UP, True)):
        region.shared.backends.set_state(1, state)
        assert (takes_flows(region.shared, 1), takes_flows(region.shared, target)) == (takes, takes)
    region.shared.backends.remove(1)
    assert not takes_flows(region.shared, target)
    assert not takes_flows(region.shared, 2)


def test_what_is_no_backend_is_refused() -> None:
    backends = make_region().shared.backends
    with pytest.raises(ValueError, match=r"0\.\.255"):
        backends.publish(BACKENDS, *address(0), TRUNK, 0)
    with pytest.raises(ValueError, match="16 bytes"):
        backends.publish(0, bytes(4), 1, 4, TRUNK, 0)
    with pytest.raises(ValueError, match="family 4 or 6"):
        backends.target(0, bytes(16), 1, 5, 0)
    assert backends.rows() == []


# ---- targets ------------------------------------------------------------------------------------------

TARGETS_MAX = 4
WORLD = range(10, 17)

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("target"), st.sampled_from(WORLD)),
        st.tuples(st.just("touch"), st.sampled_from(WORLD)),
        st.tuples(st.just("wait"), st.sampled_from([1, 60, IDLE_S])),
        st.tuples(st.just("sweep"), st.none()),
        st.tuples(st.just("attach"), st.none()),
    ),
    max_size=50,
)


@examples(200)
@given(OPERATIONS)
def test_targets_equal_a_dict(operations: list) -> None:
    """One index an address while anything names it; it is free again when nothing has for two minutes."""
    region = make_region(targets_max=TARGETS_MAX)
    publish(region, 1, PLAIN)
    held: dict[int, tuple[int, int]] = {}  # number: index, touched_s
    now_s = 5000
    for name, number in operations:
        backends = region.shared.backends
        if name == "target":
            index = backends.target(1, *address(number), now_s)
            if number not in held and len(held) == TARGETS_MAX:
                assert index == -1
                continue
            assert BACKENDS <= index < BACKENDS + TARGETS_MAX
            assert index == held.get(number, (index,))[0]
            assert index not in {other for key, (other, _) in held.items() if key != number}
            held[number] = index, now_s
        elif name == "touch" and number in held:
            backends.touch(held[number][0], now_s)
            held[number] = held[number][0], now_s
        elif name == "wait":
            now_s += number
        elif name == "sweep":
            over = {key for key, (_, touched_s) in held.items() if now_s - touched_s >= IDLE_S}
            assert backends.sweep(now_s, IDLE_S) == len(over)
            held = {key: value for key, value in held.items() if key not in over}
        elif name == "attach":
            region.attach_again()
        rows = {row["index"]: row for row in region.shared.backends.rows() if row["index"] >= BACKENDS}
        assert set(rows) == {index for index, _ in held.values()}
        for key, (index, _) in held.items():
            row = rows[index]
            assert (row["address16"], row["port"], row["family"]) == address(key)
            assert (row["parent"], row["mode"], row["state"]) == (1, "plain", "up")


def test_rows_tell_what_is_configured() -> None:
    region = make_region()
    publish(region, 2, cluster=1, xcvr=2, incarnation=3, has_xcvr=True, state=DRAINING)
    (row,) = region.shared.backends.rows()
    assert row == {
        **{"index": 2, "parent": 2, "state": "draining", "mode": "trunk"},
        **{"address16": address(2)[0], "port": 7000, "family": 4},
        **{"cluster": 1, "xcvr": 2, "incarnation": 3, "has_xcvr": True},
    }
