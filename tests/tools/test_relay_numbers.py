"""What a relay says of itself, read from its real /metrics."""

import asyncio
import socket

from pyfastpath.tools.relay_numbers import PUBLISH_S, RelayNumbers, read_relay_numbers
from tests.support.relay import running_relay


async def test_drops_of_a_real_relay_are_read(tmp_path):
    with running_relay(tmp_path, backends=[{"id": "a", "address": "127.0.0.1:5000"}]) as relay:
        before = await read_relay_numbers(relay.health)
        assert before == RelayNumbers(0, 0, {}, 0, 0, before.residence)
        assert before.residence_ms(0.5) is None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(3):
                client.sendto(b"\xff nothing a relay knows", relay.listen)
        numbers = before
        while not numbers.dropped:
            numbers = await read_relay_numbers(relay.health)
        await asyncio.sleep(PUBLISH_S)
        numbers = (await read_relay_numbers(relay.health)).since(before)
    assert sum(numbers.dropped.values()) == 3
    assert (numbers.forwarded_up, numbers.forwarded_down) == (0, 0)
    assert numbers.unaccounted == 0


def test_only_what_came_on_top_counts():
    before = RelayNumbers(10, 20, {"bad_tag": 2, "oversize": 1}, 1, 0, {0.1: 5, 0.2: 9})
    after = RelayNumbers(13, 24, {"bad_tag": 2, "oversize": 4}, 1, 0, {0.1: 8, 0.2: 19})
    assert after.since(before) == RelayNumbers(3, 4, {"oversize": 3}, 0, 0, {0.1: 3, 0.2: 10})
    assert after.since(before).residence_ms(0.3) == 100
    assert after.since(before).residence_ms(0.5) == 200
