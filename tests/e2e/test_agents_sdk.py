"""The unmodified npm package @openai/agents-realtime calls `pyfastpath up`, by a page of the examples.

Only the SDK's base URL and key are ours. The microphone says a sentence again and again; the parrot answers.
"""

import json
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from pyfastpath.tools.ports import free_port
from tests.support.browser import browser_page, call_stats
from tests.support.child import running_child
from tests.support.edge import running_edge
from tests.support.npm import install
from tests.support.recording import RATE_HZ, write_microphone
from tests.support.require import require
from tests.support.speech import speech

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "openai_sdk_page"


@pytest.fixture(scope="module", autouse=True)
def sdk() -> None:
    """The SDK as npm installs it."""
    require("chromium", "espeak-ng")
    install(EXAMPLE)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole edge on this machine, whose agent is the parrot."""
    with running_edge(tmp_path_factory.mktemp("edge"), "--agent", "parrot") as edge:
        yield edge.page.rstrip("/")


@pytest.fixture
def pause_s() -> float:
    """How long the microphone is silent between two sentences of four and a half seconds."""
    return 5.5


@pytest.fixture
def sdk_page(gateway: str, tmp_path: Path, pause_s: float) -> Iterator[Page]:
    """The example's page in a browser whose microphone speaks."""
    browser = require("chromium")
    microphone = write_microphone(tmp_path / "sentence.wav", speech(RATE_HZ), pause_s)
    with sdk_server(gateway, tmp_path) as address, browser_page(browser, microphone) as page:
        page.goto(address)
        yield page


def sdk_server(gateway: str, folder: Path) -> AbstractContextManager[str]:
    """The example's own server; gives the page's address."""
    command = [sys.executable, "-m", "examples.openai_sdk_page", "--gateway", gateway]
    command += ["--port", str(free_port(socket.SOCK_STREAM))]
    return running_child(command, says="page:", log=folder / "page.log")


def connect(page: Page) -> None:
    page.click("#connect")
    page.wait_for_function("!['idle', 'connecting'].includes(document.querySelector('#state').textContent)")
    assert page.inner_text("#state") == "connected"


def wait_for(page: Page, kind: str, count: int = 1) -> dict[str, Any]:
    """The count-th event of this kind, once it is there."""
    selector = f"#events li[data-type='{kind}']"
    page.wait_for_function("([s, n]) => document.querySelectorAll(s).length >= n", arg=[selector, count])
    event: dict[str, Any] = json.loads(page.locator(selector).nth(count - 1).inner_text())
    return event


def kinds(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('#events li')].map((l) => l.dataset.type)"
    )
    return found


def energy_of_half_a_second(page: Page) -> float:
    """How much sound the SDK's RTCPeerConnection gives in 500 ms (getStats: totalAudioEnergy)."""

    def total() -> float:
        return float(next(s for s in call_stats(page) if s["type"] == "inbound-rtp")["totalAudioEnergy"])

    before = total()
    page.wait_for_timeout(500)
    return total() - before


def test_the_sdk_connects_hears_interrupts_and_writes(sdk_page: Page) -> None:
    page = sdk_page
    connect(page)
    created = wait_for(page, "session.created")["session"]
    assert created["object"] == "realtime.session"
    updated = wait_for(page, "session.updated")["session"]
    assert updated["instructions"] == "Be kind and brief."  # what the SDK's session.update said
    assert updated["audio"]["input"]["turn_detection"]["type"] == "semantic_vad"
    assert wait_for(page, "session.updated", 2)["session"]["tracing"] == "auto"  # the SDK's second one

    wait_for(page, "input_audio_buffer.speech_stopped")
    response = wait_for(page, "response.created")["response"]["id"]
    wait_for(page, "output_audio_buffer.started")
    page.wait_for_timeout(500)
    windows = (energy_of_half_a_second(page) for _ in range(4))  # a busy machine plays it later
    speaking = next((energy for energy in windows if energy > 1e-3), 0.0)
    assert speaking > 0, "the answer is not to be heard"

    page.click("#interrupt")
    done = wait_for(page, "response.done")["response"]
    assert (done["id"], done["status"]) == (response, "cancelled")
    assert done["status_details"]["reason"] == "client_cancelled"
    assert wait_for(page, "output_audio_buffer.cleared")["response_id"] == response
    truncated = wait_for(page, "conversation.item.truncated")
    assert 300 < truncated["audio_end_ms"] < 3_000
    wait_for(page, "conversation.item.retrieved")  # the SDK asks for what is left of it
    page.wait_for_timeout(500)
    assert energy_of_half_a_second(page) < speaking / 50, "it still speaks"

    page.fill("#text", "And now in writing")
    page.press("#text", "Enter")
    wait_for(page, "response.created", 2)
    history = page.locator("#history li").all_inner_texts()
    assert history[0].startswith("user:")
    assert history[1].startswith("assistant:")
    assert any("And now in writing" in line for line in history)
    assert not {"error", "sdk_error"} & set(kinds(page))

    page.click("#hang-up")
    page.wait_for_function("document.querySelector('#state').textContent === 'ended'")


@pytest.mark.parametrize("pause_s", [2.5])
def test_the_user_interrupts_by_speaking(sdk_page: Page) -> None:
    """The next sentence begins while the parrot still repeats the one before: nobody presses a button."""
    page = sdk_page
    connect(page)
    response = wait_for(page, "response.created")["response"]["id"]
    wait_for(page, "output_audio_buffer.started")
    wait_for(page, "input_audio_buffer.speech_started", 2)
    done = wait_for(page, "response.done")["response"]
    assert (done["id"], done["status"]) == (response, "cancelled")
    assert done["status_details"]["reason"] == "turn_detected"
    assert wait_for(page, "output_audio_buffer.cleared")["response_id"] == response
    assert wait_for(page, "conversation.item.truncated")["audio_end_ms"] > 0
    assert wait_for(page, "response.created", 2)["response"]["id"] != response
    assert not {"error", "sdk_error"} & set(kinds(page))


def test_a_tool_of_the_page_is_called(tmp_path: Path) -> None:
    """The agent of examples/agents asks for the page's tool, the SDK runs it, the agent says the result."""
    microphone = write_microphone(tmp_path / "silence.wav", speech(RATE_HZ)[:0], 1)
    with (
        running_edge(tmp_path, "--agent", "examples.agents.dice:Dice") as edge,
        sdk_server(edge.page.rstrip("/"), tmp_path) as address,
        browser_page(require("chromium"), microphone) as page,
    ):
        page.goto(address)
        connect(page)
        page.fill("#text", "Roll")
        page.press("#text", "Enter")
        call = wait_for(page, "response.output_item.done")["item"]
        assert (call["type"], call["name"]) == ("function_call", "roll_die")
        assert wait_for(page, "response.done")["response"]["output"] == [call]
        second = wait_for(page, "response.done", 2)["response"]
        assert second["status"] == "completed"
        assert re.fullmatch(r"You rolled [1-6]\.", second["output"][0]["content"][0]["transcript"])
        wait_for(page, "output_audio_buffer.stopped")
        assert not {"error", "sdk_error"} & set(kinds(page))


def test_a_gateway_that_is_not_there_is_told(tmp_path: Path) -> None:
    browser = require("chromium")
    gateway = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    with (
        sdk_server(gateway, tmp_path) as address,
        browser_page(browser, write_microphone(tmp_path / "sentence.wav", speech(RATE_HZ), 1)) as page,
    ):
        page.goto(address)
        page.click("#connect")
        page.wait_for_function("document.querySelector('#state').textContent.includes('gateway')")
        assert page.is_enabled("#connect")
