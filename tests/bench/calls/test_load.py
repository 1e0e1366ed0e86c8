"""The load client tells the truth: it counts what real servers really answer. No time is judged here."""

import os
from contextlib import closing

import pytest

from bench.calls.capacity import contestants, one_turn
from bench.calls.load import Load, candidate_of
from bench.calls.servers import aiortc, fastpath, used_ms

CALLS = 3
SECONDS = 1.0


def run(server):
    with closing(Load(CALLS)) as load:
        load.connect(server.place)
        return load.run(warmup_s=0.2, measure_s=SECONDS, look=lambda: used_ms(server.pid))


def test_every_packet_comes_back_through_relay_and_trunk(tmp_path):
    with fastpath(tmp_path, "echo") as server:
        before_ms = used_ms(server.pid)
        window = run(server)
        assert window.lost == 0
        assert window.sent >= CALLS * 50 * SECONDS * 0.9
        assert window.wrong == 0
        assert len([one for one in server.sessions() if one["state"] == "live"]) == CALLS
        assert before_ms <= window.looks[0] < window.looks[1] <= used_ms(server.pid)
        with closing(Load(1)) as refused, pytest.raises(RuntimeError, match="POST /v1/sessions: 400"):
            refused.connect(lambda offer: server.place(offer.replace("m=audio", "m=video")))


def test_with_opus_both_ways_every_packet_has_an_answer(tmp_path):
    with fastpath(tmp_path, "bench.calls.agents:Repeat") as server:
        window = run(server)
        assert abs(window.lost) <= 2 * CALLS  # a pause may add or take a frame
        assert window.wrong == 0


def test_aiortc_answers_the_same_clients(tmp_path):
    with aiortc(tmp_path, "echo") as server:
        window = run(server)
        assert window.replies > CALLS * 50 * SECONDS * 0.8
        assert window.wrong == 0


@pytest.mark.skipif(not {0, 1} <= os.sched_getaffinity(0), reason="needs CPU 0 and CPU 1")
def test_a_sample_is_cost_a_session_second():
    *_, theirs = contestants(1, 1, 2)
    found = one_turn(theirs, 0.1, 0.5)
    assert found["sessions"] == 2
    assert found["cpu_ms"] == pytest.approx(found["cpu_share"] * 1000 / 2)
    assert "looks" not in found


def test_the_first_ipv4_candidate_is_taken():
    answer = (
        "a=candidate:1 1 udp 1 fd00::2 1000 typ host\r\na=candidate:2 1 UDP 2 192.0.2.2 1001 typ host\r\n"
        "a=candidate:3 1 udp 3 192.0.2.3 1002 typ host\r\n"
    )
    assert candidate_of(answer) == ("192.0.2.2", 1001)
    with pytest.raises(RuntimeError, match="no IPv4 candidate"):
        candidate_of("a=candidate:1 1 tcp 1 192.0.2.2 9 typ host\r\n")
