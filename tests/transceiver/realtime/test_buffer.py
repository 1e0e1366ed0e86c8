"""How much the user has said since the last commit."""

from __future__ import annotations

import base64

import pytest

from pyfastpath.transceiver.realtime.buffer import InputBuffer
from pyfastpath.transceiver.realtime.events import EventError
from tests.support.story import counted_ids


def test_audio_grows_with_time():
    buffer = InputBuffer(counted_ids())
    buffer.start(10.0)
    with pytest.raises(EventError, match="99 ms"):
        buffer.require_utterance(10.099)
    buffer.require_utterance(10.1001)
    buffer.start(10.09)  # a second data channel
    buffer.require_utterance(10.11)
    buffer.clear(10.2)
    with pytest.raises(EventError, match="50 ms"):
        buffer.require_utterance(10.25)


def test_audio_over_the_data_channel_counts():
    buffer = InputBuffer(counted_ids())
    for _ in range(10):
        buffer.append(base64.b64encode(bytes(480)).decode())
    buffer.require_utterance(5.0)
    buffer.clear(5.0)
    with pytest.raises(EventError):
        buffer.require_utterance(5.0)


@pytest.mark.parametrize("audio", ["é", "====", "A", base64.b64encode(bytes(3)).decode()])
def test_what_is_no_pcm_is_refused(audio):
    buffer = InputBuffer(counted_ids())
    with pytest.raises(EventError) as caught:
        buffer.append(audio)
    assert caught.value.param == "audio"


def test_a_name_lasts_until_the_commit():
    buffer = InputBuffer(counted_ids())
    assert buffer.item_id == buffer.item_id == "item_1"
    buffer.clear(0.0)
    assert buffer.item_id == "item_2"
