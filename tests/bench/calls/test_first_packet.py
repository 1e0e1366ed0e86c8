"""The browser benchmark sees every step, in both servers, in a real Chromium."""

import pytest

from bench.calls.first_packet import measure
from bench.calls.tables import SERVER_STEPS, SETUP_STEPS
from tests.support.require import require


@pytest.mark.slow
def test_every_step_of_both_servers_is_seen_in_its_order():
    found = measure(require("chromium"), calls=1)
    assert set(found) == {"fastpath", "aiortc"}
    for calls in found.values():
        (call,) = calls
        steps_ms = call["steps_ms"]
        assert set(steps_ms) == {name for name, _ in SETUP_STEPS}
        assert 0 < steps_ms["answered"] < steps_ms["accepted"]
        assert max(steps_ms, key=steps_ms.get) in ("media", "dtls")  # two queues of one page tell of them
    server_ms = found["fastpath"][0]["server_ms"]
    assert {name for name, _ in SERVER_STEPS} <= set(server_ms)
    assert server_ms["check"] <= server_ms["path"] <= server_ms["keys"] <= server_ms["media_out"]
