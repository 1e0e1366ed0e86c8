"""What a self-call says when there is nobody to call; a call that works is in tests/e2e/test_make_run.py."""

import socket

import pytest
from aiohttp import web

from pyfastpath.tools import selfcall
from pyfastpath.tools.ports import free_port
from pyfastpath.tools.selfcall import CallError, SelfCall
from tests.support.rtc_client import RtcClient


@pytest.fixture
async def gateway():
    """A function that serves one answer to POST /v1/realtime/calls; gives the gateway's URL."""
    runners = []

    async def serve(status: int, text: str) -> str:
        async def create(request: web.Request) -> web.Response:
            assert request.query["model"] == "echo"
            assert request.content_type == "application/sdp"
            headers = {"Location": "https://voice.example.org/v1/realtime/calls/rtc_1"}
            return web.Response(status=status, text=text, headers=headers)

        app = web.Application()
        app.router.add_post("/v1/realtime/calls", create)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


async def placed(url: str) -> None:
    call = SelfCall(url)
    try:
        await call.place()
    finally:
        await call.close()


async def test_nobody_answers():
    url = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    with pytest.raises(CallError, match=f"the gateway at {url} does not answer"):
        await placed(url)


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"error": {"message": "no room. Wait."}}', "no room. Wait."), ("nonsense", "HTTP 503")],
)
async def test_a_refusal_is_passed_on(gateway, text, words):
    with pytest.raises(CallError, match=f"refuses the call: {words}"):
        await placed(await gateway(503, text))


async def test_an_answer_that_leads_nowhere(gateway, monkeypatch):
    monkeypatch.setattr(selfcall, "CONNECT_TIMEOUT_S", 0.5)
    nowhere = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    line = "a=candidate:1 1 udp 2130706431 {} {} typ host\r\n".format(*nowhere.split(":"))
    offer = RtcClient(setup="passive").offer()
    url = await gateway(201, offer.replace("m=application", f"{line}m=application"))
    with pytest.raises(CallError, match=f"no connection through {nowhere}"):
        await placed(url)
