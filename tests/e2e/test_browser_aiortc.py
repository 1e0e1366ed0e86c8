"""A real browser's call: headless Chromium → relay → unmodified aiortc, audio both ways for 20 seconds."""

from pathlib import Path

from tests.support.browser import (
    browser_page,
    call_stats,
    loudest_frequency_hz,
    selected_remote_candidate,
    write_tone,
)
from tests.support.calls import aiortc_server, assert_only_relay, candidate_lines, relay_for
from tests.support.require import require

TALK_MS = 20_000
PACKETS_MIN = 900
TONE_HZ = 1000
TONE_TOLERANCE_HZ = 15


def test_browser_talks_through_the_relay(tmp_path: Path) -> None:
    browser = require("chromium")
    microphone = write_tone(tmp_path / "tone.wav", TONE_HZ)
    with (
        relay_for("aiortc", tmp_path) as relay,
        aiortc_server(relay, tmp_path) as address,
        browser_page(browser, microphone) as page,
    ):
        page.goto(address)
        page.uncheck("#processing")  # noise suppression would take the tone for noise
        with page.expect_response("**/offer") as exchange:
            page.click("#start")
        page.wait_for_function("window.calls.at(-1).connectionState === 'connected'")
        page.wait_for_timeout(TALK_MS)
        heard_hz = loudest_frequency_hz(page)
        stats = call_stats(page)

        body = exchange.value.json()
        assert body["candidates_removed"] > 0
        assert not candidate_lines(body["offer"])
        assert_only_relay(body["sdp"], relay)
        remotes = {(s["address"], s["port"]) for s in stats if s["type"] == "remote-candidate"}
        assert remotes == {relay.listen}
        selected = selected_remote_candidate(stats)
        assert (selected["address"], selected["port"], selected["candidateType"]) == (*relay.listen, "host")

        inbound = next(s for s in stats if s["type"] == "inbound-rtp")
        outbound = next(s for s in stats if s["type"] == "outbound-rtp")
        assert abs(heard_hz - TONE_HZ) < TONE_TOLERANCE_HZ, "what comes back is not what the microphone heard"
        assert inbound["packetsLost"] == 0
        assert outbound["packetsSent"] >= PACKETS_MIN
        assert inbound["packetsReceived"] >= PACKETS_MIN
        assert relay.total("forwarded_datagrams", direction="up") >= outbound["packetsSent"]
        assert relay.total("forwarded_datagrams", direction="down") >= inbound["packetsReceived"]
        relay.assert_conservation()
        assert relay.drops() == {}
        assert page.inner_text("#state") == "connected"
        assert page.inner_text("#remote") == "{}:{}".format(*relay.listen)
