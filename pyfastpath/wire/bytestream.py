"""Exact reads from a source that gives bytes as it likes, with the offset for error messages.

Holds one chunk and what is asked for, never the whole source: a file of any size, or a pipe, is read in
constant memory.
"""

from collections.abc import Callable
from typing import Final

from pyfastpath.errors import PcapError

CHUNK_BYTES: Final = 1 << 18

Read = Callable[[int], bytes]
"""Up to that many bytes, at least one; empty at the end only (as the `read` of a file or a pipe)."""


class ByteStream:
    """Reads ahead by a chunk: a system call a chunk, not one a frame."""

    __slots__ = ("_at", "_before", "_buffer", "_read")

    def __init__(self, read: Read) -> None:
        self._read = read
        self._buffer = b""
        self._at = 0  # of the next byte in the buffer
        self._before = 0  # bytes of the source in front of the buffer

    @property
    def offset(self) -> int:
        """Of the next byte, from the start of the source."""
        return self._before + self._at

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes. The caller bounds `count`: so much is held in memory.

        PcapError when the source ends before; `what` is the subject of its sentence ("the frame").
        """
        end = self._at + count
        if end > len(self._buffer):
            self._fill(count)
            end = self._at + count
            if end > len(self._buffer):
                raise self._cut(what, self.offset, count, len(self._buffer) - self._at)
        data = self._buffer[self._at : end]
        self._at = end
        return data

    def peek(self, count: int) -> bytes:
        """The next bytes without taking them; fewer than `count` only in front of the end."""
        if self._at + count > len(self._buffer):
            self._fill(count)
        return self._buffer[self._at : self._at + count]

    def skip(self, count: int, what: str) -> None:
        """Pass over bytes, in chunks however many they are. PcapError as `take`."""
        start, left = self.offset, count
        while left > (held := len(self._buffer) - self._at):
            left -= held
            self._before += len(self._buffer)
            self._buffer, self._at = self._read(CHUNK_BYTES), 0
            if not self._buffer:
                raise self._cut(what, start, count, count - left)
        self._at += left

    def _fill(self, count: int) -> None:
        parts = [self._buffer[self._at :]]
        held = len(parts[0])
        while held < count:
            more = self._read(max(CHUNK_BYTES, count - held))
            if not more:
                break
            parts.append(more)
            held += len(more)
        self._before += self._at
        self._buffer, self._at = b"".join(parts), 0

    @staticmethod
    def _cut(what: str, offset: int, wanted: int, found: int) -> PcapError:
        return PcapError(
            f"The capture ends inside {what} at byte {offset}: {found} of {wanted} bytes are there",
            "It was cut off or damaged; record or copy it again.",
            offset=offset,
        )
