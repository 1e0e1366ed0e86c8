"""The clients of a load run: who sends from where, and what is refused."""

import struct

import pytest
from fastpath.load.clients import Clients
from fastpath.load.generator import binding_request
from hypothesis import given
from hypothesis import strategies as st

PASSWORD = b"benchmark-password-22c"
RELAY = ("127.0.0.1", 9)


def test_flows_share_sockets_and_take_the_next_source_in_turn():
    clients = Clients([b"aaaa"] * 7, RELAY, first_source="10.0.0.254", sockets=3)
    assert [clients.source(flow) for flow in range(7)] == ["10.0.0.254"] * 3 + ["10.0.0.255"] * 3 + [
        "10.0.1.0"
    ]
    with pytest.raises(IndexError, match="flow 7 of 7"):
        clients.source(7)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size_bytes": 31}, "size_bytes is 31"),
        ({"size_bytes": 2049}, "size_bytes is 2049"),
        ({"size_bytes": 40, "size_spread": 9}, "size_bytes is 40 with size_spread 9"),
        ({"size_bytes": 2000, "size_spread": 49}, "size_bytes is 2000 with size_spread 49"),
        ({"size_spread": -1}, "size_spread -1"),
        ({"sockets": 0}, "0 sockets for 2 flows"),
        ({"sockets": 3}, "3 sockets for 2 flows"),
        ({"target": [RELAY]}, "1 targets for 2 flows"),
        ({"turn_numbers": [0x4000]}, "1 TURN numbers for 2 flows"),
        ({"turn_numbers": [0x4000, 0x3FFF]}, "TURN number 0x3fff of flow 1"),
        ({"turn_numbers": [0x8000, 0x4000]}, "TURN number 0x8000 of flow 0"),
    ],
)
def test_impossible_settings_are_refused(change, sentence):
    settings = {"target": RELAY} | change
    with pytest.raises(ValueError, match=sentence):
        Clients([b"aaaa", b"bbbb"], settings.pop("target"), **settings)


UFRAGS = st.lists(st.integers(4, 256).map(lambda length: b"u" * length), min_size=1, max_size=3)


@given(UFRAGS, st.binary(max_size=64))
def test_a_request_is_the_slow_twins(ufrags, password):
    clients = Clients(ufrags, RELAY, password=password)
    for flow, ufrag in enumerate(ufrags):
        made = clients.request(flow)
        assert struct.unpack_from("=I", made, 8)[0] == flow
        assert made == binding_request(ufrag, made[8:20], password)


def test_no_two_runs_or_flows_share_a_transaction():
    made = [Clients([b"aaaa"] * 100, RELAY) for _ in range(2)]
    assert len({clients.request(flow)[12:20] for clients in made for flow in range(100)}) == 200


@pytest.mark.parametrize(
    ("ufrag", "password", "sentence"),
    [(b"u" * 257, PASSWORD, "ufrag of more than 256"), (b"aaaa", b"p" * 65, "password of 65 bytes")],
)
def test_what_no_agent_has_is_refused(ufrag, password, sentence):
    with pytest.raises(ValueError, match=sentence):
        Clients([ufrag], RELAY, password=password)
