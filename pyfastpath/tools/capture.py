"""`pyfastpath capture`: what a live relay's clients send and get, as a pcapng that Wireshark opens.

The relay does the work and bounds it; this asks, writes whole blocks only, and says what came of it.
"""

import contextlib
import http.client
import signal
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Annotated, Final

import typer

from pyfastpath.errors import ConfigError, FastpathError, UnreachableError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.wire.pcapng import ENHANCED_PACKET, STATISTICS

CHUNK_BYTES: Final = 1 << 16
QUIET_S: Final = 30.0  # beyond the capture's own end
STANDARD_OUTPUT: Final = "-"

_HEAD: Final = struct.Struct("<II")
_RECEIVED: Final = struct.Struct("<HHQHHQ")  # the two counts of a statistics block, each with its head
_RECEIVED_AT: Final = 20

Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - is standard output.")
]
Session = Annotated[str, typer.Option(metavar="NAME", help="Only the session of this name.")]
Ufrag = Annotated[str, typer.Option(metavar="UFRAG", help="Only flows of this server's ufrag.")]
Client = Annotated[str, typer.Option(metavar="IP[:PORT]", help="Only this client's address.")]
Backend = Annotated[str, typer.Option(metavar="ID", help="Only flows to this backend.")]
Full = Annotated[
    bool, typer.Option("--full", help="Payloads too: media and data channels, encrypted as they are.")
]
Snap = Annotated[int, typer.Option(min=1, max=2048, metavar="BYTES", help="Bytes of a datagram at most.")]
Duration = Annotated[int, typer.Option(min=1, max=3600, metavar="SECONDS", help="How long.")]
MaxBytes = Annotated[int, typer.Option(min=4096, metavar="BYTES", help="Size of the file at most.")]
End = Annotated[bool, typer.Option("--end", help="End the capture that runs, whoever began it.")]


@dataclass(frozen=True, slots=True)
class Request:
    """What to capture, as the options say it; empty strings ask for everything."""

    session: str = ""
    ufrag: str = ""
    client: str = ""
    backend: str = ""
    full: bool = False
    snap: int = 2048
    duration_s: int = 30
    max_bytes: int = 64 << 20


class Blocks:
    """Whole blocks of a pcapng that comes in pieces, and what they say."""

    def __init__(self) -> None:
        self._rest = b""
        self.packets = 0
        self.asked_for: int | None = None  # datagrams, by the last block; None: it has not come

    def feed(self, piece: bytes) -> bytes:
        """The blocks that are complete now."""
        data, at = self._rest + piece, 0
        while at + _HEAD.size <= len(data):
            kind, length = _HEAD.unpack_from(data, at)
            if length < 12 or at + length > len(data):
                break
            self.packets += kind == ENHANCED_PACKET
            if kind == STATISTICS and length >= _RECEIVED_AT + _RECEIVED.size:
                self.asked_for = _RECEIVED.unpack_from(data, at + _RECEIVED_AT)[2]
            at += length
        self._rest = data[at:]
        return data[:at]


def run(client: AdminClient, output: str, wanted: Request, *, end: bool = False) -> None:
    """Capture to a file, or end the capture that runs; says on standard error what came of it."""
    if end:
        client.request("DELETE", ("capture",))
        return
    if not output:
        raise ConfigError("a capture needs a file", "Pass -o FILE, or -o - for standard output.")
    blocks = Blocks()
    with (
        client.stream("capture", quiet_s=wanted.duration_s + QUIET_S, **_query(wanted)) as reply,
        _opened(output) as file,
        _ending_well(client),
    ):
        if sys.stderr.isatty():
            print(f"capturing for {wanted.duration_s} s at most; Ctrl-C ends it", file=sys.stderr)
        _copy(reply, file, blocks, client.where)
    print(_summary(blocks, output), file=sys.stderr)


def _query(wanted: Request) -> dict[str, str | int | None]:
    return {
        "session": wanted.session or None,
        "ufrag": wanted.ufrag or None,
        "client": wanted.client or None,
        "backend": wanted.backend or None,
        "full": int(wanted.full),
        "snap": wanted.snap,
        "duration_s": wanted.duration_s,
        "max_bytes": wanted.max_bytes,
    }


def _copy(reply: http.client.HTTPResponse, file: FileIO, blocks: Blocks, where: str) -> None:
    try:
        while piece := reply.read1(CHUNK_BYTES):
            _write(file, blocks.feed(piece))
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(
            f"{where} broke the capture off after {blocks.packets} datagrams ({error})",
            "What came until then is in the file. See whether the relay runs, and its log.",
        ) from None


def _write(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise FastpathError(f"cannot write the capture: {error.strerror}", "Give it another place.") from None


@contextlib.contextmanager
def _opened(output: str) -> Iterator[FileIO]:
    """Only once the relay has said yes: a refused capture leaves the last one's file alone."""
    if output == STANDARD_OUTPUT:
        with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as file:
            yield file
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(output).open("wb", buffering=0))
        except OSError as error:
            raise ConfigError(f"cannot write {output}: {error.strerror}", "Name another file.") from None
        yield file


@contextlib.contextmanager
def _ending_well(client: AdminClient) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the relay for a good end; the second one breaks off."""

    def ask(number: int, frame: object) -> None:
        restore()
        with contextlib.suppress(FastpathError):  # it has just ended
            client.request("DELETE", ("capture",))

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield
    finally:
        restore()


def _summary(blocks: Blocks, output: str) -> str:
    name = "standard output" if output == STANDARD_OUTPUT else output
    lost = (blocks.asked_for or 0) - blocks.packets
    said = f"{name}: {blocks.packets} datagrams"
    if not blocks.packets and not lost:
        said += "; nothing went by that was asked for (pyfastpath ctl flows shows who is there)"
    if lost > 0:
        said += f", {lost} more are not in it: this reader was too slow, or the file is full"
    return said
