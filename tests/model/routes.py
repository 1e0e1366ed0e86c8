"""Session routes as a dict: what fastpath/routes must equal, slots apart."""

from dataclasses import dataclass

INSTALLED, REFRESHED, CONFLICT, FULL = 0, 1, 2, 3


@dataclass
class Route:
    """`used_s`: the last sweep that saw a flow on it, 0 = none yet."""

    backend: int
    expires_s: int
    session: int
    used_s: int = 0


class RouteTable:
    """By ufrag; at most `routes_max`."""

    def __init__(self, routes_max: int) -> None:
        self.routes_max = routes_max
        self.routes: dict[bytes, Route] = {}

    def install(self, ufrag: bytes, backend: int, expires_s: int, session: int, *, replace: bool) -> int:
        """Anew with the same target: its time begins again, as if no flow had been on it."""
        old = self.routes.get(ufrag)
        if old is None and len(self.routes) >= self.routes_max:
            return FULL
        if old is not None and old.backend != backend and not replace:
            return CONFLICT
        self.routes[ufrag] = Route(backend, expires_s, session)
        return REFRESHED if old is not None and old.backend == backend else INSTALLED

    def lookup(self, ufrag: bytes, now_s: int) -> int | None:
        """The backend of a route whose time is not over, or that a flow keeps."""
        route = self.routes.get(ufrag)
        return route.backend if route and (route.used_s or route.expires_s > now_s) else None

    def sweep(self, now_s: int, used: set[bytes]) -> int:
        """`used`: ufrags with a live flow. Gives how many routes were released."""
        for ufrag in used & self.routes.keys():
            self.routes[ufrag].used_s = now_s
        over = [
            ufrag
            for ufrag, route in self.routes.items()
            if (route.used_s < now_s if route.used_s else route.expires_s <= now_s)
        ]
        for ufrag in over:
            del self.routes[ufrag]
        return len(over)
