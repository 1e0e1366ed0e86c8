"""From root to an ordinary user: what the process is afterwards, and what the errors say.

Each case is a child of its own, for there is no way back.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.require import require

USER = "nobody"
HEAD = """
import os, sys
from pyfastpath.relay import privileges
from pyfastpath.errors import ConfigError
try:
"""
TAIL = """
except ConfigError as error:
    print(error)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user can reach, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="fastpath-user-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def run_in_child(code: str, *arguments: object) -> str:
    """What it printed; an error of ours is printed as one."""
    whole = HEAD + textwrap.indent(textwrap.dedent(code), "    ") + TAIL
    done = subprocess.run(
        [sys.executable, "-c", whole, *map(str, arguments)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_root_is_left(folder):
    require("root")
    os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    path = folder / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        said = run_in_child(
            """
            privileges.gain_none()
            privileges.drop_to(sys.argv[1], admin_socket=sys.argv[2])
            print(open('/proc/self/status').read())
            try:
                os.setuid(0)
            except PermissionError:
                print('no way back')
            """,
            USER,
            path,
        )
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    user = pwd.getpwnam(USER)
    assert status["Uid"].split() == [str(user.pw_uid)] * 4
    assert status["Gid"].split() == [str(user.pw_gid)] * 4
    assert set(map(int, status["Groups"].split())) == set(os.getgrouplist(USER, user.pw_gid))
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"] == "1"
    assert "no way back" in said
    assert path.stat().st_uid == user.pw_uid


def test_a_link_in_place_of_the_admin_socket_is_not_followed(folder):
    require("root")
    precious = folder / "precious"
    precious.write_text("root's")
    os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    (folder / "admin.sock").symlink_to(precious)
    run_in_child("privileges.drop_to(sys.argv[1], admin_socket=sys.argv[2])", USER, folder / "admin.sock")
    assert precious.stat().st_uid == 0


def test_a_folder_that_the_user_may_not_write_is_named(folder):
    require("root")
    path = folder / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        said = run_in_child("privileges.drop_to(sys.argv[1], admin_socket=sys.argv[2])", USER, path)
    assert f"admin_socket: nobody may not write in {folder}, where the admin socket is." in said


def test_a_user_that_is_not_there_is_named():
    said = run_in_child("privileges.drop_to('nobody-of-that-name', admin_socket='')")
    assert (
        said == "user: no user 'nobody-of-that-name' on this machine. useradd --system nobody-of-that-name\n"
    )


def test_only_root_can_become_another():
    require("root")
    said = run_in_child("os.setresuid(1, 1, 1); privileges.drop_to('nobody', admin_socket='')")
    assert said == "user: only root can become nobody. Start it as root, or leave user out.\n"


def test_who_is_that_user_already_stays_it():
    own = pwd.getpwuid(os.geteuid()).pw_name
    assert run_in_child(f"privileges.drop_to({own!r}, admin_socket=''); print(os.geteuid())") == (
        f"{os.geteuid()}\n"
    )
