"""Become a command under what a systemd unit forbids: python -m tests.support.confined UNIT COMMAND...

Of the unit: SystemCallFilter (with the sets that `systemd-analyze` prints), RestrictAddressFamilies,
MemoryDenyWriteExecute, NoNewPrivileges. The rest needs systemd itself.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE = 65  # Linux 6.3; systemd itself does it by a filter
ACT_ALLOW = 0x7FFF0000
ACT_ERRNO = 0x00050000
CMP_EQ = 4


class ArgumentIs(ctypes.Structure):
    """struct scmp_arg_cmp: one argument of a system call has this value."""

    _fields_ = (
        ("number", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("unused", ctypes.c_uint64),
    )


def settings(unit: Path) -> dict[str, list[str]]:
    """Values of each key of a unit file, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", "[")):
            found.setdefault(key.strip(), []).append(value.strip())
    return found


@cache
def members(group: str) -> frozenset[str]:
    """The system calls of a set such as @system-service, sets inside it spelt out."""
    said = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    names = {line.strip() for line in said.splitlines() if line.startswith("    ")} - {""}
    names = {name for name in names if not name.startswith("#")}
    inside = (members(name) for name in names if name.startswith("@"))
    return frozenset(name for name in names if not name.startswith("@")).union(*inside)


def allowed_calls(filters: list[str]) -> set[str]:
    """What lines of SystemCallFilter= allow: the first names what is allowed, those with ~ take away."""
    allowed: set[str] = set()
    for line in filters:
        names = line.removeprefix("~").split()
        calls = {call for name in names for call in (members(name) if name[0] == "@" else {name})}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def load_filter(calls: set[str], families: list[str]) -> None:
    """From here on any other call fails with EPERM, and any other socket family too."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ACT_ERRNO | errno.EPERM))
    for name in calls - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # those below are no calls of this architecture
            assert seccomp.seccomp_rule_add(context, ACT_ALLOW, number, 0) == 0, name
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        rule = ArgumentIs(0, CMP_EQ, getattr(socket, family), 0)
        assert seccomp.seccomp_rule_add_array(context, ACT_ALLOW, number, 1, ctypes.byref(rule)) == 0
    assert seccomp.seccomp_load(context) == 0


def confine(unit: Path) -> None:
    """This process, and whatever it becomes, under the unit's rules."""
    found = settings(unit)
    calls = allowed_calls(found["SystemCallFilter"])
    libc = ctypes.CDLL(None, use_errno=True)
    if found["NoNewPrivileges"] == ["yes"]:
        assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if found["MemoryDenyWriteExecute"] == ["yes"] and libc.prctl(PR_SET_MDWE, 1, 0, 0, 0):
        print("this kernel has no PR_SET_MDWE: memory stays writable and executable", file=sys.stderr)
    load_filter(calls, found["RestrictAddressFamilies"][0].split())


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
