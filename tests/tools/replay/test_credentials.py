"""Passwords from files and flags."""

from pathlib import Path

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.replay.calls import Call, Flow
from pyfastpath.tools.replay.credentials import parse_credentials
from pyfastpath.types import Endpoint

PCAPS = Path(__file__).parents[2] / "pcaps"


def flow(*, server: bytes, client: bytes) -> Flow:
    end = Endpoint.parse("192.0.2.1:1")
    return Flow(0, Call(0, [server]), end, end, [client])


def test_the_file_beside_a_capture() -> None:
    known = parse_credentials((PCAPS / "wrtc-12-clients.jsonl").read_text().splitlines())
    assert len(known.server_ufrags) == 12
    assert len(known.passwords) == 24
    assert len(known.of(flow(server=b"e992d7cd", client=b"ITn2"))) == 2


def test_pairs_stand_beside_a_file_and_win() -> None:
    lines = ['{"server_ufrag": "serv", "server_pwd": "old"}', ""]
    known = parse_credentials(lines, ["serv=new=1", "clnt=other"])
    assert known.of(flow(server=b"serv", client=b"clnt")) == [b"new=1", b"other"]
    assert known.of(flow(server=b"elsewhere", client=b"unknown")) == []
    assert known.server_ufrags == {b"serv"}


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(parse_credentials((), ["serv=secret"]))


@pytest.mark.parametrize(
    ("lines", "pairs", "says"),
    [
        (["{}", "nonsense"], [], "a call without server_ufrag"),
        (['{"server_ufrag": "a"}', "nonsense"], [], r"calls\.jsonl:2: no JSON object"),
        (["[1]"], [], r"calls\.jsonl:1: no JSON object"),
        ([], ["serv"], "--password: 'serv' is no UFRAG=PASSWORD"),
        ([], ["=pwd"], "is no UFRAG=PASSWORD"),
    ],
)
def test_mistakes_are_named(lines: list[str], pairs: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_credentials(lines, pairs, file="calls.jsonl")
