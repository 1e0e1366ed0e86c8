"""The names of a replay: ufrags, transaction masks and tokens, fresh for each run, never stored. Pure.

Every name follows from the run's nonce and the place it belongs to (call, copy, …), so a million of them
need no memory, and no two runs against one relay ever meet in a name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from pyfastpath.tools.replay.calls import Call, Flow
from pyfastpath.tools.replay.rewrite import Identity
from pyfastpath.wire import token

NONCE_BYTES: Final = 16
UFRAG_LEAST: Final = 8  # characters: 2^48 of them, where a captured one may have 4
UFRAG_MOST: Final = 64
_PLACE_BITS: Final = 16  # calls and copies are 65,000 at most; leaves 4 of a token's 36 for restarts
_LETTERS: Final = token.ALPHABET + "+/"  # ice-chars (RFC 8839, section 5.4)


@dataclass(frozen=True, slots=True)
class TokenMint:
    """How ufrags are minted as tokens of one transceiver, instead of being routed one by one."""

    key: bytes = field(repr=False)
    kid: int
    cluster: int
    xcvr: int
    incarnation: int
    expires_s: int  # Unix time


@dataclass(frozen=True, slots=True)
class Names:
    """All names of one run, or of one turn of its loop: `nonce` is theirs alone."""

    nonce: bytes
    mints: tuple[TokenMint, ...] = ()  # by backend; empty: ufrags that need a route

    def ufrag(self, call: Call, copy: int, ordinal: int, backend: int) -> bytes:
        """What copy `copy` of a call asks for in place of its `ordinal`-th captured ufrag.

        As long as that, within bounds; never of a token's length unless it is one.
        """
        if self.mints:
            mint = self.mints[backend]
            return token.mint(
                mint.key,
                mint.kid,
                expires_s=mint.expires_s,
                cluster=mint.cluster,
                xcvr=mint.xcvr,
                incarnation=mint.incarnation,
                session=self.token_session(call, copy, ordinal),
            ).encode()
        drawn = self._draw(b"ufrag", call.index, copy, ordinal)
        characters = min(max(len(call.ufrags[ordinal]), UFRAG_LEAST), UFRAG_MOST)
        characters += characters == token.CHARACTERS
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in drawn[:characters]).encode()

    def token_session(self, call: Call, copy: int, ordinal: int) -> int:
        """What tells the tokens of a run apart: an odd factor makes different places different numbers, where
        drawn ones would meet (36 bits, 65,000 of them: one run in thirty)."""
        drawn = self._draw(b"token", 0, 0, 0)
        factor, first = int.from_bytes(drawn[:8], "big") | 1, int.from_bytes(drawn[8:16], "big")
        place = ordinal << 2 * _PLACE_BITS | call.index << _PLACE_BITS | copy
        return (place * factor + first) % (1 << token.SESSION_BITS)

    def session(self, call: Call, copy: int) -> str:
        """The name of a copy among the relay's sessions: its ufrags replace each other (an ICE restart)."""
        return f"replay-{self.nonce.hex()[:12]}-{call.index}-{copy}"

    def identity(self, flow: Flow, copy: int, backend: int) -> Identity:
        """What makes a captured message of `flow` the message of its copy `copy`."""
        own = {
            captured: self.ufrag(flow.call, copy, ordinal, backend)
            for ordinal, captured in enumerate(flow.call.ufrags)
        }
        return Identity(own, int.from_bytes(self._draw(b"mask", flow.index, copy, 0)[:12], "big"))

    def _draw(self, what: bytes, place: int, copy: int, ordinal: int) -> bytes:
        """64 bytes that look random."""
        text = f"{place}.{copy}.{ordinal}".encode()
        return hashlib.blake2b(text, key=self.nonce, person=what).digest()
