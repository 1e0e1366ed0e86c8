"""The API as a client meets it: every path, every refusal, over real HTTP."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest

from pyfastpath.types import Secret
from pyfastpath.wire import token
from tests.signalling.rig import CALLS, CANDIDATES, TOKEN_KEY, Rig, running
from tests.signalling.scripted import answer_to, refusing

OFFER = "v=0\r\ns=mine\r\n"
FRAGMENT = "application/trickle-ice-sdpfrag"
RESTART = (
    "a=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n"
)
API_KEY = "key-0123456789abcdef"
WITH_KEY = {"Authorization": f"Bearer {API_KEY}"}


# ---- a call -----------------------------------------------------------------------------------------


async def test_a_call_from_offer_to_hangup(rig: Rig) -> None:
    one = await rig.join(cluster=3, xcvr=77, incarnation=5)
    reply = await rig.call(OFFER)
    assert reply.status == 201
    assert reply.content_type == "application/sdp"
    assert reply.headers["Cache-Control"] == "no-store"
    assert await reply.text() == answer_to(OFFER)
    location = reply.headers["Location"]
    assert location.startswith("/v1/realtime/calls/rtc_")

    (asked,) = one.bodies("POST", "/v1/sessions")
    assert asked["offer"] == OFFER
    assert asked["session"] == {}
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


async def test_a_form_and_the_older_path_with_its_model(rig: Rig) -> None:
    one = await rig.join()
    form = aiohttp.FormData({"sdp": OFFER, "session": '{"type": "realtime", "model": "tone"}'})
    form._is_multipart = True
    assert (await rig.http.post(CALLS, data=form)).status == 201
    older = await rig.call(OFFER, path="/v1/realtime?model=parrot")
    assert older.status == 201
    assert older.headers["Location"].startswith(CALLS + "/rtc_")
    first, second = one.bodies("POST", "/v1/sessions")
    assert (first["offer"], first["session"]) == (OFFER, {"type": "realtime", "model": "tone"})
    assert second["session"] == {"model": "parrot"}


async def test_no_two_calls_share_a_sid_or_a_ufrag(rig: Rig) -> None:
    one = await rig.join(capacity=100)
    for _ in range(20):
        assert (await rig.call()).status == 201
    asked = one.bodies("POST", "/v1/sessions")
    assert len({body["sid"] for body in asked}) == len({body["ufrag"] for body in asked}) == 20


async def test_a_public_url_stands_before_the_location(tmp_path: Path) -> None:
    async with running(tmp_path, public_url="https://voice.example.org/edge/") as rig:
        await rig.join()
        location = (await rig.call()).headers["Location"]
        assert location.startswith("https://voice.example.org/edge/v1/realtime/calls/rtc_")


# ---- ICE restart, and WHIP ---------------------------------------------------------------------------


async def test_a_whip_session_from_offer_to_delete(rig: Rig) -> None:
    one = await rig.join()
    reply = await rig.call(OFFER, path="/whip")
    location, etag = reply.headers["Location"], reply.headers["ETag"]
    assert reply.status == 201
    assert location.startswith("/whip/rtc_")
    assert FRAGMENT in reply.headers["Accept-Patch"]
    trickled = await rig.http.patch(
        location, data=RESTART, headers={"Content-Type": FRAGMENT, "If-Match": etag}
    )
    assert (trickled.status, await trickled.read()) == (204, b"")
    assert one.asked[-1][0] == "GET", "looked at, not changed"
    ended = await rig.http.delete(location)
    assert ended.status == 200
    assert one.sessions == {}
    assert (await rig.http.delete(location)).status == 404
    late = await rig.http.patch(location, data=RESTART, headers={"Content-Type": FRAGMENT, "If-Match": etag})
    assert late.status == 404, "a session that ended"


@pytest.mark.parametrize("path", ["/whip", CALLS])
@pytest.mark.parametrize(("kind", "body"), [(FRAGMENT, RESTART), ("application/sdp", OFFER)])
async def test_an_ice_restart_mints_a_new_token_for_the_same_session(
    rig: Rig, path: str, kind: str, body: str
) -> None:
    one = await rig.join()
    reply = await rig.call(OFFER, path=path)
    location = reply.headers["Location"]
    (first,) = one.bodies("POST", "/v1/sessions")
    headers = {"Content-Type": kind, "If-Match": "*"}
    etags, sids = {reply.headers["ETag"]}, {first["sid"]}
    for _ in range(2):
        restarted = await rig.http.patch(location, data=body, headers=headers)
        assert restarted.status == 200
        assert restarted.content_type == kind
        assert await restarted.text() == answer_to(body)
        etags.add(restarted.headers["ETag"])
        asked = one.bodies("POST", f"/v1/sessions/{first['sid']}/restart")[-1]
        assert asked["offer"] == body
        assert asked["candidates"] == list(CANDIDATES)
        found = token.verify({1: TOKEN_KEY}, asked["ufrag"], int(time.time()))
        assert f"{found.session:09x}" == asked["sid"]
        assert found.xcvr == one.xcvr
        sids.add(asked["sid"])
    assert len(etags) == len(sids) == 3
    for etag in etags:
        trickle = {"Content-Type": FRAGMENT, "If-Match": etag}
        assert (await rig.http.patch(location, data=RESTART, headers=trickle)).status == 204
    assert (await rig.http.delete(location.replace(path, "/whip"))).status == 200, "the id stays"


async def test_whose_entity_tag_it_is_matters(rig: Rig) -> None:
    await rig.join()
    mine, other = await rig.call(path="/whip"), await rig.call(path="/whip")
    for if_match in (other.headers["ETag"], '"made-up"'):
        reply = await rig.http.patch(
            mine.headers["Location"],
            data=RESTART,
            headers={"Content-Type": FRAGMENT, "If-Match": if_match},
        )
        assert (reply.status, (await rig.error(reply))["code"]) == (412, "precondition_failed")
    without = await rig.http.patch(mine.headers["Location"], data=RESTART, headers={"Content-Type": FRAGMENT})
    assert (without.status, (await rig.error(without))["code"]) == (428, "precondition_required")


# ---- refusals ---------------------------------------------------------------------------------------


async def test_what_the_transceiver_says_about_an_offer_is_passed_on(rig: Rig) -> None:
    one = await rig.join()
    one.script["POST", "sessions"] = refusing(400, "no_opus", "line 7: no Opus among the codecs.", line=7)
    reply = await rig.call()
    assert reply.status == 400
    assert (await rig.error(reply)) == {
        "type": "invalid_request_error",
        "code": "no_opus",
        "message": "line 7: no Opus among the codecs.",
        "param": "sdp",
        "line": 7,
    }
    one.script["POST", "sessions"] = refusing(400, "bad_session", "session.audio is a number.")
    assert (await rig.error(await rig.call()))["param"] == "session"
    one.script["POST", "sessions"] = refusing(413, "too_large", "an offer of 70000 bytes.")
    assert (await rig.call()).status == 413
    assert len(one.asked) == 3, "an offer that is wrong here is wrong everywhere"


async def test_nobody_alive_is_503_with_retry_after(rig: Rig) -> None:
    reply = await rig.call()
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) > 0
    error = await rig.error(reply)
    assert (error["type"], error["code"]) == ("server_error", "no_capacity")
    assert "no transceiver is alive" in error["message"]


async def test_wrong_bodies_are_refused_by_name(rig: Rig) -> None:
    await rig.join()
    for headers, body, status, code in [
        ({"Content-Type": "text/plain"}, b"v=0", 415, "unsupported_content_type"),
        ({"Content-Type": "application/json"}, b"{}", 415, "unsupported_content_type"),
        ({"Content-Type": "application/sdp"}, b"", 400, "bad_sdp"),
        ({"Content-Type": "application/sdp"}, b"v=0\r\n\xff", 400, "bad_sdp"),
        ({"Content-Type": "application/sdp"}, b"v" * (128 * 1024 + 1), 413, "too_large"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 400, "bad_request"),
        ({"Content-Type": "multipart/form-data"}, b"--x--", 400, "bad_request"),
    ]:
        reply = await rig.http.post(CALLS, data=body, headers=headers)
        assert (reply.status, (await rig.error(reply))["code"]) == (status, code), body[:20]


async def test_other_paths_and_methods(rig: Rig) -> None:
    for method, path, status in [
        ("GET", "/v1/realtime/calls", 405),
        ("GET", "/whip", 405),
        ("POST", "/v1/chat/completions", 404),
        ("GET", "/v1/realtime/calls/rtc_x/hangup", 405),
        ("PUT", "/whip/rtc_x", 405),
        ("GET", "/whip/rtc_x", 405),
        ("GET", "/nothing", 404),
    ]:
        reply = await rig.http.request(method, path)
        assert (reply.status, (await rig.error(reply))["code"]) == (
            status,
            "not_found" if status == 404 else "method_not_allowed",
        )
        assert (status == 405) == ("Allow" in reply.headers)


async def test_calls_of_others_are_unknown(rig: Rig) -> None:
    """Made up, of another gateway's key, or of a transceiver that is gone or was started anew."""
    one = await rig.join()
    location = (await rig.call()).headers["Location"]
    rig.gateway._numbers.calls.clear()
    one.incarnation += 1
    await rig.announce(one)
    async with aiohttp.ClientSession() as http:
        base = f"http://{rig.gateway.address}"
        # a gateway that has just started gives its transceivers some time to say that they live
        for wrong in (location, f"{CALLS}/rtc_{'A' * 34}", f"{CALLS}/x", f"{CALLS}/%2e%2e%2fstate"):
            for method, path in [
                ("POST", f"{wrong}/hangup"),
                ("GET", f"{wrong}/events"),
                ("DELETE", wrong.replace(CALLS, "/whip")),
            ]:
                reply = await http.request(method, base + path)
                assert reply.status == 404, path
                assert (await rig.error(reply))["code"] == "unknown_call"
    assert all(method != "DELETE" for method, *_ in one.asked)


async def test_too_many_calls_of_one_client_are_429(tmp_path: Path) -> None:
    async with running(tmp_path, calls_per_minute=2) as rig:
        await rig.join()
        assert [(await rig.call()).status for _ in range(3)] == [201, 201, 429]
        reply = await rig.call()
        assert 0 < int(reply.headers["Retry-After"]) <= 30
        error = await rig.error(reply)
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")
        assert (await rig.http.post("/v1/realtime/client_secrets")).status == 429
        assert (await rig.http.get("/")).status == 200, "the page is no call"


async def test_an_error_inside_tells_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.join()

    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("pyfastpath.signalling.app.merge_sessions", broken)
    reply = await rig.call()
    error = await rig.error(reply)
    assert (reply.status, error["type"], error["code"]) == (500, "server_error", "internal")
    assert "secret" not in error["message"]


# ---- keys -------------------------------------------------------------------------------------------


async def test_with_api_keys_every_call_needs_one(tmp_path: Path) -> None:
    async with running(tmp_path, api_keys=(Secret(API_KEY.encode()),)) as rig:
        one = await rig.join()
        for headers in ({}, {"Authorization": "Bearer wrong-0123456789ab"}, {"Authorization": API_KEY}):
            for path in (CALLS, "/whip", "/v1/realtime/client_secrets"):
                reply = await rig.call(path=path, **headers)
                assert reply.status == 401
                assert reply.headers["WWW-Authenticate"].startswith("Bearer")
                assert (await rig.error(reply))["type"] == "authentication_error"
        assert one.asked == []
        location = (await rig.call(**WITH_KEY)).headers["Location"]
        assert (await rig.http.post(location + "/hangup")).status == 401
        assert (await rig.http.patch(location, data=OFFER)).status == 401
        assert (await rig.http.post(location + "/hangup", headers=WITH_KEY)).status == 200


async def test_an_ephemeral_key_makes_calls_with_its_session(tmp_path: Path) -> None:
    async with running(tmp_path, api_keys=(Secret(API_KEY.encode()),)) as rig:
        one = await rig.join()
        made = await rig.http.post(
            "/v1/realtime/client_secrets",
            json={
                "expires_after": {"anchor": "created_at", "seconds": 60},
                "session": {"type": "realtime", "model": "tone", "instructions": "Grüße"},
            },
            headers=WITH_KEY,
        )
        secret = await made.json()
        assert made.status == 200
        assert made.headers["Cache-Control"] == "no-store"
        assert set(secret) == {"value", "expires_at", "session"}
        assert secret["value"].startswith("ek_")
        assert 55 <= secret["expires_at"] - time.time() <= 61
        session = {"type": "realtime", "model": "tone", "instructions": "Grüße"}
        assert secret["session"] == {"object": "realtime.session", **session}

        bearer = {"Authorization": f"Bearer {secret['value']}"}
        call = await rig.call(**bearer)
        assert call.status == 201
        assert one.bodies("POST", "/v1/sessions")[0]["session"] == session
        more = await rig.http.post("/v1/realtime/client_secrets", headers=bearer)
        assert (more.status, (await rig.error(more))["code"]) == (403, "forbidden")
        assert (await rig.http.post(call.headers["Location"] + "/hangup", headers=bearer)).status == 200


async def test_an_expired_ephemeral_key_ends_its_call_but_begins_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as rig:
        await rig.join()
        made = await rig.http.post("/v1/realtime/client_secrets", json={"expires_after": {"seconds": 10}})
        bearer = {"Authorization": f"Bearer {(await made.json())['value']}"}
        location = (await rig.call(**bearer)).headers["Location"]
        later = time.time() + 11
        monkeypatch.setattr("pyfastpath.signalling.app.time.time", lambda: later)
        reply = await rig.call(**bearer)
        assert (reply.status, (await rig.error(reply))["code"]) == (401, "expired_key")
        assert (await rig.http.post(location + "/hangup", headers=bearer)).status == 200


async def test_a_long_session_fits_into_a_header(rig: Rig) -> None:
    """Instructions of 20 kB and tools, as applications have them."""
    one = await rig.join()
    session = {"instructions": "".join(f"Rule {n}: never mention {n * 7919 % 1000}. " for n in range(600))}
    made = await rig.http.post("/v1/realtime/client_secrets", json={"session": session})
    value = (await made.json())["value"]
    async with aiohttp.ClientSession(max_field_size=64 << 10) as http:
        reply = await http.post(
            f"http://{rig.gateway.address}{CALLS}",
            data=OFFER,
            headers={"Content-Type": "application/sdp", "Authorization": f"Bearer {value}"},
        )
    assert reply.status == 201
    assert one.bodies("POST", "/v1/sessions")[0]["session"] == session


# ---- drain ------------------------------------------------------------------------------------------


async def test_while_draining_new_calls_are_refused_and_others_can_be_ended(rig: Rig) -> None:
    await rig.join()
    location = (await rig.call()).headers["Location"]
    rig.gateway._numbers.is_draining = True
    reply = await rig.call()
    assert (reply.status, (await rig.error(reply))["code"]) == (503, "draining")
    assert "Retry-After" in reply.headers
    assert (await rig.http.post(location + "/hangup")).status == 200
