"""Requests for routes: parsed, checked, and grouped into as few commands as keep their order."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import RouteError
from pyfastpath.relay.sessions import (
    RouteRequest,
    check_ufrag,
    check_ufrags,
    checked,
    grouped,
    parse_route,
    parse_routes,
    session_hash,
)

SEED = bytes(range(16))


def line(**fields: Any) -> bytes:
    return json.dumps({"ufrag": "ufrag1", "backend": "a", **fields}).encode()


def test_a_request_with_everything() -> None:
    body = line(target="10.0.0.1:5", ttl_s=60, session="call", replace=True)
    assert parse_route(body) == RouteRequest(
        ufrag="ufrag1", backend="a", target="10.0.0.1:5", ttl_s=60, session="call", replace=True
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not a route"),
        (b"[]", "Expected `object`"),
        (b'{"ufrag": "ufrag1"}', "missing required field `backend`"),
        (line(ufrag="abc"), "is not 4 to 256 characters"),
        (line(ufrag="a" * 257), "is not 4 to 256 characters"),
        (line(ufrag="ufrag-1"), "is not 4 to 256 characters"),
        (line(ttl_s=-1), "ttl_s is -1"),
        (line(ttl_s=604_801), "Give 1 to 604800"),
        (line(ttl_s="60"), "Expected `int`, got `str`"),
        (line(backends="a"), "unknown field `backends`"),
        (b'{"ufrag": "\xff"}', "not a route"),
    ],
)
def test_a_bad_request_says_what_is_wrong(body: bytes, says: str) -> None:
    with pytest.raises(RouteError) as refused:
        parse_route(body)
    assert refused.value.code == "bad_request"
    assert says in str(refused.value)


@given(st.binary(max_size=200))
def test_no_body_is_more_than_refused(body: bytes) -> None:
    try:
        parse_route(body)
    except RouteError as error:
        assert error.code == "bad_request"


def test_ufrags_are_checked_one_by_one_and_in_bulk() -> None:
    assert check_ufrag("aB0+/" * 3) == b"aB0+/" * 3
    check_ufrags(["ufrag1", "ufrag2"])
    with pytest.raises(RouteError, match="'bad ufrag'"):
        check_ufrags(["ufrag1", "bad ufrag"])
    with pytest.raises(RouteError, match="'x'"):
        checked(RouteRequest(ufrag="x", backend="a"))


def test_a_session_is_hashed_under_the_tables_key() -> None:
    assert session_hash("", SEED) == 0
    assert session_hash("call", SEED) == session_hash("call", SEED) != session_hash("call", bytes(16))
    assert 0 < session_hash("call", SEED) < 1 << 32


def test_bad_lines_do_not_stop_the_others_and_keep_their_numbers() -> None:
    def place(request: RouteRequest) -> int:
        if request.backend == "nobody":
            raise RouteError("no such backend", code="unknown_backend")
        return 3

    lines = [line(), b"", b"{", line(backend="nobody"), b"  ", line(ufrag="ufrag2")]
    placed, bad = parse_routes(lines, place, first_line=11)
    assert [(number, request.ufrag, index) for number, request, index in placed] == [
        (11, "ufrag1", 3),
        (16, "ufrag2", 3),
    ]
    assert [(one.line, one.error.code) for one in bad] == [(13, "bad_request"), (14, "unknown_backend")]


def test_alike_routes_are_one_command() -> None:
    requests = [RouteRequest(ufrag=f"ufrag{n}", backend="a", ttl_s=0 if n else 9) for n in range(4)]
    commands = list(grouped([(n, one, n) for n, one in enumerate(requests)], ttl_s=60, seed=SEED))
    assert [(numbers, command.ttl_s) for numbers, command in commands] == [([0], 9), ([1, 2, 3], 60)]
    assert commands[1][1].ufrags == [b"ufrag1", b"ufrag2", b"ufrag3"]
    assert commands[1][1].backends == [1, 2, 3]


REQUESTS = st.builds(
    RouteRequest,
    ufrag=st.sampled_from(["ufrag1", "ufrag2", "ufrag3"]),
    backend=st.just("a"),
    ttl_s=st.sampled_from([0, 5]),
    session=st.sampled_from(["", "s"]),
    replace=st.booleans(),
)


@given(st.lists(REQUESTS, max_size=12))
def test_grouping_keeps_every_route_and_the_order_of_each_ufrag(requests: list[RouteRequest]) -> None:
    placed = [(number, request, number) for number, request in enumerate(requests)]
    out = [
        (number, ufrag.decode(), command.ttl_s, command.session, command.replace)
        for numbers, command in grouped(placed, ttl_s=60, seed=SEED)
        for number, ufrag in zip(numbers, command.ufrags, strict=True)
    ]
    assert sorted(out) == [
        (n, r.ufrag, r.ttl_s or 60, session_hash(r.session, SEED), r.replace) for n, r in enumerate(requests)
    ]
    for ufrag in {request.ufrag for request in requests}:
        numbers = [item[0] for item in out if item[1] == ufrag]
        assert numbers == sorted(numbers)
