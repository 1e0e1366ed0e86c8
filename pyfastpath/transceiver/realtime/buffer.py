"""The input audio buffer: what the user has said since the last commit, by name and length, not by sample."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from pyfastpath.transceiver.dialogue import Ids
from pyfastpath.transceiver.realtime.events import EventError

COMMIT_MS_MIN: Final = 100  # the API's own bound: less than this is no utterance
PCM_BYTES_PER_MS: Final = 48  # 16 bits at 24 kHz


class InputBuffer:
    """Audio arrives in real time over RTP, so its length is the time since the last commit; what came over
    the data channel is added."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._item_id: str | None = None
        self._since_s: float | None = None  # nothing can be committed before the data channel is open
        self._appended_ms = 0.0

    @property
    def item_id(self) -> str:
        """The id of the item this will become."""
        self._item_id = self._item_id or self._ids("item")
        return self._item_id

    def start(self, now: float) -> None:
        """From now on the client can commit."""
        if self._since_s is None:
            self._since_s = now

    def append(self, audio: str) -> None:
        """Audio of input_audio_buffer.append. Raises EventError."""
        try:
            pcm = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise EventError("invalid_value", "audio is not base64", param="audio") from None
        if len(pcm) % 2:
            raise EventError("invalid_value", "audio is not 16-bit PCM: half a sample", param="audio")
        self._appended_ms += len(pcm) / PCM_BYTES_PER_MS

    def require_utterance(self, now: float) -> None:
        """Raises EventError when there is too little for an item."""
        length_ms = (now - (self._since_s or now)) * 1000 + self._appended_ms
        if length_ms < COMMIT_MS_MIN:
            raise EventError(
                "input_audio_buffer_commit_empty",
                f"The input audio buffer has {length_ms:.0f} ms of audio, a commit needs {COMMIT_MS_MIN} ms",
            )

    def clear(self, now: float) -> None:
        """Begin anew, with a new name."""
        self._item_id = None
        self._since_s = now
        self._appended_ms = 0.0
