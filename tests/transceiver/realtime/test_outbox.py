"""Events wait for a data channel only while there is one."""

from __future__ import annotations

import json

from pyfastpath.transceiver.realtime.outbox import Outbox
from tests.support.story import counted_ids


def test_events_leave_in_order_with_names_of_their_own():
    outbox = Outbox(counted_ids())
    assert outbox.open()
    outbox.put({"type": "a"})
    outbox.put({"type": "b", "event_id": "theirs"})
    assert [json.loads(text) for text in iter(outbox.pop, None)] == [
        {"type": "a", "event_id": "event_1"},
        {"type": "b", "event_id": "theirs"},
    ]


def test_an_event_is_sent_as_it_was_when_it_was_put():
    outbox = Outbox(counted_ids())
    outbox.open()
    event = {"type": "a", "list": [1]}
    outbox.put(event)
    event["list"].append(2)
    assert json.loads(outbox.pop() or "")["list"] == [1]


def test_nothing_piles_up_without_a_data_channel():
    outbox = Outbox(counted_ids())
    outbox.put({"type": "early"})
    assert outbox.pop() is None
    assert outbox.open()
    assert not outbox.open()
    outbox.put({"type": "a"})
    outbox.close()
    outbox.put({"type": "late"})
    assert outbox.open()
    assert outbox.pop() is None
