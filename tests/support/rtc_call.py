"""A whole session and its client in virtual time, with its data channel's texts and a voice to speak with."""

import json
from typing import Any

import numpy as np

from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.answering import Answering
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.events import TextToSend
from pyfastpath.transceiver.opus import Encoder
from pyfastpath.transceiver.requests import CreateSession
from tests.support.rtc_client import RtcClient, certificate
from tests.support.rtc_pair import Pair, entropy

LONGEST_S = 600.0


class Call(Pair):
    """A session made from an offer, with the texts of its data channel."""

    def __init__(self, agent: Agent, session: dict[str, Any] | None = None) -> None:
        self.counters = Counters()
        self.woken = 0
        self.answering = Answering(
            certificate=certificate(),
            counters=self.counters,
            entropy=entropy(),
            agents=lambda wanted: agent,
            ntp_offset_s=1.8e9,
            longest_s=LONGEST_S,
        )
        client = RtcClient()
        self.request = CreateSession(1, "rtc_1", "server", client.offer(), (), session or {})
        self.made = self.answering.answer(self.request, 1000.0, self._woken)
        client.accept(self.made.answer)
        super().__init__(self.made.session, client)
        self.encoder = Encoder(48_000)

    def _woken(self) -> None:
        self.woken += 1

    @property
    def state(self) -> str:
        return self.made.session.state

    @property
    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(event.text) for event in self.events if isinstance(event, TextToSend)]

    def speak(self, seconds: float, level: int) -> None:
        """Frames of 20 ms in real time: a buzz when loud, silence when not."""
        for _ in range(round(seconds * 50)):
            amplitude = 8000 if level > -60 else 0
            pcm = (amplitude * np.sign(np.sin(np.arange(960) / 20))).astype(np.int16)
            self.up(self.client.audio(self.encoder.encode(pcm), level=level))
            self.run(0.02)
