"""Bencode, as rtpengine's control protocol `ng` writes it: dictionaries, lists, strings and integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def encode(value: Any) -> bytes:
    """A value as bencode; TypeError for what the protocol has no word for."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, Mapping):
        items = sorted((key.encode(), encode(item)) for key, item in value.items())
        return b"d" + b"".join(encode(key) + item for key, item in items) + b"e"
    if isinstance(value, list | tuple):
        return b"l" + b"".join(map(encode, value)) + b"e"
    raise TypeError(f"bencode has no {type(value).__name__}")


def decode(data: bytes) -> Any:
    """The one value in `data`; strings come as text. ValueError for anything else."""
    value, at = _value(data, 0)
    if at != len(data):
        raise ValueError(f"bencode: {len(data) - at} bytes behind the value")
    return value


def _value(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items, at = _items(data, at + 1)
        if kind == b"l":
            return items, at
        if len(items) % 2:
            raise ValueError("bencode: a key without a value")
        return dict(zip(items[::2], items[1::2], strict=True)), at
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    if end > len(data):
        raise ValueError(f"bencode: a string of {end - colon - 1} bytes at {at}, past the end")
    return data[colon + 1 : end].decode(), end


def _items(data: bytes, at: int) -> tuple[list[Any], int]:
    items = []
    while data[at : at + 1] != b"e":
        if at >= len(data):
            raise ValueError("bencode: no end")
        item, at = _value(data, at)
        items.append(item)
    return items, at + 1
