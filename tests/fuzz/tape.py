"""Reads an input as a story: small numbers and pieces of bytes, zeros once it has ended."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Tape:
    """`left` is 0 once everything was read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        """At most so many bytes."""
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, count: int = 1) -> int:
        """Of so many bytes, big endian."""
        return int.from_bytes(self.take(count), "big")

    def below(self, bound: int) -> int:
        """0 … bound-1."""
        return self.number(1 if bound <= 256 else 2) % bound

    def choose(self, among: Sequence[T]) -> T:
        return among[self.below(len(among))]

    def piece(self) -> bytes:
        """A length of two bytes, and so many: at most 2,047, which is as long as a datagram gets."""
        return self.take(self.number(2) & 0x7FF)
