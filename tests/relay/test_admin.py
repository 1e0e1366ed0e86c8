"""The admin API as an operator's script meets it: every path, every refusal, over both listeners."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyfastpath.relay import sockets
from pyfastpath.relay.relay import Relay
from pyfastpath.types import Endpoint
from tests.relay.conftest import MakeConfig
from tests.relay.test_relay import address_of
from tests.support.http import ask, request
from tests.support.plain_call import PlainCall, endpoint_text
from tests.support.rig import until

TOKEN = "0123456789abcdef0123"
ANSWER = (
    b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=\xff odd\r\nt=0 0\r\nm=audio 5004 UDP/TLS/RTP/SAVPF 96\r\n"
    b"c=IN IP4 127.0.0.1\r\na=ice-ufrag:ufrag1\r\na=candidate:1 1 udp 9 127.0.0.1 5004 typ host\r\n"
)


@pytest.fixture
def admin(relay: Relay, tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


def refusal(
    where: Path | str, method: str, target: str, body: object = b"", **headers: str
) -> tuple[int, str, str]:
    """(status, code, message) of a request that must be refused."""
    status, said = ask(where, method, target, body, **headers)
    assert status >= 400, said
    assert set(said) == {"error"}
    assert set(said["error"]) == {"code", "message"}
    return status, said["error"]["code"], said["error"]["message"]


# ---- routes ------------------------------------------------------------------------------------------


def test_a_route_from_put_to_delete(admin: Path, relay: Relay, server: socket.socket) -> None:
    host, port = address_of(relay)
    status, route = ask(admin, "PUT", "/v1/routes", {"ufrag": "ufr+/1", "backend": "a", "session": "call"})
    assert status == 200
    assert route == {
        "result": "installed",
        "ufrag": "ufr+/1",
        "backend": "a",
        "address": endpoint_text(server),
        "target": None,
        "expires_in_s": route["expires_in_s"],
        "has_session": True,
        "candidates": [
            {
                "foundation": "1",
                "component": 1,
                "protocol": "udp",
                "priority": 2130706431,
                "ip": host,
                "address": host,
                "port": port,
                "type": "host",
            }
        ],
    }
    with PlainCall((host, port), server, "ufr+/1") as call:
        call.confirm()
    assert ask(admin, "GET", "/v1/routes/ufr+/1")[1]["backend"] == "a"
    assert ask(admin, "PUT", "/v1/routes", {"ufrag": "ufr+/1", "backend": "a"})[1]["result"] == "refreshed"
    assert ask(admin, "DELETE", "/v1/routes/ufr+/1") == (204, None)
    assert refusal(admin, "GET", "/v1/routes/ufr+/1")[:2] == (404, "not_found")
    assert refusal(admin, "DELETE", "/v1/routes/ufr+/1")[:2] == (404, "not_found")


def test_the_same_ufrag_elsewhere_is_a_conflict_unless_it_replaces(admin: Path, relay: Relay) -> None:
    relay.backends.add("b", "127.0.0.1:9")
    ask(admin, "PUT", "/v1/routes", {"ufrag": "ufrag1", "backend": "a"})
    status, code, message = refusal(admin, "PUT", "/v1/routes", {"ufrag": "ufrag1", "backend": "b"})
    assert (status, code) == (409, "conflict")
    assert "Pass replace" in message
    body = {"ufrag": "ufrag1", "backend": "b", "replace": True}
    assert ask(admin, "PUT", "/v1/routes", body)[1]["backend"] == "b"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b"\xff\xfe", 400, "bad_request"),
        ({"ufrag": "ufrag1"}, 400, "bad_request"),
        ({"ufrag": "u", "backend": "a"}, 400, "bad_request"),
        ({"ufrag": "ufrag1", "backend": "a", "ttl": 5}, 400, "bad_request"),
        ({"ufrag": "ufrag1", "backend": "nobody"}, 404, "unknown_backend"),
        ({"ufrag": "ufrag1", "backend": "a", "target": "127.0.0.1:5"}, 422, "bad_target"),
        ({"ufrag": "ufrag1", "backend": "a", "target": "there"}, 400, "bad_request"),
        (b" " * (65 << 10), 413, "too_large"),
    ],
)
def test_bad_routes(admin: Path, body: object, status: int, code: str) -> None:
    assert refusal(admin, "PUT", "/v1/routes", body)[:2] == (status, code)


def test_routes_in_bulk(admin: Path, relay: Relay) -> None:
    lines = [json.dumps({"ufrag": f"bulk{n:05}", "backend": "a", "ttl_s": 60}) for n in range(4000)]
    status, said = ask(admin, "POST", "/v1/routes", "\n".join(lines).encode())
    assert (status, said) == (200, {"installed": 4000, "refreshed": 0, "refused": 0, "errors": []})
    assert len(relay.routes) == 4000


def test_bulk_goes_on_after_bad_lines_and_numbers_them(admin: Path, relay: Relay) -> None:
    good = '{"ufrag": "bulk%05d", "backend": "a"}'
    lines = [good % n for n in range(6000)]
    lines[10] = "nonsense"
    lines[5500] = '{"ufrag": "ufrag1", "backend": "nobody"}'
    status, said = ask(admin, "POST", "/v1/routes", ("\n".join(lines) + "\n").encode())
    assert status == 207
    assert (said["installed"], said["refused"]) == (4096, 6000 - 4096)
    assert [(one["line"], one["code"]) for one in said["errors"]][:1] == [(11, "bad_request")]
    assert {"table_full"} == {one["code"] for one in said["errors"][1:]}


def test_a_bulk_line_without_end(admin: Path) -> None:
    assert refusal(admin, "POST", "/v1/routes", b"x" * (200 << 10))[:2] == (413, "too_large")


# ---- answers -----------------------------------------------------------------------------------------


def test_an_answer_comes_back_with_the_relays_candidates(admin: Path, relay: Relay) -> None:
    host, port = address_of(relay)
    status, said, headers = request(admin, "POST", "/v1/answers?backend=a&session=call", ANSWER)
    assert (status, headers["Content-Type"]) == (200, "application/sdp")
    assert said == (
        ANSWER.replace(b"m=audio 5004", b"m=audio %d" % port)
        .replace(b"c=IN IP4 127.0.0.1", b"c=IN IP4 " + host.encode())
        .replace(
            b"a=candidate:1 1 udp 9 127.0.0.1 5004 typ host\r\n",
            b"a=candidate:1 1 udp 2130706431 %s %d typ host\r\na=end-of-candidates\r\n"
            % (host.encode(), port),
        )
    )
    assert relay.routes.lookup("ufrag1")["has_session"]


def test_an_answer_to_a_backend_with_a_port_a_session(admin: Path, relay: Relay) -> None:
    relay.backends.add("b", "127.0.0.1:9", allow=["127.0.0.0/8"])
    assert request(admin, "POST", "/v1/answers?backend=b", ANSWER)[0] == 200
    assert relay.routes.lookup("ufrag1")["target"] == "127.0.0.1:5004"
    assert refusal(admin, "POST", "/v1/answers?backend=a", ANSWER)[:2] == (409, "conflict")
    assert request(admin, "POST", "/v1/answers?backend=b&target=127.0.0.3:7&replace=1", ANSWER)[0] == 200
    assert relay.routes.lookup("ufrag1")["target"] == "127.0.0.3:7"


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("", ANSWER, 400, "bad_request"),
        ("?backend=nobody", ANSWER, 404, "unknown_backend"),
        ("?backend=a&replace=yes", ANSWER, 400, "bad_request"),
        ("?backend=a&sesion=x", ANSWER, 400, "bad_request"),
        ("?backend=a", b"", 422, "bad_sdp"),
        ("?backend=a", b"v=0\r\n", 422, "bad_sdp"),
        ("?backend=a", ANSWER.replace(b"ufrag1", b"u"), 422, "bad_sdp"),
        ("?backend=a&target=127.0.0.1:7", ANSWER, 422, "bad_target"),
        ("?backend=a", b"v=0\r\n" + b" " * (257 << 10), 413, "too_large"),
    ],
)
def test_bad_answers(admin: Path, relay: Relay, query: str, body: bytes, status: int, code: str) -> None:
    assert refusal(admin, "POST", "/v1/answers" + query, body)[:2] == (status, code)
    assert len(relay.routes) == 0


# ---- backends ----------------------------------------------------------------------------------------


def test_a_backend_from_put_to_delete(admin: Path) -> None:
    status, added = ask(admin, "PUT", "/v1/backends/b", {"address": "127.0.0.1:9", "allow": ["127.0.0.0/8"]})
    assert (status, added["id"], added["state"], added["source"]) == (200, "b", "up", "api")
    assert ask(admin, "POST", "/v1/backends/b/drain")[1]["state"] == "draining"
    assert ask(admin, "GET", "/v1/backends/b")[1]["draining"] is True
    assert ask(admin, "POST", "/v1/backends/b/undrain")[1]["state"] == "up"
    listed = ask(admin, "GET", "/v1/backends")[1]
    assert ([one["id"] for one in listed["backends"]], listed["retiring"]) == (["a", "b"], [])
    assert ask(admin, "DELETE", "/v1/backends/b") == (204, None)
    listed = ask(admin, "GET", "/v1/backends")[1]
    assert listed["retiring"] == [{"id": "b", "address": "127.0.0.1:9"}]


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("b", b"", "bad body"),
        ("b", [], "Expected `object`"),
        ("b", {}, "missing required field `address`"),
        ("b", {"address": "127.0.0.1:9", "adress": 1}, "unknown field `adress`"),
        ("b", {"address": "127.0.0.1"}, "is not ip:port"),
        ("b", {"address": "127.0.0.1:0"}, "port 0"),
        ("b", {"address": "127.0.0.1:9", "allow": ["127.0.0.1/8"]}, "Write 127.0.0.0/8"),
        ("b", {"address": "127.0.0.1:9", "mode": "trunk"}, "no trunk"),
        ("b", {"address": "[::1]:9"}, "plain_ports_ipv6"),
        ("b", {"address": "127.0.0.1:9", "id": "c"}, "the path says 'b', the body 'c'"),
        ("-b", {"address": "127.0.0.1:9"}, "matching regex"),
    ],
)
def test_bad_backends(admin: Path, name: str, body: object, says: str) -> None:
    status, code, message = refusal(admin, "PUT", f"/v1/backends/{name}", body)
    assert (status, code) == (400, "bad_request")
    assert says in message


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/drain"), ("POST", "/undrain")]
)
def test_an_unknown_backend(admin: Path, method: str, path: str) -> None:
    status, code, message = refusal(admin, method, f"/v1/backends/nobody{path}")
    assert (status, code) == (404, "unknown_backend")
    assert "Known backends: a." in message


# ---- the relay itself ---------------------------------------------------------------------------------


def test_flows_and_their_filters(admin: Path, relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a", session="call")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        upstream = f"{call.upstream[0]}:{call.upstream[1]}"
        for query, count in (
            ("", 1),
            (f"?upstream={upstream}", 1),
            ("?upstream=127.0.0.1:1", 0),
            (f"?client={endpoint_text(call.client)}", 1),
            ("?backend=a&session=call", 1),
            ("?session=other", 0),
            ("?limit=0", 1),
        ):
            status, said = ask(admin, "GET", f"/v1/flows{query}")
            assert (status, said["matching"]) == (200, count), query
            assert len(said["flows"]) == (count if query != "?limit=0" else 0)


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=x", 400), ("limit=-1", 400), ("limit=100001", 400), ("upstream=here", 400), ("peer=x", 400),
     ("backend=nobody", 404), ("limit=" + "9" * 5000, 400)],
)  # fmt: skip
def test_bad_filters(admin: Path, query: str, status: int) -> None:
    assert refusal(admin, "GET", f"/v1/flows?{query}")[0] == status


def test_workers(admin: Path) -> None:
    _, said = ask(admin, "GET", "/v1/workers")
    assert said == {"shards": 2, "workers": [{"worker": 0, "cpu": None, "shards": [0, 1], "alive": True}]}
    _, said = ask(admin, "PUT", "/v1/workers", {"count": 2})
    assert [one["shards"] for one in said["workers"]] == [[0], [1]]
    for body in (b"", {}, {"count": "2"}, {"count": 0}, {"count": 3}, {"count": 2, "pin": True}):
        assert refusal(admin, "PUT", "/v1/workers", body)[:2] == (400, "bad_request")


def test_drain_and_undrain(admin: Path) -> None:
    assert ask(admin, "POST", "/v1/drain")[1] == {
        "draining": True,
        "refusing": True,
        "live_flows": 0,
        "deadline_left_s": None,
        "done": True,
        "over": True,
        "ends": False,
    }
    status = ask(admin, "GET", "/v1/status")[1]
    assert (status["ready"], status["reasons"]) == (False, ["draining"])
    assert ask(admin, "DELETE", "/v1/drain")[1]["draining"] is False
    assert ask(admin, "GET", "/v1/drain")[1] == {
        "draining": False,
        "refusing": False,
        "live_flows": 0,
        "deadline_left_s": None,
        "done": False,
        "over": False,
        "ends": False,
    }


def test_a_drain_with_notice_and_deadline(admin: Path, relay: Relay, server: socket.socket) -> None:
    relay.routes.install("live", "a")
    with PlainCall(address_of(relay), server, "live") as call:
        call.confirm()
        said = ask(admin, "POST", "/v1/drain", {"notice_s": 100, "wait_s": 200})[1]
        assert (said["refusing"], said["done"], said["over"], said["live_flows"]) == (False, False, False, 1)
        assert 199 < said["deadline_left_s"] <= 200
        said = ask(admin, "POST", "/v1/drain", {"wait_s": 0})[1]
        assert (said["refusing"], said["done"], said["over"]) == (True, False, True)
        said = ask(admin, "POST", "/v1/drain", {"notice_s": 100})[1]
        assert (said["refusing"], said["over"], said["deadline_left_s"]) == (True, False, None)
        ask(admin, "DELETE", "/v1/drain")


@pytest.mark.parametrize("body", [{"notice_s": -1}, {"wait_s": "long"}, {"wait": 5}, {"wait_s": 1e9}])
def test_bad_drains(admin: Path, body: object) -> None:
    status, said = ask(admin, "POST", "/v1/drain", body)
    assert (status, said["error"]["code"]) == (400, "bad_request")
    assert "notice_s, wait_s" in said["error"]["message"]
    assert ask(admin, "GET", "/v1/drain")[1]["draining"] is False


def test_the_configuration_is_shown_without_secrets(make_config: MakeConfig, tmp_path: Path) -> None:
    secret = "0badc0de" * 4
    with Relay(make_config(token_keys=[f"0:{secret}"], backends=["a=127.0.0.1:9"])):
        _, said, _ = request(tmp_path / "admin.sock", "GET", "/v1/config")
    assert secret not in said.decode()
    shown = json.loads(said)
    assert shown["config"]["token_keys"][0]["key"] == "redacted"
    assert len(shown["digest"]) == 12


def test_a_relay_without_a_file_has_nothing_to_reload(admin: Path) -> None:
    status, code, message = refusal(admin, "POST", "/v1/reload")
    assert (status, code) == (422, "bad_config")
    assert "configured by its program" in message


def test_log_level(admin: Path) -> None:
    assert ask(admin, "GET", "/v1/loglevel")[1] == {"level": "info"}
    assert ask(admin, "PUT", "/v1/loglevel", {"level": "warning"})[1] == {"level": "warning"}
    assert refusal(admin, "PUT", "/v1/loglevel", {"level": "loud"})[:2] == (400, "bad_request")


def test_counters_of_every_shard_add_up(admin: Path, relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        call.exchange()
        call.client.sendto(b"\xff", call.relay)
        until(lambda: relay.counters()["dropped"].sum() == 1, "the drop")
        _, said = ask(admin, "GET", "/v1/counters")
    shards = said["shards"]
    assert [(one["shard"], one["worker"]) for one in shards] == [(0, 0), (1, 0)]
    assert sum(one["up"]["received"] for one in shards) == 3
    assert sum(one["down"]["forwarded"] for one in shards) == 2
    assert [one["up"]["dropped"] for one in shards if one["up"]["dropped"]] == [{"not_webrtc": 1}]
    for one in shards:
        for way in (one["up"], one["down"]):
            assert way["received"] == way["forwarded"] + way["punted"] + sum(way["dropped"].values())
            assert len(way["residence"]) == len(said["residence_ends_s"]) + 1


def test_status_adds_up(admin: Path, relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        call.exchange()
        _, said = ask(admin, "GET", "/v1/status")
    assert said["ready"] is True
    assert said["flows"] == {"confirmed": 1, "provisional": 0, "max": 2048}
    assert said["routes"] == {"installed": 1, "max": 4096}
    assert said["datagrams"]["up"]["received"] == said["datagrams"]["up"]["forwarded"] == 2
    assert said["datagrams"]["down"]["conservation_error"] == 0
    assert said["kernel_dropped"] == 0


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/routes", 405, "method_not_allowed"),
        ("DELETE", "/v1/status", 405, "method_not_allowed"),
    ],
)
def test_paths_that_are_not_there(admin: Path, method: str, target: str, status: int, code: str) -> None:
    assert refusal(admin, method, target)[:2] == (status, code)


# ---- TCP ---------------------------------------------------------------------------------------------


@pytest.fixture
def tcp(make_config: MakeConfig) -> Iterator[str]:
    config = make_config(admin_tcp="127.0.0.1:0", backends=["a=127.0.0.1:9"], admin_token=TOKEN)
    with Relay(config) as relay:
        fd = relay.call(lambda control: control.opening.admin_tcp)
        yield str(sockets.local_endpoint(fd))


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": text}


def test_tcp_asks_for_the_token(tcp: str) -> None:
    assert ask(tcp, "GET", "/v1/drain", **bearer(f"Bearer {TOKEN}"))[0] == 200
    assert ask(tcp, "GET", "/v1/drain", **bearer(f"bearer  {TOKEN}"))[0] == 200
    wrong: list[dict[str, str]] = [
        {},
        bearer(""),
        bearer("Bearer"),
        bearer(f"Bearer {TOKEN}x"),
        bearer(f"Bearer {TOKEN[:-1]}"),
        bearer(f"Basic {TOKEN}"),
        bearer("Bearer \xff\xfe"),
        bearer(TOKEN),
    ]
    for headers in wrong:
        status, code, message = refusal(tcp, "GET", "/v1/drain", **headers)
        assert (status, code) == (401, "unauthorized"), headers
        assert TOKEN not in message
    assert refusal(tcp, "GET", "/nothing")[:2] == (401, "unauthorized")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9", 200),
        ("[::1]:9", 200),
        ("localhost", 200),
        ("localhost:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("localhost.evil.example", 403),
    ],
)
def test_a_rebound_name_is_refused(tcp: str, host: str, status: int) -> None:
    """DNS rebinding: a page of another origin reaches loopback under a name of its own."""
    said: Any
    found, said = ask(tcp, "GET", "/v1/drain", Host=host, **bearer(f"Bearer {TOKEN}"))
    assert found == status
    assert status == 200 or said["error"]["code"] == "forbidden"


def test_the_unix_socket_asks_for_no_token(tcp: str, tmp_path: Path) -> None:
    assert ask(tmp_path / "admin.sock", "GET", "/v1/drain")[0] == 200
    assert Endpoint.parse(tcp).port != 0
