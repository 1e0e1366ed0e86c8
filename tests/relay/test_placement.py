"""Where a session goes and what its client is told."""

from typing import Any

import pytest

from pyfastpath.config import Backend
from pyfastpath.errors import RouteError
from pyfastpath.relay.placement import Ingress, answered_target, elsewhere, relay_candidates, target_of
from pyfastpath.types import Endpoint
from pyfastpath.wire.sdp import Candidate

SFU = Backend(id="sfu", address="10.0.0.5:1", allow=("10.0.0.0/24", "2001:db8::/64"))


def candidate(address: str, port: int = 4000, priority: int = 100, **other: Any) -> Candidate:
    fields = {"foundation": "1", "component": 1, "transport": "udp", "kind": "host", **other}
    return Candidate(priority=priority, address=address, port=port, **fields)


def ingress(number: int, local: str, advertised: str = "") -> Ingress:
    return Ingress(number, 0, Endpoint.parse(local), Endpoint.parse(advertised or local), False)


def test_candidates_fall_in_priority_and_the_machines_own_come_last() -> None:
    found = relay_candidates(
        [ingress(0, "127.0.0.1:3478"), ingress(1, "203.0.113.1:3478"), ingress(2, "[2001:db8::1]:3478")]
    )
    assert [one.address for one in found] == ["203.0.113.1", "2001:db8::1", "127.0.0.1"]
    assert [one.priority for one in found] == sorted((one.priority for one in found), reverse=True)
    assert len({one.priority for one in found}) == len({one.foundation for one in found}) == 3


def test_one_advertised_address_is_one_candidate() -> None:
    nat = "198.51.100.4:3478"
    found = relay_candidates([ingress(0, "10.0.0.1:3478", nat), ingress(1, "10.0.0.2:3478", nat)])
    assert [(one.address, one.port) for one in found] == [("198.51.100.4", 3478)]


def test_the_answers_own_host_candidate_inside_allow_is_the_target() -> None:
    offered = [
        candidate("192.0.2.9", priority=900),
        candidate("10.0.0.7", 4001, priority=500),
        candidate("10.0.0.8", 4002, priority=600),
        candidate("10.0.0.9", 4003, priority=999, kind="srflx"),
        candidate("10.0.0.9", 4004, priority=999, transport="tcp"),
        candidate("10.0.0.9", 4005, priority=999, component=2),
        candidate("0d3ad1b5.local", 4006, priority=999),
    ]
    assert answered_target(SFU, offered) == Endpoint.parse("10.0.0.8:4002")
    assert answered_target(SFU, [candidate("2001:db8::7", 9)]) == Endpoint.parse("[2001:db8::7]:9")
    assert answered_target(SFU, [candidate("::ffff:10.0.0.7", 9)]) == Endpoint.parse("10.0.0.7:9")


@pytest.mark.parametrize(
    "backend",
    [Backend(id="one", address="10.0.0.5:1"), Backend(id="own", address="10.0.0.5:1", mode="trunk")],
)
def test_a_backend_with_one_address_needs_no_candidate(backend: Backend) -> None:
    assert answered_target(backend, []) is None


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        ([], "it has none at all. Let the server gather"),
        ([candidate("192.0.2.9", 4000)], "it has 192.0.2.9:4000."),
        ([candidate("10.0.0.9", 0)], "it has none at all"),
        ([candidate("10.0.0.9", 70000)], "it has none at all"),
    ],
)
def test_an_answer_without_a_usable_candidate_is_refused(offered: list[Candidate], says: str) -> None:
    with pytest.raises(RouteError) as refused:
        answered_target(SFU, offered)
    assert refused.value.code == "bad_target"
    assert says in str(refused.value)


def test_an_answer_that_names_other_addresses_than_its_backends_is_noticed() -> None:
    one = Backend(id="one", address="10.0.0.5:5000")
    assert elsewhere(one, [candidate("10.0.0.5", 25000), candidate("name.local")]) == "10.0.0.5:25000"
    assert elsewhere(one, [candidate("10.0.0.5", 25000), candidate("10.0.0.5", 5000)]) == ""
    assert elsewhere(one, []) == ""  # it trickles, or hides them
    assert elsewhere(SFU, [candidate("10.0.0.5", 25000)]) == ""


def test_a_target_inside_allow() -> None:
    assert target_of(SFU, "10.0.0.200:5004") == Endpoint.parse("10.0.0.200:5004")


@pytest.mark.parametrize(
    ("backend", "text", "code", "says"),
    [
        (SFU, "10.0.1.1:5004", "bad_target", "outside the networks backend sfu allows (10.0.0.0/24"),
        (SFU, "10.0.0.1", "bad_request", "is not ip:port"),
        (SFU, "10.0.0.1:0", "bad_request", "port 0"),
        (Backend(id="x", address="10.0.0.5:1"), "10.0.0.5:1", "bad_target", "allows (none)"),
        (Backend(id="t", address="10.0.0.5:1", mode="trunk"), "10.0.0.5:1", "bad_target", "by the trunk"),
    ],
)
def test_other_targets_are_refused(backend: Backend, text: str, code: str, says: str) -> None:
    with pytest.raises(RouteError) as refused:
        target_of(backend, text)
    assert refused.value.code == code
    assert says in str(refused.value)
