"""The API as a client meets it: every path, every refusal, over real HTTP."""

from __future__ import annotations

import time

from pyfastpath.wire import token
from tests.signalling.rig import CANDIDATES, TOKEN_KEY, Rig
from tests.signalling.scripted import answer_to


async def test_a_call_from_offer_to_hangup(rig: Rig) -> None:
    one = await rig.join(cluster=3, xcvr=77, incarnation=5)
    reply = await rig.call("v=0\r\ns=mine\r\n")
    assert reply.status == 201
    assert reply.content_type == "application/sdp"
    assert await reply.text() == answer_to("v=0\r\ns=mine\r\n")
    location = reply.headers["Location"]
    assert location.startswith("/v1/realtime/calls/rtc_")

    (asked,) = one.bodies("POST", "/v1/sessions")
    assert asked["offer"] == "v=0\r\ns=mine\r\n"
    assert asked["call"] == location.rpartition("/")[2]
    assert asked["candidates"] == list(CANDIDATES)
    found = token.verify({1: TOKEN_KEY}, asked["ufrag"], int(time.time()))
    assert (found.cluster, found.xcvr, found.incarnation) == (3, 77, 5)
    assert f"{found.session:09x}" == asked["sid"]

    ended = await rig.http.post(location + "/hangup")
    assert (ended.status, await ended.read()) == (200, b"")
    assert one.sessions == {}
    again = await rig.error(await rig.http.post(location + "/hangup"))
    assert again["code"] == "unknown_call"
