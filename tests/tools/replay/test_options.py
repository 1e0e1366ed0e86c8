"""Flags of a replay: what they mean, and one sentence for what they cannot."""

from pathlib import Path

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.gate import Gate
from pyfastpath.tools.replay.options import Flags, Wishes, read_flags, read_speed
from pyfastpath.types import Endpoint

FILE = Path("calls.pcap")
KEY = bytes(range(16)).hex()
NOW_S = 1_800_000_000


def read(**flags) -> Wishes:
    return read_flags(Flags(file=FILE, **flags), wall_s=NOW_S)


def test_without_flags_a_relay_of_its_own_and_recorded_time() -> None:
    wishes = read()
    assert (wishes.target, wishes.socket, wishes.speed, wishes.backends) == (None, "", 1.0, 2)
    assert (wishes.mode, wishes.mints, wishes.trunk_key, wishes.gates) == ("plain", (), None, ())


@pytest.mark.parametrize(
    ("text", "speed"), [("1x", 1.0), ("10x", 10.0), ("0.5x", 0.5), ("3", 3.0), ("max", 0.0)]
)
def test_speeds(text: str, speed: float) -> None:
    assert read_speed(text) == speed


def test_a_relay_that_runs() -> None:
    wishes = read(
        socket="/run/relay.sock", target="192.0.2.1:3478", sink=["192.0.2.9:5000"], upstream="trunk"
    )
    assert (wishes.target, wishes.socket) == (Endpoint.parse("192.0.2.1:3478"), "/run/relay.sock")
    assert (wishes.backends, wishes.ends_at) == (1, (Endpoint.parse("192.0.2.9:5000"),))


def test_tokens_name_a_transceiver_a_backend() -> None:
    wishes = read(token_key=f"2:{KEY}", transceiver="7/65000/3", backends=3, trunk_key=f"1:{KEY}")
    assert [(mint.cluster, mint.xcvr, mint.incarnation) for mint in wishes.mints] == [
        (7, 65000 + place, 3) for place in range(3)
    ]
    assert {(mint.kid, mint.key) for mint in wishes.mints} == {(2, bytes(range(16)))}
    assert all(NOW_S < mint.expires_s < NOW_S + 86_400 for mint in wishes.mints)
    assert wishes.trunk_key == (1, bytes(range(16)))


def test_a_token_key_of_the_environment_alone_changes_nothing() -> None:
    assert read(token_key=f"2:{KEY}").mints == ()


def test_gates_know_the_figures_of_a_replay() -> None:
    assert read(fail_if=["corrupted>0", "timing_p99_us>100"]).gates == (
        Gate("corrupted", ">", 0),
        Gate("timing_p99_us", ">", 100),
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"speed": "fast"}, "--speed: 'fast' is no speed"),
        ({"speed": "0x"}, "--speed"),
        ({"loop": 0}, "--loop: 0 is not possible"),
        ({"sessions": 65_001}, "--sessions: 65001"),
        ({"limit": -1}, "--limit"),
        ({"backends": 65}, "--backends"),
        ({"backends": 2, "sink": ["192.0.2.1:1"]}, "--sink: 2 backends at 1 addresses"),
        ({"upstream": "tunnel"}, "--upstream: 'tunnel' is unknown"),
        ({"server": "nowhere"}, "--server: 'nowhere' is not ip:port"),
        ({"target": "[::1]:1", "socket": "/x"}, "--target: .* is IPv6"),
        ({"source": "x"}, "--source"),
        ({"target": "192.0.2.1:1"}, "--target: nobody told the relay"),
        ({"self_test": True, "socket": "/x"}, "--self-test"),
        ({"socket": "/x", "transceiver": "1"}, "--transceiver: routes come through"),
        ({"target": "192.0.2.1:1", "transceiver": "1"}, "Add --sink IP:PORT"),
        ({"transceiver": "1"}, "--token-key: minting tokens takes a key"),
        ({"transceiver": "1", "token_key": "9:00"}, "--token-key"),
        ({"transceiver": "no", "token_key": f"1:{KEY}"}, "--transceiver: 'no' names no transceiver"),
        ({"transceiver": "65535", "token_key": f"1:{KEY}"}, "--transceiver"),
        ({"transceiver": "4096/1", "token_key": f"1:{KEY}"}, "--transceiver"),
        ({"trunk_key": "4:00"}, "--trunk-key"),
        ({"fail_if": ["cpu_ns>1"]}, "there is no figure 'cpu_ns'"),
        ({"password": ["x"]}, "--password"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_mistakes_are_named(flags: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(**flags)


def test_keys_are_not_shown() -> None:
    assert KEY not in repr(Flags(file=FILE, trunk_key=KEY, token_key=KEY))
    wishes = read(token_key=f"2:{KEY}", transceiver="1", trunk_key=f"1:{KEY}")
    assert repr(bytes.fromhex(KEY)) not in repr(wishes)
