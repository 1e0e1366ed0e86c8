"""Where transceivers register: every path, every refusal, over both listeners."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pyfastpath.listeners import open_tcp
from pyfastpath.registry.record import build_record
from pyfastpath.types import Endpoint, Secret
from tests.registry.records import record
from tests.signalling.rig import Rig, running

TOKEN = "admin-0123456789abcdef"


async def ask(rig: Rig, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """(status, JSON) of the UNIX socket."""
    connector = aiohttp.UnixConnector(str(rig.folder / "admin.sock"))
    async with aiohttp.ClientSession(connector=connector) as http:
        reply = await http.request(method, f"http://gateway{path}", data=body)
        said = await reply.read()
        return reply.status, msgspec.json.decode(said) if said else None


async def test_a_transceiver_from_put_to_delete(rig: Rig) -> None:
    status, said = await ask(rig, "PUT", "/v1/transceivers/t1", build_record(record(sessions=3)))
    assert status == 200
    assert said["record"] == msgspec.json.decode(build_record(record(sessions=3)))
    status, listing = await ask(rig, "GET", "/v1/transceivers")
    assert status == 200
    (row,) = listing["transceivers"]
    assert row["record"]["sessions"] == 3
    assert 0 <= row["heard_ago_s"] < 2
    assert (await ask(rig, "GET", "/v1/transceivers/t1"))[1]["record"]["id"] == "t1"
    assert await ask(rig, "DELETE", "/v1/transceivers/t1") == (204, None)
    assert (await ask(rig, "GET", "/v1/transceivers"))[1] == {"transceivers": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", "/v1/transceivers/t1", b"{", 400, "bad_request"),
        ("PUT", "/v1/transceivers/t1", b"", 400, "bad_request"),
        ("PUT", "/v1/transceivers/t2", build_record(record("t1")), 400, "bad_request"),
        ("PUT", "/v1/transceivers/t1", b" " * 10_000, 413, "too_large"),
        ("GET", "/v1/transceivers/t1", b"", 404, "not_found"),
        ("GET", "/v1/nothing", b"", 404, "not_found"),
        ("POST", "/v1/transceivers", b"", 405, "method_not_allowed"),
    ],
)
async def test_refusals(rig: Rig, method: str, path: str, body: bytes, status: int, code: str) -> None:
    got, said = await ask(rig, method, path, body)
    assert set(said) == {"error"}
    assert set(said["error"]) == {"code", "message"}
    assert (got, said["error"]["code"]) == (status, code)


async def test_two_with_one_number_are_a_conflict(rig: Rig) -> None:
    """A token names cluster and number: it must lead to one of them."""
    await ask(rig, "PUT", "/v1/transceivers/t1", build_record(record("t1", cluster=1, xcvr=5)))
    twin = build_record(record("t2", cluster=1, xcvr=5, incarnation=3))
    status, said = await ask(rig, "PUT", "/v1/transceivers/t2", twin)
    assert (status, said["error"]["code"]) == (409, "conflict")
    assert "'t1' is already number 5 of cluster 1" in said["error"]["message"]
    for other in (record("t2", cluster=1, xcvr=6), record("t3", cluster=2, xcvr=5)):
        assert (await ask(rig, "PUT", f"/v1/transceivers/{other.id}", build_record(other)))[0] == 200
    again = build_record(record("t1", cluster=1, xcvr=5, incarnation=1))
    assert (await ask(rig, "PUT", "/v1/transceivers/t1", again))[0] == 200, "started anew"


async def test_the_socket_belongs_to_its_user_alone(rig: Rig) -> None:
    assert (rig.folder / "admin.sock").stat().st_mode & 0o777 == 0o600


async def test_on_tcp_a_token_and_an_address_are_needed(tmp_path: Path) -> None:
    free = open_tcp(Endpoint.parse("127.0.0.1:0"), key="x")
    listen = f"127.0.0.1:{free.getsockname()[1]}"
    free.close()
    async with (
        running(tmp_path, admin_listen=listen, admin_token=Secret(TOKEN.encode())),
        aiohttp.ClientSession(f"http://{listen}") as http,
    ):
        for headers, status in [
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": f"Basic {TOKEN}"}, 401),
            ({"Authorization": f"Bearer {TOKEN}", "Host": "rebound.example"}, 403),
            ({"Authorization": f"Bearer {TOKEN}"}, 200),
            ({"Authorization": f"bearer  {TOKEN}", "Host": "localhost:1"}, 200),
        ]:
            reply = await http.get("/v1/transceivers", headers=headers)
            assert reply.status == status, headers


async def test_a_failing_registry_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, registry=f"file:{tmp_path}/registry") as rig:
        (tmp_path / "registry").rmdir()
        status, said = await ask(rig, "PUT", "/v1/transceivers/t1", build_record(record()))
        assert (status, said["error"]["code"]) == (503, "registry_failed")
        (tmp_path / "registry").mkdir()
        assert (await ask(rig, "PUT", "/v1/transceivers/t1", build_record(record())))[0] == 200
        assert (tmp_path / "registry" / "t1.json").exists()


async def test_many_announce_at_once(rig: Rig) -> None:
    many = [record(f"t{n}", xcvr=n) for n in range(50)]
    replies = await asyncio.gather(
        *(ask(rig, "PUT", f"/v1/transceivers/{one.id}", build_record(one)) for one in many)
    )
    assert {status for status, _ in replies} == {200}
    assert len((await ask(rig, "GET", "/v1/transceivers"))[1]["transceivers"]) == 50
