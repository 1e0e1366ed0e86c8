"""docs/relay-api.md names every path, parameter and error code there is, no other; its examples are true."""

import json
import re
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyfastpath.config.checks import TOKEN_BYTES
from pyfastpath.errors import FastpathError
from pyfastpath.guard import Limits
from pyfastpath.relay import admin, capture, routing, sessions
from pyfastpath.relay.relay import Relay
from tests.relay.conftest import MakeConfig
from tests.relay.test_relay import address_of
from tests.support.http import ask
from tests.support.plain_call import PlainCall, endpoint_text

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "relay-api.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
# Values that an example shares with the answer here; of the others only the kind is compared.
SAME = {
    *("code", "line", "message", "installed", "refused", "result", "ufrag", "has_session"),
    *("class", "mode", "source", "state", "matching"),
    *("draining", "refusing", "live_flows", "done", "over", "ends"),
}


class Example(NamedTuple):
    """A request of the document, and what the relay is said to answer."""

    method: str
    target: str
    body: bytes
    status: int
    answer: str


def examples() -> list[Example]:
    found = []
    for sent, said in re.findall(r"((?:^> .*\n)+)((?:^< .*\n)+)", TEXT, re.MULTILINE):
        head, *body = (line[2:] for line in sent.splitlines())
        status, _, answer = " ".join(line[2:].strip() for line in said.splitlines()).partition(" ")
        found.append(Example(*head.split(), "\n".join(body).encode(), int(status), answer))
    return found


def assert_like(shown: Any, real: Any, *, whole: bool, where: str) -> None:
    """The keys and kinds of `real`, and some of its values. null may stand for any kind."""
    if isinstance(shown, dict) and isinstance(real, dict):
        assert shown.keys() == real.keys() if whole else shown.keys() <= real.keys(), where
        for name, item in shown.items():
            assert name not in SAME or item == real[name], f"{where}.{name}"
            assert_like(item, real[name], whole=whole, where=f"{where}.{name}")
    elif isinstance(shown, list) and isinstance(real, list):
        for one, other in zip(shown, real, strict=False):
            assert_like(one, other, whole=whole, where=f"{where}[]")
    else:
        assert None in (shown, real) or type(shown) is type(real), where


def test_its_examples_are_answered_like_that(make_config: MakeConfig, server: socket.socket) -> None:
    with Relay(make_config()) as relay:
        relay.backends.add("sfu", endpoint_text(server), allow=["10.0.0.0/24"])
        relay.routes.install("live", "sfu", session="call-17")
        where = Path(relay.call(lambda control: control.config.admin_socket))
        with PlainCall(address_of(relay), server, "live") as call:
            call.confirm()
            for example in examples():
                status, real = ask(where, example.method, example.target, example.body)
                assert status == example.status, (example, real)
                shown = json.loads(re.sub(r"(, )?…", "", example.answer))
                assert_like(shown, real, whole="…" not in example.answer, where=example.target)
    assert len(examples()) >= 7


def test_every_method_and_path_and_no_other(relay: Relay) -> None:
    app = relay.call(
        lambda control: admin.admin_app(
            control, capture.Captures(control), reload=lambda: control.reload(control.config)
        )
    )
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    told = set(re.findall(r"`(GET|HEAD|PUT|POST|PATCH|DELETE) (/[^\s`?]*)", PROSE))
    assert told == {(method, path) for method, path in served if method != "HEAD"}
    for path in re.findall(r"http://[\w.:]+(/\S*)", TEXT):
        assert ("GET", path) in served


def test_every_error_code_and_no_other() -> None:
    table = PROSE[PROSE.index("\n## Errors\n") :]
    told = {
        code: int(status)
        for status, cell in re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", cell)
    }
    any_other = admin._code_of(FastpathError("no."))
    assert told == {**admin.STATUS, any_other: 400}
    raised = {
        code
        for path in (ROOT / "pyfastpath" / "relay").rglob("*.py")
        for code in re.findall(r"code=\"(\w+)\"", path.read_text())
    }
    assert raised - told.keys() == {"stopped"}  # of the Python API: a relay that does not run answers nobody


@pytest.mark.parametrize(
    ("method", "path", "heading"),
    [
        ("POST", "/v1/answers", "Answers"),
        ("GET", "/v1/flows", "Flows and counters"),
        ("GET", "/v1/capture", "Capture"),
    ],
)
def test_every_parameter_and_no_other(
    relay: Relay, tmp_path: Path, method: str, path: str, heading: str
) -> None:
    section = PROSE[PROSE.index(f"\n## {heading}\n") :].partition("\n## ")[2].partition("\n## ")[0]
    _, said = ask(tmp_path / "admin.sock", method, f"{path}?nothing=1")
    known = said["error"]["message"].partition("Known: ")[2].rstrip(".").split(", ")
    assert len(known) >= 4
    for name in known:
        assert re.search(rf"[`?]{name}[`=]", section), name
    named = set(re.findall(r"[`?](\w+)=[\w/]", section))
    assert named - {"a"} <= set(known)  # a=candidate: of SDP


def test_every_key_of_a_body() -> None:
    kinds = (sessions.RouteRequest, admin.DrainOrder, admin.Count, admin.Level)
    for key in (key for kind in kinds for key in kind.__struct_fields__):
        assert re.search(rf"[`\"]{key}[`\"]", TEXT), key


def test_numbers_are_the_codes_own() -> None:
    limits = Limits()
    for text in (
        f"`admin_token` of {TOKEN_BYTES} characters or more",
        f"a head beyond {limits.head_bytes >> 10} KiB",
        f"while all {limits.connections} connections are busy",
        f"JSON body has at most {admin.JSON_BYTES_MAX >> 10} KiB",
        f"of up to {admin.SDP_BYTES_MAX >> 10} KiB",
        f"`errors` tells the first {routing.ERRORS_TOLD}.",
        f"whole batches of {admin.BULK_LINES:,} lines",
        f"up to {sessions.TTL_MAX_S}; 0:",
        f"up to {admin.DRAIN_MAX_S} s",
        f"({admin.FLOWS_LIMIT}; 0 to {admin.FLOWS_LIMIT_MAX})",
        f"(1 to {capture.SNAP_BYTES})",
        f"({capture.DURATION_S}; 1 to {capture.DURATION_MAX_S})",
        f"({capture.BYTES_MAX}; {capture.BYTES_MAX_MIN} to {capture.BYTES_MAX_MAX})",
    ):
        assert text in TEXT, text
