"""Redundant audio (RFC 2198): one packet carries the newest frame and copies of earlier ones.

parse_red(payload)  ->  [Block(111, 1920, ...), Block(111, 960, ...), Block(111, 0, newest)]
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from pyfastpath.errors import WireError

OFFSET_MAX: Final = (1 << 14) - 1  # timestamp units before the packet's own
BLOCK_BYTES_MAX: Final = (1 << 10) - 1  # of a copy; the newest block has no length field


class Block(msgspec.Struct, frozen=True, gc=False):
    """One encoding. `timestamp_offset` is how long before the packet's timestamp it was, at the RTP clock."""

    payload_type: int
    timestamp_offset: int
    data: bytes


def parse_red(payload: bytes) -> list[Block]:
    """Oldest first, the newest (offset 0) last. WireError: the blocks reach past the payload's end."""
    heads: list[tuple[int, int, int]] = []
    at, end = 0, len(payload)
    while at < end and payload[at] & 0x80:
        if at + 4 > end:
            raise WireError("This RED payload ends inside a block header.")
        head = int.from_bytes(payload[at : at + 4], "big")
        heads.append((head >> 24 & 0x7F, head >> 10 & OFFSET_MAX, head & BLOCK_BYTES_MAX))
        at += 4
    if at >= end:
        raise WireError("This RED payload has no header for its newest block.")
    newest, at = payload[at], at + 1
    blocks: list[Block] = []
    for payload_type, offset, length in heads:
        blocks.append(Block(payload_type, offset, payload[at : at + length]))
        at += length
    if at > end:
        raise WireError("The blocks of this RED payload reach past its end.")
    blocks.append(Block(newest, 0, payload[at:]))
    return blocks


def build_red(blocks: Sequence[Block]) -> bytes:
    """The payload of a RED packet; the last block is the newest, its offset is 0.

    ValueError: no block, a newest one with an offset, a copy that does not fit its header.
    """
    if not blocks or blocks[-1].timestamp_offset:
        raise ValueError("the last block of a RED payload is the newest, with offset 0")
    heads = []
    for block in blocks[:-1]:
        length, offset = len(block.data), block.timestamp_offset
        if length > BLOCK_BYTES_MAX or not 0 <= offset <= OFFSET_MAX:
            raise ValueError(f"a copy of {length} bytes and offset {offset} does not fit a RED header")
        heads.append((1 << 31 | block.payload_type << 24 | offset << 10 | length).to_bytes(4, "big"))
    return b"".join([*heads, bytes([blocks[-1].payload_type]), *(block.data for block in blocks)])
