"""The record of a transceiver: what JSON makes one, and for how long it lives."""

import json

import pytest

from pyfastpath.registry.record import ALIVE_S, RegistryError, build_record, parse_record
from pyfastpath.types import HttpAddress
from tests.registry.records import record


def test_a_record_survives_the_wire_without_the_moment_it_was_heard() -> None:
    one = record(sessions=7, state="draining", heard_s=123.5)
    assert "heard_s" not in json.loads(build_record(one))
    assert parse_record(build_record(one)) == record(sessions=7, state="draining")


def test_a_newer_transceiver_may_say_more() -> None:
    said = json.loads(build_record(record())) | {"codecs": ["opus"]}
    assert parse_record(json.dumps(said).encode()) == record()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"id": "../../etc"}, "id"),
        ({"id": ""}, "id"),
        ({"cluster": 4096}, "cluster"),
        ({"xcvr": 65536}, "xcvr"),
        ({"incarnation": 16}, "incarnation"),
        ({"control": "ftp://x"}, "control"),
        ({"control": "http://host/path"}, "control"),
        ({"control": "http://host:1?x"}, "control"),
        ({"control": "http://me@host:1"}, "control"),
        ({"control": "http://host:1\n"}, "control"),
        ({"id": "t1\n"}, "id"),
        ({"state": "down"}, "state"),
        ({"sessions": -1}, "sessions"),
        ({"capacity": "many"}, "capacity"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changed: dict[str, object], named: str) -> None:
    said = json.loads(build_record(record())) | changed
    with pytest.raises(RegistryError, match=named):
        parse_record(json.dumps(said).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"{}"])
def test_what_is_no_record_is_refused_with_its_keys(data: bytes) -> None:
    with pytest.raises(RegistryError, match="Its keys: id, cluster, xcvr, incarnation, control"):
        parse_record(data)


def test_alive_is_heard_within_three_seconds() -> None:
    assert record(heard_s=10.0).is_alive(10.0 + ALIVE_S)
    assert not record(heard_s=10.0).is_alive(10.01 + ALIVE_S)


@pytest.mark.parametrize("control", ["unix:/run/t1.sock", "http://10.0.0.5:9000", "https://[::1]:9000"])
def test_whoever_asks_can_read_every_control_address(control: str) -> None:
    said = json.dumps(json.loads(build_record(record())) | {"control": control}).encode()
    assert str(HttpAddress.parse(parse_record(said).control)) == control
