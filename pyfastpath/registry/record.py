"""What is known of a transceiver, and the interface of every registry.

A transceiver announces its record every second and at each change; a registry stamps it with the moment
it was heard. Nobody is declared dead: whoever was not heard for ALIVE_S is left out, and back when heard.
"""

from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

from pyfastpath.errors import FastpathError

ALIVE_S: Final = 3.0  # a dead transceiver gets no new call after this
ANNOUNCE_EVERY_S: Final = 1.0
RECORD_BYTES_MAX: Final = 8192

State = Literal["up", "draining", "stopping"]
ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"  # what may stand in a path, of a file and of a URL
_CONTROL = r"^(unix:/[^\n]+|https?://[^\s/?#@]+)\Z"  # what types.HttpAddress reads


class RegistryError(FastpathError):
    """A registry that cannot be reached or refuses; for announcers: try again at the next second."""


class TransceiverRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One transceiver as it says it is. Unknown keys are passed over: a newer one may say more."""

    id: Annotated[str, Meta(pattern=ID)]
    cluster: Annotated[int, Meta(ge=0, le=4095)]
    xcvr: Annotated[int, Meta(ge=0, le=65535)]
    incarnation: Annotated[int, Meta(ge=0, le=15)]
    control: Annotated[str, Meta(pattern=_CONTROL, max_length=256)]
    state: State = "up"
    sessions: Annotated[int, Meta(ge=0)] = 0
    capacity: Annotated[int, Meta(ge=0)] = 0  # sessions it can hold
    heard_s: float = 0.0  # on the clock of whoever reads the registry; an announcer's own is overwritten

    def is_alive(self, now: float) -> bool:
        """Heard within ALIVE_S."""
        return now - self.heard_s <= ALIVE_S


class Registry(Protocol):
    """Who is alive. `now` is the caller's monotonic clock in seconds, the one `heard_s` is given on.

    Every method may raise RegistryError; none of them changes anything for other callers when it does.
    """

    async def announce(self, record: TransceiverRecord, now: float) -> None:
        """This is how the transceiver is at `now`; replaces what was known under its id."""

    async def withdraw(self, id: str) -> None:
        """It is gone. Nothing happens when it is not known."""

    async def records(self, now: float) -> list[TransceiverRecord]:
        """Whoever is alive, draining and stopping ones too, by id."""

    async def close(self) -> None:
        """Release what it holds; nothing is called afterwards."""


def parse_record(data: bytes) -> TransceiverRecord:
    """A record from JSON. RegistryError names the key that is wrong."""
    try:
        return msgspec.json.decode(data, type=TransceiverRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        keys = ", ".join(name for name in TransceiverRecord.__struct_fields__ if name != "heard_s")
        raise RegistryError(f"not a transceiver record: {error}", f"Its keys: {keys}.") from None


def build_record(record: TransceiverRecord) -> bytes:
    """The JSON of a record, without heard_s, which means nothing to anybody else."""
    fields = msgspec.structs.asdict(record)
    del fields["heard_s"]
    return msgspec.json.encode(fields)
