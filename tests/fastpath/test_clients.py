"""The clients of a load run: who sends from where, and what is refused."""

import pytest
from fastpath.clients import Clients

RELAY = ("127.0.0.1", 9)


def test_flows_share_sockets_and_take_the_next_source_in_turn():
    clients = Clients(7, RELAY, first_source="10.0.0.254", sockets=3)
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
        Clients(2, settings.pop("target"), **settings)
