"""API keys and ephemeral keys: who is let in, and as what."""

import hmac
import json

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.secrets import Keys, SecretRequest, parse_secret_request

KEY = bytes(range(32))
NOW = 1_800_000_000


def keys(*api_keys: str) -> Keys:
    return Keys(tuple(key.encode() for key in api_keys), KEY)


def issued(by: Keys, body: object = None, nonce: bytes = bytes(8)) -> str:
    request = parse_secret_request(json.dumps(body).encode() if body is not None else b"")
    return by.issue(request, wall_s=NOW, nonce=nonce)[0]


def refusal(by: Keys, header: str, **more: bool) -> CallError:
    with pytest.raises(CallError) as refused:
        by.check(header, wall_s=NOW, **more)
    assert refused.value.status == 401
    return refused.value


def test_without_api_keys_anybody_may_call() -> None:
    assert not keys().are_required
    for header in ("", "Bearer whatever"):
        bearer = keys().check(header, wall_s=NOW)
        assert bearer.session is None
        assert not bearer.is_known


def test_with_api_keys_one_of_them_is_needed() -> None:
    mine = keys("first-key-0123456", "second-key-012345")
    assert mine.are_required
    for key in ("first-key-0123456", "second-key-012345"):
        assert mine.check(f"Bearer {key}", wall_s=NOW).is_known
        assert mine.check(f"  bearer   {key} ", wall_s=NOW).is_known
    assert refusal(mine, "").code == "unauthorized"
    for wrong in ("Bearer", "Bearer ", "Bearer first-key-012345", "Basic first-key-0123456", "Bearer \udcff"):
        assert refusal(mine, wrong).code == "unauthorized"


def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    genuine = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or genuine(a, b))
    assert keys("first-key-0123456", "second-key-012345").check("Bearer first-key-0123456", wall_s=NOW)
    assert len(compared) == 2
    assert {len(side) for pair in compared for side in pair} == {32}, "digests: their length tells nothing"


def test_an_empty_api_key_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="an API key is empty"):
        keys("")


def test_an_ephemeral_key_brings_its_session() -> None:
    mine = keys("first-key-0123456")
    session = {"type": "realtime", "instructions": "Sei höflich", "audio": {"output": {"voice": "x"}}}
    value = issued(mine, {"session": session, "expires_after": {"seconds": 60}})
    assert value.startswith("ek_")
    bearer = mine.check(f"Bearer {value}", wall_s=NOW + 60)
    assert bearer.session == session
    assert bearer.expires_s == NOW + 60
    assert bearer.is_known
    assert issued(mine, {}) != issued(mine, {}, nonce=b"12345678"), "no two keys are the same"


def test_an_ephemeral_key_ends() -> None:
    mine = keys()
    value = issued(mine, {"expires_after": {"anchor": "created_at", "seconds": 10}})
    with pytest.raises(CallError) as refused:
        mine.check(f"Bearer {value}", wall_s=NOW + 11)
    assert refused.value.code == "expired_key"
    assert refused.value.status == 401
    assert mine.check(f"Bearer {value}", wall_s=NOW + 5000, late=True).is_known, "to end its call"


def test_an_ephemeral_key_of_others_is_refused_even_where_anybody_may_call() -> None:
    other = Keys((), KEY[::-1])
    for header in (f"Bearer {issued(other)}", "Bearer ek_", "Bearer ek_68b0c1", f"Bearer {issued(keys())}x"):
        assert refusal(keys(), header).code == "unauthorized"
        assert refusal(keys(), header, late=True).code == "unauthorized"


def test_a_request_has_defaults() -> None:
    assert parse_secret_request(b"") == parse_secret_request(b"{}") == SecretRequest()
    assert keys().issue(SecretRequest(), wall_s=NOW, nonce=bytes(8))[1] == NOW + 600


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"\xff", None),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b'{"session": 5}', "session"),
        (b'{"expires_after": {"seconds": 9}}', "expires_after.seconds"),
        (b'{"expires_after": {"seconds": 7201}}', "expires_after.seconds"),
        (b'{"expires_after": {"anchor": "never"}}', "expires_after.anchor"),
    ],
)
def test_a_wrong_request_is_refused_by_its_parameter(body: bytes, param: str | None) -> None:
    with pytest.raises(CallError) as refused:
        parse_secret_request(body)
    assert (refused.value.code, refused.value.param) == ("bad_request", param)


def test_a_session_too_long_for_a_header_is_refused() -> None:
    """Not by its length alone: text shrinks before it is sealed."""
    mine = keys()
    repeated = {"session": {"instructions": "You are a helpful assistant. " * 2000}}
    assert len(issued(mine, repeated)) < 2000
    noise = {"session": {"instructions": "".join(chr(33 + n * n * 7919 % 5077 % 90) for n in range(60_000))}}
    noise["session"]["instructions"] += hex(pow(7, 200_000))
    with pytest.raises(CallError) as refused:
        issued(mine, noise)
    assert (refused.value.code, refused.value.param) == ("bad_session", "session")
