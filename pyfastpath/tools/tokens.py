"""`pyfastpath token`: mint a routable ufrag for a backend, or read what one says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyfastpath.config import Backend, RelayConfig
from pyfastpath.errors import ConfigError, FastpathError
from pyfastpath.types import TRAFFIC_CLASSES
from pyfastpath.wire import token


@dataclass(frozen=True, slots=True)
class Destination:
    """What a token names."""

    cluster: int
    xcvr: int
    incarnation: int


def keys_of(config: RelayConfig) -> dict[int, bytes]:
    """The configured token keys by kid. ConfigError when there is none."""
    if not config.token_keys:
        raise ConfigError(
            "no token key is configured",
            "Name a configuration with [[token_keys]] (--config), or set PYFASTPATH_TOKEN_KEYS=kid:hex.",
            key="token_keys",
        )
    return {item.kid: item.key.value for item in config.token_keys}


def destination_of(config: RelayConfig, backend_id: str) -> Destination:
    """What a token for this backend must name. FastpathError when tokens cannot lead there."""
    found = next((item for item in config.backends if item.id == backend_id), None)
    if found is None:
        known = ", ".join(item.id for item in config.backends) or "none"
        raise FastpathError(f"no backend {backend_id!r} is configured", f"Configured: {known}.")
    if found.transceiver is None:
        raise FastpathError(
            f"backend {backend_id!r} has no transceiver number, so no token can name it",
            "Set transceiver for it in the configuration.",
        )
    return Destination(_cluster(config, found), found.transceiver, found.incarnation)


def _cluster(config: RelayConfig, backend: Backend) -> int:
    return config.cluster if backend.cluster is None else backend.cluster


def mint(
    keys: Mapping[int, bytes],
    kid: int | None,
    to: Destination,
    *,
    traffic_class: str,
    wall_s: int,
    life_s: int,
    session: int,
) -> str:
    """A fresh ufrag. kid None: the highest configured one, which rotation adds last."""
    kid = max(keys) if kid is None else kid
    if kid not in keys:
        raise FastpathError(f"no key with kid {kid}", f"Configured: {', '.join(map(str, sorted(keys)))}.")
    if not 0 < life_s <= token.EXPIRY_AHEAD_MAX_S:
        raise FastpathError(
            f"a token lives 1 to {token.EXPIRY_AHEAD_MAX_S} s, not {life_s}", "Choose such a life."
        )
    try:
        return token.mint(
            keys[kid],
            kid,
            expires_s=wall_s + life_s,
            cluster=to.cluster,
            xcvr=to.xcvr,
            incarnation=to.incarnation,
            session=session,
            traffic_class=TRAFFIC_CLASSES.index(traffic_class),
        )
    except ValueError as error:
        raise FastpathError(str(error), "Choose a value within these bounds.") from None


def inspect(config: RelayConfig, ufrag: str, wall_s: int) -> dict[str, Any]:
    """What a token says and whether it routes now. WireError when it is none, or forged."""
    found = token.parse_token(keys_of(config), ufrag)
    left_s = token.left_s(found, wall_s)
    backend = next(
        (
            item
            for item in config.backends
            if (_cluster(config, item), item.transceiver) == (found.cluster, found.xcvr)
        ),
        None,
    )
    classes = dict(enumerate(TRAFFIC_CLASSES))
    return {
        "ufrag": ufrag,
        "kid": found.kid,
        "cluster": found.cluster,
        "transceiver": found.xcvr,
        "incarnation": found.incarnation,
        "class": classes.get(found.traffic_class, str(found.traffic_class)),
        "session": f"{found.session:09x}",
        "expires": datetime.fromtimestamp(wall_s + left_s, UTC).isoformat().replace("+00:00", "Z"),
        "expires_in_s": left_s,
        "backend": backend.id if backend else None,
        "verdict": _verdict(found, backend, wall_s),
    }


def _verdict(found: token.Token, backend: Backend | None, wall_s: int) -> str:
    """The route decision a relay of this configuration would count."""
    if not token.is_in_time(found, wall_s):
        return "expired"
    if backend is None or backend.incarnation != found.incarnation:
        return "unknown_backend"
    return "token"
