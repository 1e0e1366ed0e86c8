"""The frames of a capture file, pcap or pcapng, as a stream in constant memory."""

from collections.abc import Iterator

from pyfastpath.wire.bytestream import Read
from pyfastpath.wire.frames import Frame


def read_frames(read: Read) -> Iterator[Frame]:
    """Frame after frame of a pcap or a pcapng; its first bytes tell which.

    `read(n)` gives up to n bytes, none at the end. PcapError: no capture at all, damaged or cut off.
    """
    raise NotImplementedError
