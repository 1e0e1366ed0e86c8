"""A capture as a replay reads it: surveyed once, then read again for every turn, in constant memory.

The survey says what is there before anything is sent: calls, directions, what is left out and why, and that
the file is whole. With preload it keeps what it read, and the file is not read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pyfastpath.errors import ConfigError, PcapError
from pyfastpath.tools.pcap import open_capture
from pyfastpath.tools.replay.calls import Call, CallFinder
from pyfastpath.tools.replay.credentials import Credentials
from pyfastpath.tools.replay.rewrite import Template
from pyfastpath.types import Endpoint


class Line(NamedTuple):
    """One datagram to be played. template: of a STUN message, which every session sends as its own."""

    time_ns: int
    flow: int
    upstream: bool
    payload: bytes  # of its length on the wire: what the capture cut off is zeros
    template: Template | None
    frame: int  # its number in the capture, as Wireshark counts


@dataclass(slots=True)
class Survey:
    """What a capture holds. signed, unsigned: STUN messages whose password is known, and is not."""

    calls: list[Call] = field(default_factory=list)
    datagrams: int = 0  # of calls: to be played
    frames: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    first_ns: int = 0
    last_ns: int = 0
    signed: int = 0
    unsigned: int = 0

    @property
    def duration_s(self) -> float:
        """From the first datagram of a call to the last."""
        return (self.last_ns - self.first_ns) / 1e9

    def note(self, line: Line) -> None:
        """Count one more."""
        self.first_ns = min(self.first_ns, line.time_ns) if self.datagrams else line.time_ns
        self.last_ns = max(self.last_ns, line.time_ns) if self.datagrams else line.time_ns
        self.datagrams += 1
        if line.template is not None and line.template.signed is not None:
            self.signed += line.template.signed
            self.unsigned += not line.template.signed


class Tape:
    """A capture file. limit: how many datagrams of calls are played, 0: all of them.

    server: see CallFinder. Reading raises PcapError for a damaged file, RoleError when nobody can tell who
    is the server, ConfigError when the file cannot be read or is another one than was surveyed.
    """

    def __init__(
        self,
        file: Path,
        credentials: Credentials,
        *,
        server: Endpoint | None = None,
        limit: int = 0,
        preload: bool = False,
    ) -> None:
        self.file = file
        self._credentials = credentials
        self._server = server
        self._limit = limit
        self._kept: list[Line] | None = None
        self.survey = Survey()
        self._edition = self._look()
        lines = self._read(self.survey)
        if preload:
            self._kept = list(lines)
        else:
            for _ in lines:
                pass
        if not self.survey.datagrams:
            raise _no_call(file, self.survey)

    def lines(self) -> Iterator[Line]:
        """From the first datagram of a call on; the same each time."""
        if self._kept is not None:
            return iter(self._kept)
        if self._look() != self._edition:
            raise ConfigError(
                f"{self.file} changed while it was replayed", "Replay a copy, or read it once: --preload."
            )
        return self._read(Survey())

    def _look(self) -> tuple[int, ...]:
        """What tells one edition of the file from another."""
        try:
            now = self.file.stat()
        except OSError as error:
            raise _unreadable(self.file, error) from None
        return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns

    def _read(self, survey: Survey) -> Iterator[Line]:
        try:
            yield from self._parse(survey)
        except OSError as error:
            raise _unreadable(self.file, error) from None

    def _parse(self, survey: Survey) -> Iterator[Line]:
        finder = CallFinder(server=self._server, server_ufrags=self._credentials.server_ufrags)
        survey.calls = finder.calls
        with open_capture(self.file) as datagrams:
            for item in datagrams:
                placed = finder.place(item.source, item.target, item.payload, item.original_bytes)
                if placed is None:
                    continue
                payload = item.payload.ljust(item.original_bytes, b"\0")
                template = Template(payload, self._credentials.of(placed.flow)) if placed.stun else None
                line = Line(
                    item.time_ns, placed.flow.index, placed.upstream, payload, template, datagrams.frames
                )
                survey.note(line)
                yield line
                if survey.datagrams == self._limit:
                    break
            survey.frames = datagrams.frames
            survey.skipped = finder.skipped + Counter(
                {f"frames: {reason}".replace("_", " "): count for reason, count in datagrams.skipped.items()}
            )


def _unreadable(file: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot read {file}: {error.strerror}", "Name a pcap or pcapng file.")


def _no_call(file: Path, survey: Survey) -> PcapError:
    if not survey.frames:
        return PcapError(f"{file} holds no packet at all", "Was anything sent while it was recorded?")
    seen = ", ".join(f"{count:,} {reason}" for reason, count in survey.skipped.most_common(4))
    return PcapError(
        f"{file} holds no WebRTC call that could be replayed: {survey.frames:,} frames, {seen}",
        "A call begins with a client's Binding Request: record from before it, or until it asks again (5 s).",
    )
