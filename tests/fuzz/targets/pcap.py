"""The readers of pcap and pcapng: nothing but PcapError comes out, however the bytes arrive, and what was
read survives the writer."""

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from pyfastpath.errors import PcapError
from pyfastpath.wire import frames
from pyfastpath.wire.pcap import read_frames
from pyfastpath.wire.pcapng import PcapngWriter
from tests.support.captures import HOSTILE, ON_A_LINK, everything, pcap, pieces, record

BYTES_MAX = 4096
SMOKE_RUNS = 300
ON_DATA_PLANE = False
CRASHERS: dict[str, bytes] = {}  # they are in HOSTILE

CAPTURES = Path(__file__).parent.parent.parent / "pcaps"


def seeds() -> Iterator[bytes]:
    """Small files of every kind: damaged ones, and the start of real calls."""
    yield from (data for data, _ in HOSTILE.values() if len(data) <= BYTES_MAX)
    yield from (everything("<"), everything(">"))
    for order in "<>":
        yield from (
            pcap(record(data, order=order), order=order, link=link) for link, data in ON_A_LINK.items()
        )
    for file in sorted(CAPTURES.glob("*.pcap")):
        yield file.read_bytes()[:BYTES_MAX]


def outcome(data, step):
    """(Frames, datagrams, error) when the source gives `step` bytes at a time."""
    seen, found, error = [], [], ""

    def watched(source):
        for frame in source:
            seen.append(frame)
            yield frame

    try:
        chunks = (data[at : at + step] for at in range(0, len(data), step))
        found.extend(frames.Datagrams(watched(read_frames(pieces(chunks)))))
    except PcapError as caught:
        error = str(caught)
        assert "\n" not in error, error
        assert caught.hint, error
        assert 0 <= caught.offset <= len(data), error
    return seen, found, error


def one_input(data: bytes) -> None:
    """What must hold for any bytes at all."""
    seen, found, error = outcome(data, len(data) or 1)
    assert (seen, found, error) == outcome(data, 1 + len(data) % 37)
    assert sum(len(frame.data) for frame in seen) <= len(data)
    assert [frame.offset for frame in seen] == sorted({frame.offset for frame in seen})
    for item in found:
        assert len(item.payload) <= item.original_bytes <= 65527
    writer = PcapngWriter()
    parts = [writer.section_header()]
    for number, frame in enumerate(seen):
        assert 0 <= frame.time_ns < 1 << 63
        parts.append(writer.interface(frame.link_type))
        parts.append(writer.packet(frame.time_ns, frame.data, frame.original_bytes, interface=number))
    again = read_frames(pieces(parts))
    assert [item[:4] for item in again] == [item[:4] for item in seen]


def mutate(own: Callable[[bytes, int], bytes], data: bytes, bytes_max: int, seed: int) -> bytes:
    """Half of the inputs as libFuzzer likes; half block by block, lengths made good, so that the changes get
    behind the checks of the frame around them."""
    dice = random.Random(seed)
    blocks = split(data)
    if len(blocks) < 2 or dice.random() < 0.5:
        return own(data, bytes_max)
    at = dice.randrange(len(blocks))
    way = dice.randrange(4)
    if way == 0:
        blocks.insert(dice.randrange(len(blocks)), blocks[at])
    elif way == 1:
        del blocks[at]
    else:
        kind, body = blocks[at]
        blocks[at] = kind, own(body, max(len(body), 64) + 64)
    return b"".join(map(joined, blocks))[:bytes_max]


def split(data):
    """(Type, body) of the blocks of a pcapng of little endian, up to the first that is none."""
    blocks, at = [], 0
    while at + 12 <= len(data):
        kind, total = struct.unpack_from("<II", data, at)
        if not 12 <= total <= len(data) - at:
            break
        blocks.append((kind, data[at + 8 : at + total - 4]))
        at += total
    return blocks


def joined(block):
    """A block with the lengths that it should have."""
    kind, body = block
    body += bytes(-len(body) % 4)
    total = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + total + body + total
