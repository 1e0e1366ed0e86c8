"""From root to an ordinary user, once everything is open that needed root. There is no way back.

After its sockets are open a relay needs none of root's rights; whatever it opens later, it opens as that
user. capabilities(7), prctl(2).
"""

from __future__ import annotations

import ctypes
import logging
import os
import pwd
import stat
from pathlib import Path
from typing import Final

from pyfastpath.errors import ConfigError

log = logging.getLogger("pyfastpath.keeper")

PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
CAPABILITIES: Final = 64  # numbers a kernel may know; it refuses those it does not

_libc: Final = ctypes.CDLL(None, use_errno=True)


def gain_none() -> None:
    """Neither this process nor its children can win rights by exec (set-user-ID, file capabilities)."""
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def drop_to(user: str, *, admin_socket: str) -> None:
    """Become `user`, with that user's groups and no capability, for good. The admin socket comes along.

    ConfigError when there is no such user, when this process may not become it, or when that user could not
    remove the admin socket in the end.
    """
    found = _found(user)
    if os.geteuid() != found.pw_uid:
        if admin_socket:
            _hand_over(admin_socket, found)
        _empty_bounding_set()
        os.setgroups(os.getgrouplist(found.pw_name, found.pw_gid))
        os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
        os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)
        log.info("everything is open: running as %s from here on", user)
    folder = Path(admin_socket).parent
    if admin_socket and not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{user} may not write in {folder}, where the admin socket is",
            f"Give it a folder of that user's own: mkdir /run/pyfastpath; chown {user} /run/pyfastpath.",
            key="admin_socket",
        )


def _found(user: str) -> pwd.struct_passwd:
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f"no user {user!r} on this machine", f"useradd --system {user}", key="user"
        ) from None
    if os.geteuid() not in (0, found.pw_uid):
        raise ConfigError(f"only root can become {user}", "Start it as root, or leave user out.", key="user")
    return found


def _hand_over(admin_socket: str, user: pwd.struct_passwd) -> None:
    """By descriptor: in a folder of the user's, the name may meanwhile be that of something else."""
    try:
        fd = os.open(admin_socket, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:  # somebody removed it; the socket itself lives on
        return
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.chown(f"/proc/self/fd/{fd}", user.pw_uid, user.pw_gid)
    finally:
        os.close(fd)


def _empty_bounding_set() -> None:
    """No exec can bring a capability back. A container may have taken the right to do so already, and then
    no_new_privs alone sees to it."""
    for capability in range(CAPABILITIES):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
