"""Opens capture files: the UDP datagrams in a pcap or pcapng, streamed or all at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pyfastpath.errors import PcapError
from pyfastpath.wire.frames import Datagram, Datagrams
from pyfastpath.wire.pcap import read_frames


@dataclass(slots=True)
class Capture:
    """What a file holds. `skipped` counts frames that hold no UDP datagram."""

    datagrams: list[Datagram] = field(default_factory=list)
    skipped: int = 0


@contextmanager
def open_capture(file: Path) -> Iterator[Datagrams]:
    """The file's datagrams as a stream, in constant memory.

    PcapError, here and while iterating inside the `with`, names the file; OSError: it cannot be read.
    """
    try:
        with file.open("rb", buffering=0) as source:
            yield Datagrams(read_frames(source.read))
    except PcapError as error:
        raise PcapError(f"{file}: {error.message}", error.hint, offset=error.offset) from None


def read_pcap(file: Path) -> Capture:
    """Read a whole file; its times then count from its first datagram. Errors as `open_capture`."""
    capture = Capture()
    with open_capture(file) as datagrams:
        first_ns: int | None = None
        for item in datagrams:
            first_ns = item.time_ns if first_ns is None else first_ns
            capture.datagrams.append(item._replace(time_ns=item.time_ns - first_ns))
        capture.skipped = datagrams.skipped.total()
    return capture
