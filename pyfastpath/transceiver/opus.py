"""Opus (RFC 6716) by libopus through cffi: decode straight to an agent's rate, encode what it says.

Mono throughout: a stereo packet is mixed down by the decoder. Buffers are made once; the arrays handed out
are copies of their own, so an agent may keep them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from cffi import FFI

from pyfastpath.errors import FastpathError
from pyfastpath.transceiver.agent import Pcm

CLOCK_HZ: Final = 48_000  # RFC 7587, section 4.1: the RTP clock, whatever the audio's rate
FRAME_SAMPLES: Final = 960  # 20 ms of it
PACKET_SAMPLES_MAX: Final = 5_760  # 120 ms, RFC 6716, section 3.2.5

_LIBRARY: Final = "libopus.so.0"
_PACKET_BYTES_MAX: Final = 1_275  # of the one frame we make a packet of
_APPLICATION_VOIP: Final = 2048
_SET_BITRATE: Final = 4002
_SET_COMPLEXITY: Final = 4010
_SET_INBAND_FEC: Final = 4012
_SET_PACKET_LOSS_PERC: Final = 4014
_DECLARATIONS: Final = """
    typedef struct OpusEncoder OpusEncoder;
    typedef struct OpusDecoder OpusDecoder;
    OpusEncoder *opus_encoder_create(int32_t rate, int width, int application, int *error);
    int32_t opus_encode(OpusEncoder *, const int16_t *pcm, int samples, unsigned char *data, int32_t size);
    int opus_encoder_ctl(OpusEncoder *, int request, ...);
    void opus_encoder_destroy(OpusEncoder *);
    OpusDecoder *opus_decoder_create(int32_t rate, int width, int *error);
    int opus_decode(OpusDecoder *, const unsigned char *data, int32_t size, int16_t *pcm, int samples,
                    int fec);
    void opus_decoder_destroy(OpusDecoder *);
    const char *opus_strerror(int error);
"""


class OpusError(FastpathError):
    """libopus is missing, or refuses a packet or a setting."""


def _frame_samples(configuration: int) -> int:
    """Length of one frame of a configuration 0..31, at 48 kHz (RFC 6716, section 3.1, table 2)."""
    if configuration < 12:  # SILK
        return (480, 960, 1920, 2880)[configuration & 3]
    if configuration < 16:  # hybrid
        return (480, 960)[configuration & 1]
    return (120, 240, 480, 960)[configuration & 3]  # CELT


# First byte of a packet -> its length, when one or two frames follow; 0 when the second byte says how many.
_LENGTHS: Final = tuple(_frame_samples(toc >> 3) * (1, 2, 2, 0)[toc & 3] for toc in range(256))


def packet_samples(payload: bytes) -> int:
    """Length at 48 kHz by the packet's own words; 0 for what is no Opus packet.

    Also of a packet that says nothing else (discontinuous transmission): its length is still there.
    """
    if not payload:
        return 0
    samples = _LENGTHS[payload[0]]
    if samples:
        return samples
    if len(payload) < 2:
        return 0
    samples = _frame_samples(payload[0] >> 3) * (payload[1] & 0x3F)
    return samples if samples <= PACKET_SAMPLES_MAX else 0


def carries_fec(payload: bytes) -> bool:
    """Does this packet hold a copy of the frame before it (RFC 6716, section 4.2.4)?

    The flag is read where it lies at the beginning of the first frame: packets of one frame or two equal
    ones, which is what senders of speech make. Of others it says no.
    """
    if len(payload) < 2 or payload[0] & 0x02 or payload[0] >= 0x80:  # lengths in between, or CELT alone
        return False
    frames = max(1, _frame_samples(payload[0] >> 3) // FRAME_SAMPLES)
    flags = payload[1] >> (7 - frames) & 1
    if payload[0] & 0x04:  # stereo: the side's flags follow the mid's
        flags |= payload[1] >> (6 - 2 * frames) & 1
    return bool(flags)


@cache
def _library() -> tuple[FFI, Any]:
    """The library, loaded when it is first needed: everything else of the project works without."""
    ffi = FFI()
    ffi.cdef(_DECLARATIONS)
    try:
        return ffi, ffi.dlopen(_LIBRARY)
    except OSError as error:
        raise OpusError(
            f"{_LIBRARY} cannot be loaded: {error}", "Install it: apt-get install libopus0"
        ) from None


def _sentence(lib: Any, ffi: FFI, code: int) -> str:
    return str(ffi.string(lib.opus_strerror(code)).decode())


class Decoder:
    """One stream's decoder, mono, at 8, 12, 16, 24 or 48 kHz. State runs from packet to packet."""

    __slots__ = ("_decode", "_pcm", "_pointer", "_state", "rate_hz")

    def __init__(self, rate_hz: int) -> None:
        ffi, lib = _library()
        error = ffi.new("int *")
        state = lib.opus_decoder_create(rate_hz, 1, error)
        if error[0]:
            raise OpusError(f"no Opus decoder at {rate_hz} Hz: {_sentence(lib, ffi, error[0])}")
        self.rate_hz = rate_hz
        self._state = ffi.gc(state, lib.opus_decoder_destroy)
        self._decode = lib.opus_decode
        self._pcm = np.empty(PACKET_SAMPLES_MAX * rate_hz // CLOCK_HZ, dtype=np.int16)
        self._pointer = ffi.cast("int16_t *", self._pcm.ctypes.data)

    def decode(self, payload: bytes) -> Pcm:
        """The audio of a packet. Raises OpusError for what is none; then `conceal` its time."""
        return self._taken(self._decode(self._state, payload, len(payload), self._pointer, len(self._pcm), 0))

    def conceal(self, samples48: int) -> Pcm:
        """What may have been where nothing came; a multiple of 120 samples at 48 kHz, at most 120 ms."""
        samples = samples48 * self.rate_hz // CLOCK_HZ
        ffi, _ = _library()
        return self._taken(self._decode(self._state, ffi.NULL, 0, self._pointer, samples, 0))

    def recover(self, following: bytes, samples48: int) -> Pcm:
        """The frame before `following`, from the copy inside it (RFC 6716, section 2.1.7); concealed when
        it holds none. Decode `following` itself right afterwards.
        """
        samples = samples48 * self.rate_hz // CLOCK_HZ
        return self._taken(self._decode(self._state, following, len(following), self._pointer, samples, 1))

    def _taken(self, samples: int) -> Pcm:
        if samples < 0:
            ffi, lib = _library()
            raise OpusError(f"not an Opus packet: {_sentence(lib, ffi, samples)}")
        return self._pcm[:samples].copy()


class Encoder:
    """One encoder for speech: mono, VOIP, never silent (DTX off), in-band FEC as losses are expected.

    complexity 3 costs half of libopus' default 9 and is hard to tell apart in speech.
    """

    __slots__ = ("_encode", "_ffi", "_out", "_state", "frame_samples", "rate_hz")

    def __init__(self, rate_hz: int, *, complexity: int = 3, bitrate_bps: int = 32_000) -> None:
        ffi, lib = _library()
        error = ffi.new("int *")
        state = lib.opus_encoder_create(rate_hz, 1, _APPLICATION_VOIP, error)
        if error[0]:
            raise OpusError(f"no Opus encoder at {rate_hz} Hz: {_sentence(lib, ffi, error[0])}")
        self.rate_hz = rate_hz
        self.frame_samples = FRAME_SAMPLES * rate_hz // CLOCK_HZ
        self._ffi = ffi
        self._state = ffi.gc(state, lib.opus_encoder_destroy)
        self._encode = lib.opus_encode
        self._out = ffi.new("unsigned char[]", _PACKET_BYTES_MAX)
        self._set(_SET_COMPLEXITY, complexity)
        self._set(_SET_BITRATE, bitrate_bps)
        self._set(_SET_INBAND_FEC, 1)

    def expect_loss(self, percent: int) -> None:
        """What the other side's reports say. At 0 no bits and no time go into copies of earlier frames."""
        self._set(_SET_PACKET_LOSS_PERC, percent)

    def encode(self, pcm: Pcm) -> bytes:
        """20 ms (`frame_samples`) of contiguous audio as one packet."""
        if len(pcm) != self.frame_samples:
            raise ValueError(f"{len(pcm)} samples are not the {self.frame_samples} of 20 ms")
        source = self._ffi.from_buffer("int16_t[]", pcm)
        size = self._encode(self._state, source, self.frame_samples, self._out, _PACKET_BYTES_MAX)
        if size < 0:
            ffi, lib = _library()
            raise OpusError(f"Opus could not encode: {_sentence(lib, ffi, size)}")
        return bytes(self._ffi.buffer(self._out, size))

    def _set(self, request: int, value: int) -> None:
        ffi, lib = _library()
        code = lib.opus_encoder_ctl(self._state, request, ffi.cast("int32_t", value))
        if code:
            raise OpusError(f"Opus refuses {value} for setting {request}: {_sentence(lib, ffi, code)}")
