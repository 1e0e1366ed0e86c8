"""Small disks that fill up or turn read-only, seen only by this thread and the processes it starts.

with own_mounts(), small_disk(tmp_path / "disk") as disk:
    fill(disk)
"""

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.require import require

CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
DISK_KIB = 64


@contextmanager
def own_mounts() -> Iterator[None]:
    """A mount namespace: what is mounted inside is gone at the end, whatever happens."""
    require("root", "namespaces")
    before = Path.cwd()
    with Path("/proc/thread-self/ns/mnt").open() as home:
        _must("unshare", CLONE_FS | CLONE_NEWNS)
        try:
            mount("--make-rprivate", "/")
            yield
        finally:
            _must("setns", home.fileno(), CLONE_NEWNS)
            os.chdir(before)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 64 KiB, mounted here until the end."""
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=10)


def fill(disk: Path) -> Path:
    """Until not another byte fits; gives the file to delete for room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return filler


def make_read_only(disk: Path) -> None:
    """A file that is open keeps a disk writable: a read-only view is mounted over it, as in a container."""
    mount("--bind", str(disk), str(disk))
    mount("-o", "remount,bind,ro", str(disk))


def make_writable(disk: Path) -> None:
    """After make_read_only."""
    subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=10)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=10)


def _must(call: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), call)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), call)
