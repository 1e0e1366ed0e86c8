"""The guard of every operators' API on TCP."""

import pytest

from pyfastpath.access import refusal

TOKEN = b"0123456789abcdef"
GOOD = "Bearer 0123456789abcdef"


def code(host: str, authorization: str, token: bytes = TOKEN) -> str:
    found = refusal(host, authorization, token, setting="admin_token")
    return found.code if found else ""


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9000", "[::1]", "[::1]:9000", "localhost", "localhost:9000"]
)
@pytest.mark.parametrize("authorization", [GOOD, "bearer  0123456789abcdef "])
def test_by_address_and_with_the_token(host, authorization):
    assert code(host, authorization) == ""


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:9000", "127.0.0.1.evil.example"])
def test_a_name_is_refused_even_with_the_token(host):
    assert code(host, GOOD) == "forbidden"


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Basic 0123456789abcdef", GOOD[7:], "Bearer \udcff"],
)
def test_without_the_token_nobody_gets_in(authorization):
    found = refusal("127.0.0.1", authorization, TOKEN, setting="control_token")
    assert found is not None
    assert (found.code, "<control_token>" in found.hint) == ("unauthorized", True)


def test_without_a_token_of_its_own_an_api_asks_for_nothing():
    assert code("evil.example", "", b"") == ""
