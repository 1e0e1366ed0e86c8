"""A good call has no fault; each thing that may be wrong is one."""

import dataclasses
import math

import pytest

from pyfastpath.tools.relay_numbers import RelayNumbers
from pyfastpath.tools.selfcall import CallReport
from pyfastpath.tools.verdict import find_faults, report

RELAY = ("127.0.0.1:3478",)
CALL = CallReport(
    candidates=RELAY,
    remotes=RELAY,
    answer_ms=5.0,
    connected_ms=40.0,
    event_ms=46.0,
    first_event="session.created",
    steps_ms={"check": 5.0, "keys": 34.5},
    packets_sent=200,
    packets_received=199,
    bursts_sent=4,
    bursts_heard=3,
    network_ms=4.0,
    audio_ms=None,
)
NUMBERS = RelayNumbers(240, 230, {}, 0, 0, {0.0001: 400, 0.001: 470})


def test_a_good_call_has_no_fault():
    assert list(find_faults(CALL, NUMBERS, RELAY)) == []


@pytest.mark.parametrize(
    ("call", "numbers", "word"),
    [
        ({"candidates": ("127.0.0.1:9",)}, {}, "other addresses"),
        ({"candidates": ()}, {}, "none"),
        ({"bursts_heard": 2}, {}, "2 of 4 tone bursts"),
        ({"bursts_sent": 1, "bursts_heard": 0}, {}, "1 of 1 tone bursts"),
        ({"first_event": "", "event_ms": None}, {}, "nothing, not with session.created"),
        ({"first_event": "error"}, {}, "began with error"),
        ({}, {"forwarded_up": 199}, "went past it"),
        ({}, {"forwarded_down": 198}, "went past it"),
        ({}, {"dropped": {"bad_tag": 2}}, "bad_tag"),
        ({}, {"kernel_dropped": 1}, "1 by the kernel"),
        ({}, {"unaccounted": 3}, "3 datagrams are not accounted for"),
    ],
)
def test_each_thing_that_is_wrong_is_a_fault(call, numbers, word):
    (fault,) = find_faults(dataclasses.replace(CALL, **call), dataclasses.replace(NUMBERS, **numbers), RELAY)
    assert word in fault


def test_the_report_says_what_was_seen():
    text = report(CALL, dataclasses.replace(NUMBERS, dropped={"bad_tag": 2}), "echo")
    assert "(relay, called at 127.0.0.1)" in report(CALL, NUMBERS, "echo", via="127.0.0.1")
    slow = dataclasses.replace(NUMBERS, residence={0.0001: 1, 0.001: 2, math.inf: 470})
    assert "> 1 ms (p50), > 1 ms (p99)" in report(CALL, slow, "echo")
    for words in (
        "client → 127.0.0.1:3478 (relay) → transceiver → echo",
        "answer 5 ms, connected 40 ms, first event 46 ms",
        "check 5 ms, keys 34.5 ms",
        "3 of 4 tone bursts came back; 200 RTP packets out, 199 back",
        "470 datagrams (240 up, 230 down)",
        "2 (2 bad_tag)",
        "≤ 0.1 ms (p50), ≤ 1 ms (p99)",
        "RTCP round trip 4 ms; audio round trip unknown",
    ):
        assert words in text
