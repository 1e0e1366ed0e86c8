"""Session routes as the admin API and the Python API ask for them. Pure.

Requests are parsed and checked here and become InstallRoutes commands, as few as possible: in bulk,
all routes of one life, session and rule travel together.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from pyfastpath.errors import RouteError
from pyfastpath.relay.commands import InstallRoutes

_UFRAG: Final = re.compile(r"[A-Za-z0-9+/]{4,256}")  # RFC 8839, section 5.4
TTL_MAX_S: Final = 604_800


class RouteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One route as it is asked for. ttl_s 0: the configured one. target: ip:port of a plain backend."""

    ufrag: str
    backend: str
    target: str = ""
    ttl_s: int = 0
    session: str = ""
    replace: bool = False


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a bulk request that is refused; the others are installed."""

    line: int
    error: RouteError


Placed = tuple[int, RouteRequest, int]
"""Line number, request, and the table index it goes to."""

_decode_route: Final = msgspec.json.Decoder(RouteRequest).decode


def session_hash(name: str, seed: bytes) -> int:
    """32 bits that stand for a session's name in its routes, never 0; "" gives 0. seed: the tables' key."""
    if not name:
        return 0
    return int.from_bytes(hashlib.blake2b(name.encode(), key=seed, digest_size=4).digest(), "little") or 1


def parse_route(body: bytes) -> RouteRequest:
    """One request from JSON. RouteError (bad_request) says which field is wrong."""
    try:
        request = _decode_route(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RouteError(
            f"not a route: {error}.",
            'Write {"ufrag": "...", "backend": "id"} with target, ttl_s, session or replace as needed.',
            code="bad_request",
        ) from None
    return checked(request)


def checked(request: RouteRequest) -> RouteRequest:
    """The request itself; RouteError (bad_request) when its ufrag or life is impossible."""
    check_ufrag(request.ufrag)
    if not 0 <= request.ttl_s <= TTL_MAX_S:
        raise RouteError(
            f"ttl_s is {request.ttl_s}.", f"Give 1 to {TTL_MAX_S}, or leave it out.", code="bad_request"
        )
    return request


def check_ufrag(ufrag: str) -> bytes:
    """The ufrag as bytes; RouteError (bad_request) when no ICE agent could use it."""
    if _UFRAG.fullmatch(ufrag) is None:
        raise RouteError(
            f"ufrag {ufrag[:40]!r} is not 4 to 256 characters of A-Z a-z 0-9 + /.",
            "Pass the server's ice-ufrag as it stands in its SDP.",
            code="bad_request",
        )
    return ufrag.encode()


def check_ufrags(ufrags: Iterable[str]) -> None:
    """check_ufrag for many at once."""
    for ufrag in ufrags:
        if _UFRAG.fullmatch(ufrag) is None:
            check_ufrag(ufrag)


def parse_routes(
    lines: Iterable[bytes], place: Callable[[RouteRequest], int], *, first_line: int = 1
) -> tuple[list[Placed], list[BadLine]]:
    """Requests from lines of JSON, empty ones skipped; `place` resolves backend and target."""
    placed: list[Placed] = []
    bad: list[BadLine] = []
    for number, line in enumerate(lines, start=first_line):
        if not line.strip():
            continue
        try:
            request = parse_route(line)
            placed.append((number, request, place(request)))
        except RouteError as error:
            bad.append(BadLine(number, error))
    return placed, bad


def grouped(
    placed: Iterable[Placed], *, ttl_s: int, seed: bytes
) -> Iterator[tuple[list[int], InstallRoutes]]:
    """Commands that install the requests, each with the line numbers of its routes in order.

    Lines of one ufrag keep their order, so that the last one of a `replace` wins: a repeated ufrag
    closes the group.
    """
    groups: dict[tuple[int, str, bool], list[Placed]] = {}
    seen: set[str] = set()
    for item in placed:
        request = item[1]
        if request.ufrag in seen:
            yield from _commands(groups, seed)
            groups, seen = {}, set()
        seen.add(request.ufrag)
        groups.setdefault((request.ttl_s or ttl_s, request.session, request.replace), []).append(item)
    yield from _commands(groups, seed)


def _commands(
    groups: dict[tuple[int, str, bool], list[Placed]], seed: bytes
) -> Iterator[tuple[list[int], InstallRoutes]]:
    for (ttl_s, session, replace), items in groups.items():
        yield (
            [number for number, _, _ in items],
            InstallRoutes(
                ufrags=[request.ufrag.encode() for _, request, _ in items],
                backends=[index for _, _, index in items],
                ttl_s=ttl_s,
                session=session_hash(session, seed),
                replace=replace,
            ),
        )
