"""A registry in a directory, for processes of one machine: one JSON file a transceiver.

A file is replaced by renaming, so a reader sees the old record or the new one, never half of one. How
fresh a record is, is told by the file's modification time; once a reader has seen it change, by the
reader's own clock, so that nothing but the first look depends on the wall clock.
"""

import contextlib
import logging
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from pyfastpath.registry.record import (
    ID,
    RECORD_BYTES_MAX,
    RegistryError,
    TransceiverRecord,
    build_record,
    parse_record,
)

log = logging.getLogger("pyfastpath.registry")

_ID: Final = re.compile(ID)
_Stamp = tuple[int, int, int]  # inode, modification time in ns, size: another one means another record


class FileRegistry:
    """See registry.record.Registry. The directory is made when it is missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, tuple[_Stamp, TransceiverRecord | None]] = {}
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(
                f"cannot make the registry's directory {directory}: {error.strerror}",
                "Name one this user may write.",
            ) from error

    async def announce(self, record: TransceiverRecord, now: float) -> None:
        """Write the file beside and rename it into place."""
        try:
            self._replace(self._path(record.id), build_record(record))
        except OSError as error:
            raise RegistryError(
                f"cannot write {self._path(record.id)}: {error.strerror}",
                "Look at disk space and permissions.",
            ) from error

    async def withdraw(self, id: str) -> None:
        """Remove its file. What is no id names no file, wherever it may point to."""
        if not _ID.match(id):
            return
        path = self._path(id)
        try:
            os.unlink(path)  # noqa: PTH108 - as fast as it gets: nothing of this waits
        except FileNotFoundError:
            return
        except OSError as error:
            raise RegistryError(
                f"cannot remove {path}: {error.strerror}", "Look at its permissions."
            ) from error

    async def records(self, now: float) -> list[TransceiverRecord]:
        """Whoever is alive, by id. Reads only files that changed since the last look."""
        try:
            with os.scandir(self._directory) as entries:
                files = {Path(one.name).stem: one for one in entries if _is_record(one.name)}
                for id, entry in files.items():
                    self._look(id, entry, now)
        except OSError as error:
            raise RegistryError(
                f"cannot read the registry's directory {self._directory}: {error.strerror}"
            ) from error
        for id in self._seen.keys() - files.keys():
            del self._seen[id]
        known = (self._seen[id][1] for id in sorted(self._seen))
        return [record for record in known if record is not None and record.is_alive(now)]

    async def close(self) -> None:
        """Nothing is held open."""

    def _path(self, id: str) -> Path:
        return self._directory / f"{id}.json"

    def _replace(self, path: Path, data: bytes) -> None:
        descriptor, fresh = tempfile.mkstemp(dir=self._directory, prefix=".", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(fresh).replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                Path(fresh).unlink()
            raise

    def _look(self, id: str, entry: "os.DirEntry[str]", now: float) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            before = self._seen.get(id)
            if before is not None and before[0] == stamp:
                return
            record = _read(Path(entry.path), id)
        except FileNotFoundError:  # withdrawn in this moment
            return
        heard_s = now if before is not None else now - _age_s(status.st_mtime_ns)
        self._seen[id] = (stamp, record and msgspec.structs.replace(record, heard_s=heard_s))


def _is_record(name: str) -> bool:
    return name.endswith(".json") and _ID.match(name.removesuffix(".json")) is not None


def _age_s(mtime_ns: int) -> float:
    """Seconds since the file was written. A file from the future tells nothing: as old as can be."""
    age_s = time.time() - mtime_ns / 1e9
    return age_s if age_s >= -1 else float("inf")


def _read(path: Path, id: str) -> TransceiverRecord | None:
    """None, said in the log once a version, for a file that holds no record of that id."""
    with path.open("rb") as file:
        data = file.read(RECORD_BYTES_MAX)
    try:
        record = parse_record(data)
    except RegistryError as error:
        log.warning("%s is passed over: %s", path, error)
        return None
    if record.id != id:
        log.warning("%s is passed over: it is the record of %r", path, record.id)
        return None
    return record
