"""Every session of this process, found by its names: the gateway's sid, a ufrag, a path. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from pyfastpath.transceiver.path import Identity, Path, identity_of
from pyfastpath.transceiver.requests import SessionError

Call = TypeVar("Call", bound=Hashable)


class Roster(Generic[Call]):
    """A call may have several ufrags (ICE restarts) and paths; it keeps the sid it was created with."""

    def __init__(self) -> None:
        self.by_identity: dict[Identity, Call] = {}
        self.by_path: dict[Path, Call] = {}  # the same, for the relay sockets they came by last
        self._by_sid: dict[int, Call] = {}
        self._by_ufrag: dict[str, Call] = {}
        self._ufrags: dict[Call, set[str]] = {}
        self._paths: dict[Call, dict[Identity, Path]] = {}
        self._sids: dict[Call, int] = {}

    def add(self, sid: int, ufrag: str, call: Call) -> None:
        """A new call. SessionError (conflict) when one of its names is taken: no token is minted twice."""
        if sid in self._by_sid:
            raise SessionError(f"session {sid:09x} exists already.", "Draw a fresh sid.", code="conflict")
        self.refuse_taken(ufrag)
        self._by_sid[sid], self._sids[call] = call, sid
        self._by_ufrag[ufrag], self._ufrags[call] = call, {ufrag}
        self._paths[call] = {}

    def add_ufrag(self, ufrag: str, call: Call) -> None:
        """One more name of a call, after an ICE restart."""
        self.refuse_taken(ufrag)
        self._by_ufrag[ufrag] = call
        self._ufrags[call].add(ufrag)

    def keep_ufrags(self, call: Call, is_kept: Callable[[str], bool]) -> None:
        """Forget the names that a call no longer answers to."""
        for ufrag in [ufrag for ufrag in self._ufrags[call] if not is_kept(ufrag)]:
            self._ufrags[call].remove(ufrag)
            del self._by_ufrag[ufrag]

    def learn(self, path: Path, call: Call) -> None:
        """Datagrams from this path are this call's: its client has just proved the password there."""
        identity = identity_of(path)
        before = self.by_identity.get(identity)
        if before is not None:
            self.by_path.pop(self._paths[before].pop(identity), None)
        self.by_identity[identity] = self.by_path[path] = call
        self._paths[call][identity] = path

    def forget(self, path: Path, call: Call) -> None:
        """Datagrams from this path are no longer this call's, if they still were."""
        identity = identity_of(path)
        if self.by_identity.get(identity) is call:
            del self.by_identity[identity]
            del self.by_path[self._paths[call].pop(identity)]

    def remove(self, call: Call) -> list[Path]:
        """Forget a call; gives the paths that were its own."""
        del self._by_sid[self._sids.pop(call)]
        for ufrag in self._ufrags.pop(call):
            del self._by_ufrag[ufrag]
        paths = self._paths.pop(call)
        for identity, path in paths.items():
            del self.by_identity[identity]
            del self.by_path[path]
        return list(paths.values())

    def of_ufrag(self, ufrag: str) -> Call | None:
        """Whose check is this?"""
        return self._by_ufrag.get(ufrag)

    def get(self, sid: int) -> Call | None:
        """The call of this sid, if there is one."""
        return self._by_sid.get(sid)

    def of_sid(self, sid: int) -> Call:
        """The call of this sid; SessionError (not_found)."""
        try:
            return self._by_sid[sid]
        except KeyError:
            raise SessionError(
                f"no session {sid:09x} here.", "It has ended, or belongs to another.", code="not_found"
            ) from None

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._by_sid.values()))

    def __len__(self) -> int:
        return len(self._by_sid)

    def __contains__(self, call: Call) -> bool:
        return call in self._sids

    def refuse_taken(self, ufrag: str) -> None:
        """SessionError (conflict) when a call has this ufrag already."""
        if ufrag in self._by_ufrag:
            raise SessionError(f"ufrag {ufrag} is taken.", "Mint a fresh token.", code="conflict")
