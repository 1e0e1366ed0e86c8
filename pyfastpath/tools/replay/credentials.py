"""ICE passwords of the captured calls, as files and flags give them. Pure.

A file has one JSON object a line, one a call: server_ufrag, server_pwd, client_ufrag, client_pwd; more fields
may stand there (an offer, an answer), and the client's may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pyfastpath.errors import ConfigError
from pyfastpath.tools.replay.calls import Flow

_SIDES: Final = ("server", "client")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is known: ufrag -> password, and which ufrags are servers'."""

    passwords: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    server_ufrags: frozenset[bytes] = frozenset()

    def of(self, flow: Flow) -> list[bytes]:
        """The passwords with which messages of this flow may have been signed."""
        names = (*flow.call.ufrags, *flow.client_ufrags)
        return [self.passwords[name] for name in names if name in self.passwords]


def parse_credentials(lines: Iterable[str], pairs: Iterable[str] = (), *, file: str = "") -> Credentials:
    """Read the lines of a file and UFRAG=PASSWORD pairs. ConfigError names the line or the pair."""
    passwords: dict[bytes, bytes] = {}
    servers: set[bytes] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        call = _object(line, file, number)
        for side in _SIDES:
            ufrag, password = call.get(f"{side}_ufrag"), call.get(f"{side}_pwd")
            if isinstance(ufrag, str) and isinstance(password, str):
                passwords[ufrag.encode()] = password.encode()
        if not isinstance(call.get("server_ufrag"), str):
            raise ConfigError("a call without server_ufrag", where=f"{file}:{number}", line=number)
        servers.add(call["server_ufrag"].encode())
    for pair in pairs:
        ufrag, equals, password = pair.partition("=")
        if not ufrag or not equals:
            raise ConfigError(f"{pair!r} is no UFRAG=PASSWORD", key="--password")
        passwords[ufrag.encode()] = password.encode()
    return Credentials(passwords, frozenset(servers))


def _object(line: str, file: str, number: int) -> dict[str, Any]:
    try:
        call = json.loads(line)
    except ValueError:
        call = None
    if not isinstance(call, dict):
        hint = (
            'Write one call a line: {"server_ufrag": …, "server_pwd": …, "client_ufrag": …, "client_pwd": …}.'
        )
        raise ConfigError("no JSON object", hint, where=f"{file}:{number}", line=number)
    return call
