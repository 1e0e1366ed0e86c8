"""Opus: what goes in comes out, losses are repaired, what is no packet is refused."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfastpath.transceiver.opus import (
    FRAME_SAMPLES,
    Decoder,
    Encoder,
    OpusError,
    carries_fec,
    packet_samples,
)
from tests.support.speech import Pcm, likeness, resampled, speech


def packets(pcm: Pcm, encoder: Encoder) -> list[bytes]:
    size = encoder.frame_samples
    return [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


def error_of(heard: Pcm, wanted: Pcm) -> float:
    """Energy of the difference, as a part of the energy wanted."""
    difference = heard.astype(np.float64) - wanted
    return float(np.dot(difference, difference) / np.dot(wanted.astype(np.float64), wanted))


@pytest.mark.parametrize("to_hz", [16_000, 24_000])
@pytest.mark.parametrize("from_hz", [16_000, 24_000, 48_000])
def test_speech_comes_through(from_hz: int, to_hz: int) -> None:
    spoken = speech(from_hz)
    decoder = Decoder(to_hz)
    made = packets(spoken, Encoder(from_hz))
    heard = np.concatenate([decoder.decode(packet) for packet in made])
    assert len(heard) == len(made) * to_hz // 50
    assert all(packet_samples(packet) == FRAME_SAMPLES for packet in made)
    wanted = resampled(spoken, from_hz, to_hz)[: to_hz * 2]
    alike, delay = likeness(heard, wanted, within=to_hz // 20)
    assert alike > 0.9
    assert 0 < delay < to_hz // 50  # the codec's look-ahead: less than a frame


def test_arrays_are_the_callers_own() -> None:
    made = packets(speech(24_000), Encoder(24_000))
    decoder = Decoder(24_000)
    first = decoder.decode(made[20])
    kept = first.copy()
    decoder.decode(made[21])
    assert np.array_equal(first, kept)


def test_a_stereo_packet_is_mixed_down() -> None:
    decoder = Decoder(24_000)
    stereo = bytes([0x78 | 0x04, 0xFF, 0xFE])  # hybrid, full band, 20 ms, stereo bit
    assert len(decoder.decode(stereo)) == 480


def test_a_lost_frame_is_recovered_from_the_next_packet_if_losses_were_expected() -> None:
    spoken = speech(24_000)
    encoder = Encoder(24_000)
    encoder.expect_loss(20)
    made = packets(spoken, encoder)
    whole = Decoder(24_000)
    clean = [whole.decode(packet) for packet in made]
    loud = [n for n in range(20, len(made) - 1) if np.abs(clean[n]).max() > 4_000]
    recovered_better = 0
    for lost in loud:
        repaired, concealed = Decoder(24_000), Decoder(24_000)
        for packet in made[:lost]:
            repaired.decode(packet)
            concealed.decode(packet)
        by_copy = repaired.recover(made[lost + 1], FRAME_SAMPLES)
        by_guess = concealed.conceal(FRAME_SAMPLES)
        assert len(by_copy) == len(by_guess) == 480
        recovered_better += error_of(by_copy, clean[lost]) < error_of(by_guess, clean[lost])
    assert recovered_better > 0.8 * len(loud) > 20


def test_expecting_no_loss_costs_no_bits() -> None:
    careless, careful = Encoder(24_000), Encoder(24_000)
    careful.expect_loss(20)
    spoken = speech(24_000)
    decoder = Decoder(24_000)
    made = packets(spoken, careless)
    for packet in made[:50]:
        decoder.decode(packet)
    assert made[:50] != packets(spoken, careful)[:50]


@pytest.mark.parametrize("samples", [480, 960, 1920, 5760])
def test_concealment_has_the_length_that_is_asked_for(samples: int) -> None:
    assert len(Decoder(16_000).conceal(samples)) == samples // 3


def test_no_packets_are_refused() -> None:
    decoder = Decoder(24_000)
    for payload in (b"\xff", b"\xff\xff", b"\x03", bytes([0x7B, 0x3F]) + bytes(100)):
        assert packet_samples(payload) == 0
        with pytest.raises(OpusError, match="not an Opus packet"):
            decoder.decode(payload)
    spoken = packets(speech(24_000), Encoder(24_000))
    assert len(decoder.decode(spoken[0])) == 480  # and the decoder lives on


def test_what_opus_does_not_know_is_refused() -> None:
    for make in (Decoder, Encoder):
        with pytest.raises(OpusError, match="44100 Hz"):
            make(44_100)
    with pytest.raises(OpusError, match="refuses 11"):
        Encoder(24_000, complexity=11)
    with pytest.raises(OpusError, match="refuses 101"):
        Encoder(24_000).expect_loss(101)
    with pytest.raises(ValueError, match="481 samples are not the 480 of 20 ms"):
        Encoder(24_000).encode(np.zeros(481, np.int16))


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_the_length_of_a_packet_is_what_libopus_says(payload: bytes) -> None:
    library = ctypes.CDLL("libopus.so.0")
    said = library.opus_packet_get_nb_samples(payload, len(payload), 48_000)
    assert packet_samples(payload) == max(0, said)
    if payload:
        for toc in range(256):
            other = bytes([toc]) + payload[1:]
            assert packet_samples(other) == max(
                0, library.opus_packet_get_nb_samples(other, len(other), 48_000)
            )


def test_packets_that_carry_a_copy_of_the_frame_before_say_so() -> None:
    encoder = Encoder(24_000)
    spoken = speech(24_000)
    assert not any(carries_fec(packet) for packet in packets(spoken, encoder))
    encoder.expect_loss(20)
    careful = packets(spoken, encoder)
    assert sum(carries_fec(packet) for packet in careful) > 0.5 * len(careful)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", False),
        (b"\x48", False),  # one byte: nothing was sent
        (b"\x48\x40", True),  # SILK, 20 ms: voice flag, then the flag
        (b"\x48\x80", False),
        (b"\x50\x20", True),  # SILK, 40 ms: two voice flags before it
        (b"\x50\x40", False),
        (b"\x4c\x10", True),  # stereo: the side's flag
        (b"\x49\x40", True),  # two frames of one size: the first begins at once
        (b"\x4a\x40", False),  # frames with lengths between: not looked into
        (b"\xf8\x40", False),  # CELT has none
    ],
)
def test_the_flag_is_found_where_it_lies(payload: bytes, says: bool) -> None:
    assert carries_fec(payload) is says
