"""Which rule decides a new ufrag, and whether it says why."""

from ipaddress import ip_address, ip_network

import pytest

from pyfastpath.relay.rules import (
    Backend,
    Decision,
    Route,
    Tables,
    client_is_allowed,
    explain_ufrag,
    rendezvous_weight,
)
from pyfastpath.types import Endpoint
from pyfastpath.wire import token

NOW_S, WALL_S = 1000, 1_800_000_000
KEY = bytes(range(16))
ENDPOINT = Endpoint.parse("192.0.2.1:5000")
UP = Backend(ENDPOINT, "trunk", identity=(77, 4242, 3), name_hash=1)


def mint(left_s: int = 3600, **fields: int) -> str:
    said = {"cluster": 77, "xcvr": 4242, "incarnation": 3, "session": 1} | fields
    return token.mint(KEY, 0, expires_s=WALL_S + left_s, **said)


def explain(ufrag: str, **tables: object) -> Decision:
    return explain_ufrag(ufrag, Tables(backends={0: UP}, **tables), NOW_S, WALL_S)  # type: ignore[arg-type]


def asked(decision: Decision) -> list[str]:
    return [step.rule for step in decision.steps]


def test_an_installed_route_comes_before_everything() -> None:
    ufrag = mint(xcvr=9999)
    found = explain(ufrag, routes={ufrag.encode(): Route(0, NOW_S + 1, session=5)}, token_keys={0: KEY})
    assert (found.decision, found.reason, found.backend, found.session) == ("session_route", "none", 0, 5)
    assert asked(found) == ["session_route", "backend"]
    assert "192.0.2.1:5000" in found.steps[-1].why


@pytest.mark.parametrize(("used", "decision"), [(False, "no_route"), (True, "session_route")])
def test_a_route_past_its_time_holds_only_while_flows_use_it(used: bool, decision: str) -> None:
    found = explain("alice", routes={b"alice": Route(0, NOW_S, used=used)})
    assert found.decision == decision
    assert used or "expired 0 s ago" in found.steps[0].why


def test_a_token() -> None:
    found = explain(mint(traffic_class=2), token_keys={0: KEY}, hash_policy=True)
    assert (found.decision, found.reason, found.backend, found.traffic_class) == ("token", "none", 0, 2)
    assert asked(found) == ["session_route", "token", "backend"]
    assert "transceiver 4242 of cluster 77" in found.steps[1].why


@pytest.mark.parametrize(
    ("ufrag", "decision", "reason", "why"),
    [
        ("0" * 22, "bad_token", "bad_token", "not made with key 0"),
        (mint(-100), "expired", "token_expired", "ago"),
        (mint(2 * 86400), "expired", "token_expired", "24 h ahead"),
        (mint(incarnation=4), "unknown_backend", "unknown_backend", "incarnation"),
        (mint(xcvr=1), "unknown_backend", "unknown_backend", "transceiver"),
    ],
)
def test_a_bad_token_never_falls_through(ufrag: str, decision: str, reason: str, why: str) -> None:
    found = explain(ufrag, token_keys={0: KEY}, hash_policy=True)
    assert (found.decision, found.reason, found.backend) == (decision, reason, None)
    assert why in found.steps[-1].why
    assert "hash" not in asked(found)


@pytest.mark.parametrize("ufrag", ["a" * 21, "a" * 23, "a" * 21 + "+"])
def test_what_has_not_the_shape_of_a_token_is_asked_on(ufrag: str) -> None:
    assert explain(ufrag, token_keys={0: KEY}, hash_policy=True).decision == "hash"


def test_nothing_knows_it() -> None:
    found = explain("alice")
    assert (found.decision, found.reason) == ("no_route", "no_route")
    assert asked(found) == ["session_route", "token", "hash"]
    assert not any(step.decided for step in found.steps)


@pytest.mark.parametrize("ufrag", ["", "abc", "a" * 257, "a b c d", "äöüß"])
def test_no_ufrag_at_all(ufrag: str) -> None:
    assert explain(ufrag, hash_policy=True).reason == "bad_stun"


def test_the_hash_policy_moves_only_what_it_must() -> None:
    backends = {index: Backend(ENDPOINT, name_hash=1000 + index) for index in range(5)}
    ufrags = [f"ufrag{number}" for number in range(300)]
    tables = Tables(backends=backends, hash_policy=True)
    before = {ufrag: explain_ufrag(ufrag, tables, NOW_S, WALL_S).backend for ufrag in ufrags}
    assert set(before.values()) == set(backends)
    del backends[2]
    after = {ufrag: explain_ufrag(ufrag, tables, NOW_S, WALL_S).backend for ufrag in ufrags}
    assert {ufrag for ufrag in ufrags if before[ufrag] != after[ufrag]} == {
        ufrag for ufrag in ufrags if before[ufrag] == 2
    }


def test_hashing_passes_over_what_is_not_up_and_over_targets() -> None:
    backends = {
        0: Backend(ENDPOINT, state="down"),
        1: Backend(ENDPOINT, state="draining"),
        256: Backend(ENDPOINT, parent=0),
    }
    found = explain_ufrag("alice", Tables(backends=backends, hash_policy=True), NOW_S, WALL_S)
    assert (found.decision, found.reason) == ("hash", "backend_unavailable")


def test_weights_are_the_same_in_every_relay() -> None:
    assert rendezvous_weight(b"alice", 1) == rendezvous_weight(b"alice", 1)
    assert rendezvous_weight(b"alice", 1) != rendezvous_weight(b"alice", 2) != rendezvous_weight(b"bobs", 2)


def test_a_target_depends_on_its_backend() -> None:
    backends = {3: Backend(ENDPOINT, state="draining"), 256: Backend(ENDPOINT, parent=3)}
    tables = Tables(backends=backends, routes={b"alice": Route(256, NOW_S + 1)})
    assert explain_ufrag("alice", tables, NOW_S, WALL_S).reason == "backend_unavailable"
    backends[3] = Backend(ENDPOINT)
    assert explain_ufrag("alice", tables, NOW_S, WALL_S).backend == 256
    del backends[3]
    assert explain_ufrag("alice", tables, NOW_S, WALL_S).reason == "unknown_backend"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("198.51.100.1", True),
        ("2001:db8::1", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fd00::1", False),
        ("192.168.7.7", True),  # listed
    ],
)
def test_addresses_of_the_inside(address: str, allowed: bool) -> None:
    assert client_is_allowed(ip_address(address), [ip_network("192.168.7.0/24")]) == allowed
