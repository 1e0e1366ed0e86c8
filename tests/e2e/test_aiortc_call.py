"""The scripted aiortc call: unmodified aiortc at both ends, the relay is the only way."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from examples.aiortc_echo.call import CallError, make_call, with_page
from tests.support.calls import aiortc_server, assert_only_relay, candidate_lines, relay_for

CALL_S = 4


async def test_tone_comes_back_through_the_relay(tmp_path: Path) -> None:
    with relay_for("aiortc", tmp_path) as relay, aiortc_server(relay, tmp_path) as page:
        call = await make_call(with_page(page), CALL_S)
        host, port = relay.listen
        assert call.remotes == (f"{host}:{port}",)
        assert call.bursts_heard >= call.bursts_sent - 1 > 0
        relay.assert_conservation()
        assert relay.drops() == {}
        assert relay.total("forwarded_datagrams", direction="up") >= call.packets_sent >= 45 * CALL_S
        assert relay.total("forwarded_datagrams", direction="down") >= call.packets_received >= 40 * CALL_S


async def test_calls_at_once_stay_apart(tmp_path: Path) -> None:
    with relay_for("aiortc", tmp_path) as relay, aiortc_server(relay, tmp_path) as page:
        calls = await asyncio.gather(*(make_call(with_page(page), CALL_S) for _ in range(3)))
        assert all(call.bursts_heard >= call.bursts_sent - 1 > 0 for call in calls)
        relay.assert_conservation()
        assert relay.total("route_decisions", reason="session_route") >= len(calls)


async def test_candidates_of_both_sides_are_gone(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    with relay_for("aiortc", tmp_path) as relay, aiortc_server(relay, tmp_path) as page:

        async def exchange(offer: str) -> str:
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{page}/offer", json={"type": "offer", "sdp": offer}) as reply,
            ):
                body = await reply.json()
            seen.update(client=offer, server=body["offer"], answer=body["sdp"])
            return str(body["sdp"])

        await make_call(exchange, 1)
        assert candidate_lines(seen["client"]), "aiortc offers its host candidates"
        assert not candidate_lines(seen["server"])
        assert_only_relay(seen["answer"], relay)


async def test_unknown_backend_is_a_clear_error(tmp_path: Path) -> None:
    with (
        relay_for("another", tmp_path) as relay,
        aiortc_server(relay, tmp_path) as page,
        pytest.raises(CallError, match=r"the relay refused the answer.*aiortc"),
    ):
        await make_call(with_page(page), 1)
