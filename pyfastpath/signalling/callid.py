"""The names of a call: its id, which any gateway can read, and the ufrag that leads a relay to it.

A gateway keeps no call state. `rtc_…` seals which transceiver holds the session and its first sid, so any
gateway with the same call key can end the call, restart its ICE or follow its events, and nobody can
guess the id of another's call.
"""

from dataclasses import dataclass
from typing import Final

from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.sealing import Sealer
from pyfastpath.types import TRAFFIC_CLASSES
from pyfastpath.wire import token

PREFIX: Final = "rtc_"
SID_DIGITS: Final = 9  # 36 bits in hex
_SESSION_BITS: Final = token.SESSION_BITS
_BYTES: Final = 9  # cluster 12 bits, xcvr 16, incarnation 4, sid 36 = 68 bits; the first 4 are zero


@dataclass(frozen=True, slots=True)
class CallName:
    """Which session on which transceiver. sid: the session's first 36 random bits, for ever its name."""

    cluster: int
    xcvr: int
    incarnation: int
    sid: int

    @property
    def sid_text(self) -> str:
        """Nine hex digits, as the transceiver's API has them."""
        return f"{self.sid:0{SID_DIGITS}x}"


def pack_name(name: CallName) -> bytes:
    """The nine bytes of a name."""
    number = ((name.cluster << 16 | name.xcvr) << 4 | name.incarnation) << _SESSION_BITS | name.sid
    return number.to_bytes(_BYTES, "big")


def unpack_name(data: bytes) -> CallName:
    """The inverse of pack_name."""
    number = int.from_bytes(data, "big")
    where = number >> _SESSION_BITS
    return CallName(
        cluster=where >> 20,
        xcvr=where >> 4 & 0xFFFF,
        incarnation=where & 0xF,
        sid=number & (1 << _SESSION_BITS) - 1,
    )


class CallIds:
    """Seals and opens call ids under the gateways' common call key."""

    def __init__(self, call_key: bytes) -> None:
        self._sealer = Sealer(call_key, "call id")

    def build(self, name: CallName) -> str:
        """`rtc_` and 34 letters, digits, - and _."""
        return PREFIX + self._sealer.seal(pack_name(name))

    def parse(self, text: str) -> CallName:
        """The call an id names; CallError unknown_call for anything not made here."""
        content = self._sealer.open(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else None
        if content is None or len(content) != _BYTES:
            raise unknown_call()
        return unpack_name(content)


def unknown_call() -> CallError:
    """No call has this id, or its transceiver lives no more: the same answer, for nobody needs to know."""
    return CallError(
        "there is no such call",
        "It ended, or the id is not of this gateway.",
        code="unknown_call",
        param="call_id",
    )


class Minter:
    """Mints the ufrags of calls: token T1 with the key `kid`."""

    def __init__(self, keys: dict[int, bytes], kid: int, call_max_s: int) -> None:
        """keys: by kid; call_max_s: how long a token opens new flows, at most 24 hours."""
        self._key = keys[kid]
        self._kid = kid
        self._call_max_s = min(call_max_s, token.EXPIRY_AHEAD_MAX_S)

    def mint(self, name: CallName, session: int, wall_s: int, *, has_data: bool = False) -> str:
        """A ufrag that leads to the transceiver of `name`; `session`: 36 fresh random bits, the sid or,
        for an ICE restart, new ones. has_data: the call has a data channel, which is a class of its own."""
        return token.mint(
            self._key,
            self._kid,
            expires_s=wall_s + self._call_max_s,
            cluster=name.cluster,
            xcvr=name.xcvr,
            incarnation=name.incarnation,
            session=session,
            traffic_class=TRAFFIC_CLASSES.index("voice_data" if has_data else "voice"),
        )
