"""The control API over real HTTP: what a gateway may ask of a transceiver, and how it is refused."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession, web

from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.member import Member
from pyfastpath.transceiver.seat import WATCHES_MAX
from pyfastpath.transceiver.service import BODY_BYTES_MAX, Service
from tests.support.rtc_client import RtcClient
from tests.support.transceiver import open_endpoint

SID = "00000001a"
TOKEN = "0123456789abcdef"


def member() -> Member:
    return Member("t1", 5, 7, 3, "unix:/run/t1.sock")


@dataclass
class Client:
    """Asks one control API."""

    http: ClientSession
    base: str
    endpoint: Endpoint
    changes: list[None] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.http.request(method, self.base + path, data=data, headers=headers) as reply:
            said = await reply.read()
            return reply.status, json.loads(said) if said else None

    async def create(self, sid: str = SID, **changes: Any) -> tuple[int, Any]:
        return await self.ask("POST", "/v1/sessions", created(sid, **changes))


def created(sid: str = SID, **changes: Any) -> dict[str, Any]:
    return {
        "sid": sid,
        "call": "rtc_x",
        "ufrag": f"token{sid}",
        "offer": RtcClient().offer(),
        "candidates": ["203.0.113.9:3478", "[2001:db8::1]:3478"],
        "session": {"type": "realtime"},
    } | changes


@asynccontextmanager
async def serving(*, token: bytes = b"", capacity: int = 10) -> AsyncIterator[Client]:
    async with open_endpoint(capacity=capacity) as endpoint, ClientSession() as http:
        client = Client(http, "", endpoint)
        service = Service(endpoint, member(), lambda: client.changes.append(None))
        runner = web.AppRunner(service.app(token), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client.base = "http://127.0.0.1:{}".format(*runner.addresses[0][1:2])
        try:
            yield client
        finally:
            await runner.cleanup()


async def test_a_session_is_answered_shown_and_ended() -> None:
    async with serving() as client:
        status, said = await client.create()
        assert (status, said["sid"]) == (201, SID)
        assert f"a=ice-ufrag:token{SID}\r\n" in said["answer"]
        candidates = [line for line in said["answer"].splitlines() if line.startswith("a=candidate:")]
        assert [line.split()[4:6] for line in candidates] == [
            ["203.0.113.9", "3478"],
            ["2001:db8::1", "3478"],
        ]
        status, shown = await client.ask("GET", f"/v1/sessions/{SID}")
        assert status == 200
        assert (shown["sid"], shown["call"], shown["state"], shown["agent"]) == (
            SID,
            "rtc_x",
            "created",
            "echo",
        )
        assert (await client.ask("GET", "/v1/sessions"))[1]["sessions"][0]["sid"] == SID
        assert len(client.changes) == 1
        assert await client.ask("DELETE", f"/v1/sessions/{SID}") == (204, None)
        assert len(client.changes) == 2


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"offer": "nonsense"}, 400, None),
        ({"offer": ""}, 400, None),
        ({"sid": "xyz"}, 400, "bad_request"),
        ({"sid": "0123456789"}, 400, "bad_request"),
        ({"sid": 5}, 400, "bad_request"),
        ({"candidates": ["nowhere"]}, 400, "bad_request"),
        ({"candidates": "203.0.113.9:3478"}, 400, "bad_request"),
        ({"sessions": {}}, 400, "bad_request"),
        ({"session": []}, 400, "bad_request"),
    ],
)
async def test_a_bad_request_is_refused_with_a_reason(change: Any, status: int, code: str | None) -> None:
    async with serving() as client:
        found, said = await client.create(**change)
        assert found == status
        assert code in (None, said["error"]["code"])
        assert len(said["error"]["message"]) > 10
        assert len(client.endpoint) == 0
        assert not client.changes


async def test_a_bad_offer_names_its_line() -> None:
    async with serving() as client:
        offer = RtcClient().offer().replace("a=setup:actpass", "a=setup:maybe", 1)
        line = next(n for n, text in enumerate(offer.splitlines(), 1) if text == "a=setup:maybe")
        status, said = await client.create(offer=offer)
        assert status == 400
        assert said["error"]["line"] == line
        assert "setup" in said["error"]["message"]


async def test_bodies_that_are_no_json_or_too_long() -> None:
    async with serving() as client:
        for body in (b"", b"{", b"[]", b"\xff"):
            status, said = await client.ask("POST", "/v1/sessions", body)
            assert (status, said["error"]["code"]) == (400, "bad_request")
        status, said = await client.ask("POST", "/v1/sessions", b"x" * (BODY_BYTES_MAX + 1))
        assert (status, said["error"]["code"]) == (413, "too_large")


async def test_a_name_is_given_once() -> None:
    async with serving() as client:
        await client.create()
        status, said = await client.create()
        assert (status, said["error"]["code"]) == (409, "conflict")
        status, said = await client.create("00000001b", ufrag=f"token{SID}")
        assert (status, said["error"]["code"]) == (409, "conflict")
        assert len(client.endpoint) == 1


async def test_a_full_transceiver_and_a_draining_one_take_nothing() -> None:
    async with serving(capacity=1) as client:
        await client.create()
        status, said = await client.create("000000002")
        assert (status, said["error"]["code"]) == (503, "no_capacity")
        assert await client.ask("POST", "/v1/drain") == (
            200,
            {"draining": True, "sessions": 1, "done": False},
        )
        status, said = await client.create("000000003")
        assert (status, said["error"]["code"]) == (503, "draining")
        await client.ask("DELETE", "/v1/drain")
        assert (await client.ask("GET", "/v1/drain"))[1] == {"draining": False, "sessions": 1, "done": False}


@pytest.mark.parametrize("sid", ["00000000f", "nonsense", "0", "00000001A", "%00"])
async def test_an_unknown_session_is_not_found(sid: str) -> None:
    async with serving() as client:
        await client.create()
        restart = {"ufrag": "u", "offer": RtcClient().offer()}
        for method, path, body in (
            ("GET", f"/v1/sessions/{sid}", None),
            ("DELETE", f"/v1/sessions/{sid}", None),
            ("GET", f"/v1/sessions/{sid}/events", None),
            ("POST", f"/v1/sessions/{sid}/restart", restart),
        ):
            status, said = await client.ask(method, path, body)
            assert (status, said["error"]["code"]) == (404, "not_found"), path


async def test_paths_and_methods_that_are_none() -> None:
    async with serving() as client:
        assert (await client.ask("GET", "/v2"))[1]["error"]["code"] == "not_found"
        status, said = await client.ask("PUT", "/v1/sessions")
        assert status == 405
        assert "GET, HEAD, POST" in said["error"]["message"]


async def test_an_ice_restart_gets_a_new_answer_for_the_same_session() -> None:
    async with serving() as client:
        offerer = RtcClient()
        _, first = await client.create(offer=offerer.offer())
        offerer.ufrag, offerer.pwd = "fresh", "fresh" * 5
        body = {"sid": "00000001b", "ufrag": "token2", "offer": offerer.offer()}
        status, said = await client.ask(
            "POST", f"/v1/sessions/{SID}/restart", body | {"candidates": ["203.0.113.9:3478"]}
        )
        assert status == 200
        assert "a=ice-ufrag:token2\r\n" in said["answer"]
        assert [line for line in first["answer"].splitlines() if "fingerprint" in line] == [
            line for line in said["answer"].splitlines() if "fingerprint" in line
        ]
        status, said = await client.ask(
            "POST", f"/v1/sessions/{SID}/restart", body | {"ufrag": f"token{SID}"}
        )
        assert (status, said["error"]["code"]) == (409, "conflict")
        assert len(client.endpoint) == 1


async def test_the_record_is_what_the_registry_gets() -> None:
    async with serving() as client:
        await client.create()
        assert await client.ask("GET", "/v1/state") == (
            200,
            {
                "id": "t1",
                "cluster": 5,
                "xcvr": 7,
                "incarnation": 3,
                "control": "unix:/run/t1.sock",
                "state": "up",
                "sessions": 1,
                "capacity": 10,
            },
        )


async def test_the_stream_tells_every_state_and_ends_with_closed() -> None:
    async with serving() as client:
        await client.create()
        async with client.http.get(f"{client.base}/v1/sessions/{SID}/events") as reply:
            assert reply.headers["Content-Type"] == "text/event-stream"
            lines: list[bytes] = []
            quiet = asyncio.Event()  # the sign of life of a quiet session has come

            async def read() -> None:
                async for line in reply.content:
                    lines.append(line)
                    if line.startswith(b":"):
                        quiet.set()

            reading = asyncio.create_task(read())
            await asyncio.wait_for(quiet.wait(), 5)
            await client.ask("DELETE", f"/v1/sessions/{SID}?reason=agent")
            await asyncio.wait_for(reading, 5)
        events = [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]
        assert lines[0] == b"event: state\n"
        assert events[0]["state"] == "created"
        assert events[-1]["state"] == "closed"
        assert events[-1]["reason"] == "agent"
        assert {event["sid"] for event in events} == {SID}


async def test_a_watcher_that_goes_is_forgotten() -> None:
    async with serving() as client:
        await client.create()
        async with client.http.get(f"{client.base}/v1/sessions/{SID}/events") as reply:
            await reply.content.readline()
        await client.ask("DELETE", f"/v1/sessions/{SID}")
        assert (await client.ask("GET", "/v1/drain"))[0] == 200


async def test_so_many_follow_a_session_and_no_more() -> None:
    async with serving() as client, contextlib.AsyncExitStack() as held:
        await client.create()
        url = f"{client.base}/v1/sessions/{SID}/events"
        for _ in range(WATCHES_MAX):
            reply = await held.enter_async_context(client.http.get(url))
            assert await reply.content.readline() == b"event: state\n"
        status, said = await client.ask("GET", f"/v1/sessions/{SID}/events")
        assert (status, said["error"]["code"]) == (429, "too_many_streams")
        assert (await client.ask("GET", f"/v1/sessions/{SID}"))[0] == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unauthorized"),
        ({"Authorization": "Bearer wrong"}, "unauthorized"),
        ({"Authorization": f"Basic {TOKEN}"}, "unauthorized"),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "evil.example.org"}, "forbidden"),
    ],
)
async def test_on_tcp_only_the_token_opens(headers: dict[str, str], code: str) -> None:
    async with serving(token=TOKEN.encode()) as client:
        status, said = await client.ask("GET", "/v1/sessions", **headers)
        assert (status, said["error"]["code"]) == ({"unauthorized": 401, "forbidden": 403}[code], code)
        status, said = await client.ask("GET", "/v1/sessions", Authorization=f"bearer {TOKEN}")
        assert (status, said) == (200, {"sessions": []})
