"""What the kernel knows of a relay's processes: who they are, their memory, threads, descriptors, drops.

Everything is read from /proc, so nothing here needs the relay to answer. A process that ends meanwhile counts
as nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

_SOCKET = re.compile(r"socket:\[(\d+)\]")
DROPS_COLUMN = 12  # of /proc/net/udp, the last one
INODE_COLUMN = 9
UTIME, STIME, CUTIME = 11, 12, 13  # of /proc/PID/stat, counted from the state
TICKS_A_S = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and its living descendants, parents first."""
    found = [pid]
    for task in _entries(pid, "task"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory of several processes: what each has for itself, and the largest share of what they have
    in common (the tables are mapped by all)."""
    books = [_resident_kib(pid) for pid in pids]
    shared = max((one.get("RssShmem", 0) for one in books), default=0)
    return (sum(one.get("RssAnon", 0) for one in books) + shared) * 1024


def private_bytes(pids: Iterable[int]) -> int:
    """What several processes have for themselves alone, resident: where a leak would be."""
    return sum(_resident_kib(pid).get("RssAnon", 0) for pid in pids) * 1024


def _resident_kib(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.partition(":") for line in lines if line.startswith("Rss"))
    return {name: int(rest.split()[0]) for name, _, rest in fields}


def threads(pids: Iterable[int]) -> int:
    """Threads of several processes."""
    return sum(len(_entries(pid, "task")) for pid in pids)


def descriptors(pids: Iterable[int]) -> int:
    """Open descriptors of several processes."""
    return sum(len(_entries(pid, "fd")) for pid in pids)


def user_s(pids: Iterable[int]) -> float:
    """CPU time of several processes in user mode, their children that have ended included."""
    return sum(map(_user_ticks, pids)) / TICKS_A_S


def busy(pid: int, seconds: float) -> float:
    """The share of one CPU that a process takes, looked at for so long."""
    before = _cpu_ticks(pid)
    began_s = time.monotonic()
    time.sleep(seconds)
    return (_cpu_ticks(pid) - before) / TICKS_A_S / (time.monotonic() - began_s)


def user_of_all_s() -> float:
    """CPU time of the whole machine in user mode, and in that of polite processes."""
    user, nice = Path("/proc/stat").read_text().split(maxsplit=3)[1:3]
    return (int(user) + int(nice)) / TICKS_A_S


def _user_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[UTIME]) + int(fields[CUTIME]) if fields else 0


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[UTIME]) + int(fields[STIME]) if fields else 0


def _stat(pid: int) -> list[str]:
    """What follows the name in proc(5)'s stat; nothing of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def udp_drops(pid: int) -> dict[int, int]:
    """inode -> datagrams the kernel dropped, for each UDP socket that a process holds. Of the kernel's own
    books, so it survives the death of whoever used the socket."""
    mine = _socket_inodes(pid)
    found = {}
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            inode = int(columns[INODE_COLUMN])
            if inode in mine:
                found[inode] = int(columns[DROPS_COLUMN])
    return found


def drops_since(before: dict[int, int], now: dict[int, int]) -> int:
    """What was dropped meanwhile; a socket that is new had dropped nothing before."""
    return sum(max(0, drops - before.get(inode, 0)) for inode, drops in now.items())


def _socket_inodes(pid: int) -> set[int]:
    found = set()
    for entry in _entries(pid, "fd"):
        try:
            matched = _SOCKET.fullmatch(os.readlink(entry))  # noqa: PTH115  a name, not a path
        except OSError:
            continue
        if matched:
            found.add(int(matched[1]))
    return found


def _entries(pid: int, folder: str) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/{folder}").iterdir())
    except OSError:
        return []
