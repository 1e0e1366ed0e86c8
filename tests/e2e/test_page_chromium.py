"""The page in headless Chromium, on a whole edge as `pyfastpath up` starts it."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, Route

from pyfastpath.signalling.page import FOLDER
from tests.support import http
from tests.support.browser import browser_page, call_stats, selected_remote_candidate
from tests.support.edge import Edge, lone_gateway, running_edge
from tests.support.recording import RATE_HZ, loudest_hz, record, words_come_back, write_microphone
from tests.support.require import require
from tests.support.screens import assert_fits, photograph
from tests.support.speech import speech

WORDS = "Parrots repeat whatever people say to them."
OTHER_WORDS = "Yesterday the heavy rain flooded every cellar."
ALIKE = 0.6  # measured: the words that were spoken 0.86, others 0.31
PAUSE_S = 2.0
LIVE_MS = 20_000
LOST_WITHIN_S = 5.0
CALLS = "**/v1/realtime/calls"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    require("chromium", "espeak-ng")
    with running_edge(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The words, and then a pause long enough for the parrot to say them too."""
    spoken = speech(RATE_HZ, WORDS)
    return write_microphone(
        tmp_path_factory.mktemp("microphone") / "words.wav", spoken, len(spoken) / RATE_HZ + PAUSE_S
    )


@contextmanager
def opened(url: str, microphone: Path | str) -> Iterator[Page]:
    """The page, whose script makes no error; its microphone as it is, without the browser's processing."""
    errors: list[str] = []
    with browser_page(require("chromium"), microphone) as page:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Security Policy" in said.text else None)
        page.goto(url)
        page.uncheck("#processing")
        yield page
        assert errors == []


def call(page: Page, agent: str = "parrot") -> None:
    """Start a call and wait until it is live."""
    page.click(f".agents label:has(input[value={agent}])")
    page.click("#call")
    page.wait_for_selector("body[data-state=live]", timeout=LIVE_MS)


def failure(page: Page, timeout_s: float = 20.0) -> tuple[str, str]:
    """Wait for the end of the call; the failure's code and what the page says of it."""
    page.wait_for_selector("body[data-state=ended][data-failed]", timeout=timeout_s * 1000)
    return str(page.get_attribute("body", "data-failed")), page.inner_text("#failure")


def changed(route: Route, pattern: str, replacement: str) -> None:
    """Let a request through, and change the answer on its way back."""
    reply = route.fetch()
    text, count = re.subn(pattern, replacement, reply.text())
    assert count
    route.fulfill(response=reply, body=text)


# ---- the words come back ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_parrot_says_the_words_that_were_spoken(edge: Edge, microphone: Path) -> None:
    spoken = speech(RATE_HZ, WORDS)
    with opened(edge.page, microphone) as page:
        call(page)
        heard = record(page, 2 * (2 * len(spoken) / RATE_HZ + PAUSE_S))  # two turns, wherever it began
        types = page.eval_on_selector_all("#events li", "lines => lines.map((line) => line.dataset.type)")
        remote = selected_remote_candidate(call_stats(page))
    assert words_come_back(heard, spoken) > ALIKE
    assert words_come_back(heard, speech(RATE_HZ, OTHER_WORDS)) < ALIKE, "any words would have passed"
    assert types[0] == "session.created"
    turn = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "response.created",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
    ]
    begun = types[types.index(turn[0]) :]
    assert [kind for kind in begun if kind in turn][: len(turn)] in (turn, [*turn[:3], turn[4], turn[3]])
    assert f"{remote['address']}:{remote['port']}" in edge.output.read_text(), "not through the relay"


@pytest.mark.slow
def test_the_address_that_is_printed_leads_to_the_agent_it_was_started_with(
    microphone: Path, tmp_path: Path
) -> None:
    """The agent of the examples says backwards what it hears."""
    spoken = speech(RATE_HZ, WORDS)
    with running_edge(tmp_path, "--agent", "examples.agents.backwards:Backwards") as edge:
        printed = f"{edge.page}/#own"
        assert printed in edge.output.read_text()
        with opened(printed, microphone) as page:
            page.click("#call")
            page.wait_for_selector("body[data-state=live]", timeout=LIVE_MS)
            heard = record(page, 2 * (2 * len(spoken) / RATE_HZ + PAUSE_S))
    assert words_come_back(heard[::-1], spoken) > ALIKE
    assert words_come_back(heard, spoken) < ALIKE


def test_the_tone_is_heard_and_every_step_and_number_is_shown(edge: Edge, microphone: Path) -> None:
    with opened(edge.page, microphone) as page:
        call(page, "tone")
        page.wait_for_selector("#steps-own [data-name=audio][data-step=done]")
        heard = record(page, 2)
        page.wait_for_timeout(1500)
        own = page.eval_on_selector_all(
            "#steps-own li", "rows => rows.map((row) => [row.dataset.name, row.lastChild.textContent])"
        )
        server = page.eval_on_selector_all("#steps-server li", "rows => rows.map((row) => row.dataset.name)")
        numbers = page.eval_on_selector_all("dd", "tiles => tiles.map((tile) => [tile.id, tile.textContent])")
        level = int(page.get_attribute("#agent", "aria-valuenow") or 0)
        assert page.evaluate("getComputedStyle(document.getElementById('clock')).display") != "none"
    assert loudest_hz(heard) > 100
    assert [name for name, _ in own] == ["microphone", "offer", "answer", "ice", "dtls", "audio"]
    assert all(re.fullmatch(r"[\d.]+ m?s", text) for _, text in own), own
    assert {"check", "handshake", "keys", "data", "media_in", "media_out"} <= set(server)
    assert {name for name, _ in numbers} == {
        f"number-{name}" for name in ("rtt", "jitter", "loss", "buffer", "sent", "received")
    }
    assert all(re.match(r"(< )?\d", text) for _, text in numbers), numbers
    assert level > 30


# ---- how it looks -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_state_looks_right_on_every_screen_light_and_dark(
    edge: Edge, microphone: Path, tmp_path: Path
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with opened(edge.page, microphone) as page:
        states = [page.get_attribute("body", "data-state")]
        pictures = photograph(page, tmp_path, "idle")
        page.route(CALLS, hold)
        with page.expect_request(CALLS):
            page.click("#call")
        states.append(page.get_attribute("body", "data-state"))
        pictures += photograph(page, tmp_path, "connecting")
        held[0].continue_()
        page.wait_for_selector("body[data-state=live]", timeout=LIVE_MS)
        page.wait_for_selector("#events [data-type='output_audio_buffer.started']")
        page.wait_for_timeout(1000)
        states.append(page.get_attribute("body", "data-state"))
        pictures += photograph(page, tmp_path, "live")
        page.click("#call")
        states.append(page.get_attribute("body", "data-state"))
        pictures += photograph(page, tmp_path, "ended")
    assert states == ["idle", "connecting", "live", "ended"]
    assert len({picture.read_bytes() for picture in pictures}) == 16


def test_it_fits_the_smallest_phone_and_works_by_keyboard(edge: Edge, microphone: Path) -> None:
    with opened(f"{edge.page}/#tone", microphone) as page:
        page.set_viewport_size({"width": 320, "height": 640})
        page.reload()  # the focus stands before the first control again
        assert_fits(page)
        assert page.inner_text("#agent-name") == "Tone"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "call"
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-state=live]", timeout=LIVE_MS)
        assert_fits(page)
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-state=ended]")
        assert page.inner_text("#call") == "Call again"


# ---- the end, wanted or not -------------------------------------------------------------------------


def test_a_hang_up_ends_the_session_at_once_and_the_microphone_is_free(edge: Edge, microphone: Path) -> None:
    with opened(edge.page, microphone) as page:
        page.evaluate(
            """() => {
              const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
              navigator.mediaDevices.getUserMedia = async (wish) => (window.microphone = await open(wish));
            }"""
        )
        call(page)
        with page.expect_response("**/hangup") as hung_up:
            page.click("#call")
        assert hung_up.value.ok
        assert page.get_attribute("body", "data-failed") is None
        assert page.evaluate("window.microphone.getTracks().every((track) => track.readyState === 'ended')")
        page.wait_for_timeout(1000)
        assert page.evaluate("window.calls.at(-1).connectionState") == "closed"
        call(page)  # and another one can be made


def test_a_page_that_is_left_ends_its_call_and_nobody_complains(edge: Edge, microphone: Path) -> None:
    with opened(edge.page, microphone) as page:
        before = sessions(edge)  # of browsers that were killed: consent has to expire
        call(page, "echo")
        (own,) = sessions(edge) - before
        page.goto("about:blank")
        deadline = time.monotonic() + LOST_WITHIN_S
        while own in sessions(edge):
            assert time.monotonic() < deadline, "the session outlives its page"
            time.sleep(0.1)
    time.sleep(1.5)  # longer than the pause between two comments of the event stream, which finds nobody
    for name in ("gateway", "t1", "t2"):
        assert not re.search(r"^\S+ (warning|error) .*", edge.log(name), re.MULTILINE), edge.log(name)


def sessions(edge: Edge) -> set[str]:
    """The sids of the calls of both transceivers."""
    found: set[str] = set()
    for name in ("t1", "t2"):
        status, said = http.ask(edge.directory / f"{name}.sock", "GET", "/v1/sessions")
        assert status == 200
        found |= {session["sid"] for session in said["sessions"]}
    return found


def test_a_call_that_the_server_ends_is_said_to_be_ended(edge: Edge, microphone: Path) -> None:
    with opened(edge.page, microphone) as page:
        with page.expect_response(CALLS) as placed:
            call(page)
        location = placed.value.headers["location"]
        urlopen(Request(f"{edge.page}{location}/hangup", method="POST"), timeout=5).close()
        code, text = failure(page, LOST_WITHIN_S)
    assert code == "closed"
    assert "ended the call" in text


@pytest.mark.slow
def test_a_killed_gateway_ends_no_call_and_a_killed_transceiver_is_known_within_five_seconds(
    edge: Edge, microphone: Path
) -> None:
    with opened(edge.page, microphone) as page:
        call(page, "echo")
        os.kill(edge.process("gateway"), signal.SIGKILL)
        page.wait_for_timeout(8000)  # the event stream breaks; the edge starts another gateway meanwhile
        assert page.get_attribute("body", "data-state") == "live"
        before = received(page)
        page.wait_for_timeout(1000)
        assert received(page) > before
        for name in ("t1", "t2"):
            os.kill(edge.process(name), signal.SIGKILL)
        began = time.monotonic()
        code, text = failure(page)
        assert time.monotonic() - began < LOST_WITHIN_S
        assert code == "lost"
        assert "transceiver" in text
        again_until(page, "live", 20)


def received(page: Page) -> int:
    """RTP packets the browser has got."""
    return int(next(s for s in call_stats(page) if s["type"] == "inbound-rtp")["packetsReceived"])


def again_until(page: Page, state: str, seconds: float) -> None:
    """Press the button until the call gets so far: those who died need a moment to come back."""
    deadline = time.monotonic() + seconds
    while page.get_attribute("body", "data-state") != state:
        assert time.monotonic() < deadline, page.inner_text("#failure")
        page.click("#call")
        page.wait_for_selector("body[data-state=live], body[data-state=ended]", timeout=LIVE_MS)
        page.wait_for_timeout(500)


# ---- what can go wrong before -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "code", "says"),
    [("none", "no_microphone", "no microphone"), ("refused", "refused", "was refused")],
)
def test_without_a_microphone_it_says_so(edge: Edge, device: str, code: str, says: str) -> None:
    with opened(edge.page, device) as page:
        page.click("#call")
        found, text = failure(page)
        assert (found, says in text) == (code, True)
        assert_fits(page)


def test_off_localhost_without_https_it_says_what_to_do(microphone: Path) -> None:
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

    def serve(route: Route) -> None:
        name = route.request.url.removeprefix("http://fastpath.test/").removeprefix("static/")
        path = FOLDER / (name or "index.html")
        route.fulfill(body=path.read_bytes(), content_type=types[path.suffix])

    with browser_page(require("chromium"), microphone) as page:
        page.route("http://fastpath.test/**", serve)
        page.goto("http://fastpath.test/")
        assert page.get_attribute("body", "data-failed") == "insecure"
        assert "--tls self-signed" in page.inner_text("#failure")
        assert page.is_disabled("#call")


def test_the_gateways_refusals_reach_the_reader(microphone: Path, tmp_path: Path) -> None:
    with (
        lone_gateway(tmp_path, 'api_keys = ["sk-0123456789abcdef"]\ncalls_per_minute = 3') as url,
        opened(url, microphone) as page,
    ):
        page.click("#call")
        assert failure(page)[0] == "http_401"
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.type("sk-0123456789abcdef")
        with page.expect_response(CALLS) as refused:
            page.keyboard.press("Enter")
        page.wait_for_selector("body[data-failed=http_503]")
        assert "transceiver" in page.inner_text("#failure")
        assert int(refused.value.headers["retry-after"]) > 0
        for _ in range(3):
            page.click("#call")
            page.wait_for_selector("body[data-state=ended]")
        assert failure(page)[0] == "http_429"
        assert page.inner_text("#failure")
        assert_fits(page)


def test_a_gateway_that_is_gone_is_said_to_be(microphone: Path, tmp_path: Path) -> None:
    require("chromium")
    with lone_gateway(tmp_path) as url, browser_page(require("chromium"), microphone) as page:
        page.goto(url)
        page.context.set_offline(True)
        page.click("#call")
        assert failure(page)[0] == "no_gateway"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "replacement", "codes", "says"),
    [
        (r"(a=ice-pwd:)....", r"\1wron", {"ice_failed"}, "No way through to the relay"),
        (r"(a=fingerprint:sha-256 )..:..", r"\g<1>00:00", {"dtls_failed", "closed"}, "handshake failed"),
        (r"a=ice-lite[\s\S]*", "a=nonsense", {"bad_answer"}, "cannot read"),
    ],
)
def test_an_answer_that_leads_nowhere_is_explained(
    edge: Edge, microphone: Path, pattern: str, replacement: str, codes: set[str], says: str
) -> None:
    with opened(edge.page, microphone) as page:
        page.route(CALLS, lambda route: changed(route, pattern, replacement))
        page.click("#call")
        code, text = failure(page, 40)
    assert code in codes
    assert says in text
