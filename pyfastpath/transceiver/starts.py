"""How often a transceiver has started: the trunk's epoch must rise with each start, the incarnation follows.

Relays refuse a trunk of an older epoch as replayed, and tokens of an earlier incarnation lead nowhere.
Without a folder of its own the wall clock stands in for the count.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pyfastpath.errors import ConfigError

FILE: Final = "starts.json"
CLOCK_ZERO_S: Final = 1_577_836_800  # 2020-01-01; 32 bits of quarter seconds last until 2054
CLOCK_TICK_S: Final = 0.25  # two starts of one transceiver are further apart
INCARNATIONS: Final = 16
EPOCH_MAX: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Start:
    """epoch: 1 … 2^32 - 1, higher than at the start before. incarnation: 0 … 15, another than before."""

    epoch: int
    incarnation: int


class _Stored(msgspec.Struct, frozen=True):
    starts: int
    epoch: int


def note_start(state_dir: str, wall_s: float) -> Start:
    """This start, remembered in `state_dir` when there is one. ConfigError when it cannot be written.

    The epoch is never behind the clock, so a lost folder locks no trunk out.
    """
    ticks = min(max(1, int((wall_s - CLOCK_ZERO_S) / CLOCK_TICK_S)), EPOCH_MAX)
    if not state_dir:
        return Start(ticks, ticks % INCARNATIONS)
    file = Path(state_dir) / FILE
    try:
        Path(state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _read(file)
        stored = _Stored(before.starts + 1, min(max(ticks, before.epoch + 1), EPOCH_MAX))
        _write(file, msgspec.json.encode(stored))
    except OSError as error:
        raise ConfigError(
            f"cannot keep {file}: {error.strerror}", "Name a folder this user may write.", key="state_dir"
        ) from error
    return Start(stored.epoch, stored.starts % INCARNATIONS)


def _read(file: Path) -> _Stored:
    """What the start before left; nothing readable counts as nothing."""
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        return msgspec.json.decode(file.read_bytes(), type=_Stored)
    return _Stored(-1, 0)


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all, and on disk before anything goes by it."""
    fresh = file.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
