"""Session routes at work: requests in, table changes out, and the SDP answer that names the relay.

Runs in the control thread, the routes' one writer.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from fastpath.routes import CONFLICT, FULL, INSTALLED, REFRESHED
from fastpath.shard import Shared

from pyfastpath.config import Backend
from pyfastpath.errors import RouteError
from pyfastpath.relay import placement, sessions
from pyfastpath.relay.backends import Registry
from pyfastpath.relay.commands import InstallRoutes
from pyfastpath.relay.layout import age_ms
from pyfastpath.relay.listing import endpoint_of
from pyfastpath.relay.tables import Tables
from pyfastpath.types import Endpoint
from pyfastpath.wire import sdp

log = logging.getLogger("pyfastpath.routing")

ERRORS_TOLD: Final = 100
RESULTS: Final = {INSTALLED: "installed", REFRESHED: "refreshed", CONFLICT: "conflict", FULL: "table_full"}


@dataclass(slots=True)
class BulkResult:
    """What became of a bulk request: counts by result, and the first refusals by line."""

    installed: int = 0
    refreshed: int = 0
    refused: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, line: int, error: RouteError) -> None:
        """Count a refused line; only the first ones are told in full."""
        self.refused += 1
        if len(self.errors) < ERRORS_TOLD:
            self.errors.append({"line": line, "code": error.code, "message": str(error)})


class Routing:
    """Installs, finds and removes session routes."""

    def __init__(self, shared: Shared, tables: Tables, registry: Registry) -> None:
        self._shared = shared
        self._tables = tables
        self._registry = registry
        self.ttl_s = 3600
        self.candidates: tuple[sdp.Candidate, ...] = ()
        self._warned: set[str] = set()  # backends whose answers name other addresses

    def place(self, request: sessions.RouteRequest) -> int:
        """The table index a request's route goes to: a backend's, or that of the target it names."""
        entry = self._registry.get(request.backend)
        if not request.target:
            return entry.index
        return self._target_index(entry.index, placement.target_of(entry.spec, request.target))

    def install(self, command: InstallRoutes) -> bytes:
        """Carry out an InstallRoutes; one result code a route."""
        codes: bytes = self._shared.routes.install_many(
            command.ufrags,
            command.backends,
            monotonic_s() + command.ttl_s,
            command.session,
            command.replace,
        )
        return codes

    def put(self, request: sessions.RouteRequest) -> dict[str, Any]:
        """Install one route; RouteError on conflict or a full table."""
        place = self.place(request)
        ((_, command),) = sessions.grouped([(1, request, place)], ttl_s=self.ttl_s, seed=self._shared.seed)
        code = self.install(command)[0]
        if code not in (INSTALLED, REFRESHED):
            raise refusal(code, request.ufrag)
        return {"result": RESULTS[code], **self.get(request.ufrag)}

    def put_lines(self, lines: Iterable[bytes], first_line: int, result: BulkResult) -> None:
        """Install many, one JSON object a line; refused lines do not stop the others."""
        placed, bad = sessions.parse_routes(lines, self.place, first_line=first_line)
        for one in bad:
            result.refuse(one.line, one.error)
        for numbers, command in sessions.grouped(placed, ttl_s=self.ttl_s, seed=self._shared.seed):
            for number, ufrag, code in zip(numbers, command.ufrags, self.install(command), strict=True):
                if code == INSTALLED:
                    result.installed += 1
                elif code == REFRESHED:
                    result.refreshed += 1
                else:
                    result.refuse(number, refusal(code, ufrag.decode()))

    def answer(self, backend: str, answer: str, *, session: str, target: str, replace: bool) -> str:
        """Install the routes of a server's SDP answer and give it back with the relay's candidates.

        All ufrags of the answer are routed, or none.
        """
        spec = self._registry.get(backend).spec
        new: list[str] = []
        try:
            for place, media in enumerate(sdp.media_ice(answer)):
                where = target or placement.answered_target(spec, media.candidates)
                if not target:
                    self._warn_of_others(spec, media.candidates)
                request = sessions.RouteRequest(
                    ufrag=media.ufrag,
                    backend=backend,
                    target=str(where or ""),
                    # Transports of one session that are not bundled live side by side.
                    session=session if place == 0 or not session else f"{session}/{media.mid}",
                    replace=replace,
                )
                if self.put(request)["result"] == "installed":
                    new.append(media.ufrag)
        except RouteError:
            for ufrag in new:
                self._shared.routes.remove(ufrag.encode())
            raise
        return sdp.replace_candidates(answer, self.candidates)

    def _warn_of_others(self, spec: Backend, candidates: Iterable[sdp.Candidate]) -> None:
        named = placement.elsewhere(spec, candidates)
        if named and spec.id not in self._warned:
            self._warned.add(spec.id)
            log.warning(
                "an answer of backend %s names %s, its flows go to %s: right behind a NAT; "
                "a server with a port for each session needs the backend's allow",
                spec.id,
                named,
                spec.address,
            )

    def get(self, ufrag: str) -> dict[str, Any]:
        """One installed route. RouteError (not_found) when there is none."""
        found = self._shared.routes.lookup(sessions.check_ufrag(ufrag))
        if found is None:
            raise _not_found(ufrag)
        index, expires_s, session = found
        row = self._tables.backends[index]
        entry = self._registry.by_index().get(int(row["parent"]))
        endpoint = str(endpoint_of(row["address"]))
        return {
            "ufrag": ufrag,
            "backend": entry.spec.id if entry else None,
            "address": endpoint,
            "target": endpoint if int(row["parent"]) != index else None,
            "expires_in_s": age_ms(monotonic_s(), expires_s),
            "has_session": bool(session),
        }

    def remove(self, ufrag: str) -> None:
        """Withdraw one route; live flows go on. RouteError (not_found) when there is none."""
        if not self._shared.routes.remove(sessions.check_ufrag(ufrag)):
            raise _not_found(ufrag)

    def _target_index(self, backend: int, where: Endpoint) -> int:
        index: int = self._shared.backends.target(
            backend, where.address16, where.port, where.family, monotonic_s()
        )
        if index < 0:
            raise RouteError(
                "all targets_max address:port targets are in use.",
                "Raise targets_max, or let sessions end: a target is free two minutes after its last flow.",
                code="table_full",
            )
        return index


def _not_found(ufrag: str) -> RouteError:
    return RouteError(
        f"no route is installed for ufrag {ufrag!r}.",
        "It may have ended with its last flow, or its time passed unused.",
        code="not_found",
    )


def refusal(code: int, ufrag: str) -> RouteError:
    """The error for a result code that is none of installed and refreshed."""
    if code == CONFLICT:
        return RouteError(
            f"ufrag {ufrag!r} is already routed elsewhere.",
            "Pass replace to move it, or remove the old route first.",
            code="conflict",
        )
    return RouteError(
        "the route table is full.",
        "Raise routes_max, give routes a shorter ttl_s, or remove those of ended sessions.",
        code="table_full",
    )


def monotonic_s() -> int:
    """The tables' clock: CLOCK_MONOTONIC in whole seconds, 32 bits."""
    return int(time.monotonic()) & 0xFFFFFFFF
