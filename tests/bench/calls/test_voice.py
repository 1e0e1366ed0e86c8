"""The sound of the load: real Opus, neither silence nor noise."""

import numpy as np

from bench.calls.voice import SECONDS, voice
from pyfastpath.transceiver.opus import FRAME_SAMPLES, Decoder, packet_samples


def test_it_is_fifty_packets_a_second_of_twenty_milliseconds():
    packets = [payload for payload, _ in voice()]
    assert len(packets) == 50 * SECONDS
    assert {packet_samples(payload) for payload in packets} == {FRAME_SAMPLES}
    assert 3 < len(packets[0]) < 400


def test_it_speaks_and_it_pauses():
    levels = [level for _, level in voice()]
    assert max(levels) > -30
    assert min(levels) < -45
    decoder = Decoder(24_000)
    pcm = np.concatenate([decoder.decode(payload) for payload, _ in voice()])
    assert 1_000 < np.sqrt(np.mean(np.square(pcm.astype(float)))) < 8_000
