"""A headless Chromium that calls: a WAV file is its microphone, its RTCPeerConnections can be asked."""

import math
import struct
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from examples.aiortc_echo.addresses import own_addresses

RATE_HZ = 48_000
# The distribution's /usr/bin/chromium is a shell script; playwright must hold the real process.
WRAPPED = {"/usr/bin/chromium": Path("/usr/lib/chromium/chromium")}
KEEP_CALLS = """
window.calls = [];
const Native = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Native {
  constructor(...args) { super(...args); window.calls.push(this); }
};
"""


def write_tone(path: Path, frequency_hz: int, seconds: int = 2) -> Path:
    """A 48 kHz mono 16-bit WAV of a steady tone. Whole periods, as Chromium plays the file in a loop."""
    samples = (
        int(12_000 * math.sin(2 * math.pi * frequency_hz * n / RATE_HZ)) for n in range(RATE_HZ * seconds)
    )
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return path


MICROPHONES = {  # what a browser without a WAV file has instead
    "none": ["--disable-audio-input", "--use-fake-ui-for-media-stream"],
    "refused": ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny"],
}


@contextmanager
def browser_page(browser: str, microphone: Path | str) -> Iterator[Page]:
    """An empty page of a fresh headless browser whose microphone is the WAV file; closed at the end.

    In place of a file: "none", there is no microphone; "refused", the user does not allow it.
    """
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio", "--disable-gpu"]
    if isinstance(microphone, str):
        flags += MICROPHONES[microphone]
    else:
        flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        flags.append(f"--use-file-for-fake-audio-capture={microphone}")
    if not own_addresses():  # a container without a network: there Chromium would gather nothing
        flags.append("--allow-loopback-in-peer-connection")
    real = WRAPPED.get(browser, Path(browser))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=real, args=flags)
        try:
            page = chromium.new_page()
            page.add_init_script(KEEP_CALLS)
            yield page
        finally:
            chromium.close()


def call_stats(page: Page) -> list[dict[str, Any]]:
    """getStats of the page's newest RTCPeerConnection."""
    script = "async () => [...(await window.calls.at(-1).getStats()).values()]"
    stats: list[dict[str, Any]] = page.evaluate(script)
    return stats


def selected_remote_candidate(stats: list[dict[str, Any]]) -> dict[str, Any]:
    """The remote candidate of the transport's selected pair."""
    by_id = {stat["id"]: stat for stat in stats}
    transport = next(stat for stat in stats if stat["type"] == "transport")
    return by_id[by_id[transport["selectedCandidatePairId"]]["remoteCandidateId"]]


def loudest_frequency_hz(page: Page) -> float:
    """What the page's <audio> element plays: the loudest frequency of its stream, 0 for silence."""
    hertz: float = page.evaluate(
        """async () => {
          const audio = new AudioContext();
          const analyser = audio.createAnalyser();
          analyser.fftSize = 8192;
          audio.createMediaStreamSource(document.querySelector("audio").srcObject).connect(analyser);
          await new Promise((resolve) => setTimeout(resolve, 400));
          const decibels = new Float32Array(analyser.frequencyBinCount);
          analyser.getFloatFrequencyData(decibels);
          const loudest = decibels.indexOf(Math.max(...decibels));
          const hertz = (loudest * audio.sampleRate) / analyser.fftSize;
          await audio.close();
          return decibels[loudest] > -80 ? hertz : 0;
        }"""
    )
    return hertz
