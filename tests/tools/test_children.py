"""Children that serve, die, die over and over, or do not obey; whatever happens, none is left."""

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from pyfastpath.tools import children as module
from pyfastpath.tools.children import Child, ChildError, Children
from pyfastpath.tools.ports import free_port

STUBBORN = """
import http.server, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind="127.0.0.1")
"""
PARENT = """
import asyncio, os, sys
from pathlib import Path
from pyfastpath.tools.children import Child, Children

async def main():
    children = Children(os.environ, print)
    command = ("http.server", sys.argv[1], "--bind", "127.0.0.1")
    await children.start(Child("it", command, Path(sys.argv[2]), ""))
    print(children._children[0].process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def server(folder: Path, name: str = "the server", **changes: str) -> Child:
    port = free_port(socket.SOCK_STREAM)
    command = ("http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder))
    return Child(name=name, command=command, log=folder / "log", ready=f"http://127.0.0.1:{port}/")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


async def test_they_serve_with_their_own_environment_and_end(tmp_path: Path) -> None:
    said: list[str] = []
    children = Children({**os.environ, "MARK": "yes"}, said.append)
    child = server(tmp_path)
    await children.start(child)
    await children.wait_until_ready()
    pid = pid_of(child)
    assert b"MARK=yes" in environment_of(pid)
    assert os.getsid(pid) == pid, "Ctrl-C of the terminal does not reach it"
    assert "GET / HTTP" in child.last_lines()
    await children.close()
    assert not alive(pid)
    assert said == []


async def test_one_that_ends_at_the_start_is_told_with_its_log(tmp_path: Path) -> None:
    children = Children(os.environ, print)
    await children.start(
        Child("the child", ("no_such_module_here",), tmp_path / "log", "http://127.0.0.1:9/")
    )
    with pytest.raises(ChildError, match=r"(?s)the child ended with code 1\. .*no_such_module_here"):
        await children.wait_until_ready()
    await children.close()


async def test_one_that_never_serves_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT_S", 1.0)
    children = Children(os.environ, print)
    child = server(tmp_path)
    child.ready += "no/such/path"
    await children.start(child)
    with pytest.raises(ChildError, match="the server did not become ready"):
        await children.wait_until_ready()
    await children.close()
    assert not alive(pid_of(child))


async def test_the_dead_are_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    children = Children(os.environ, said.append)
    child, other = server(tmp_path), server(tmp_path, "the other")
    await children.start(child)
    await children.start(other)
    await children.wait_until_ready()
    keeping = asyncio.create_task(children.keep())
    first, untouched = pid_of(child), pid_of(other)
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(10):
        while pid_of(child) == first:  # noqa: ASYNC110 - nothing in here could set an event
            await asyncio.sleep(0.02)
    await children.wait_until_ready()
    assert said == ["the server ended by SIGKILL: starting another"]
    assert pid_of(other) == untouched
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await children.close()
    assert not alive(pid_of(child))
    assert not alive(untouched)


async def test_one_that_dies_over_and_over_is_given_up(tmp_path: Path) -> None:
    said: list[str] = []
    children = Children(os.environ, said.append)
    await children.start(Child("the child", ("no_such_module_here",), tmp_path / "log", ""))
    with pytest.raises(ChildError, match=r"(?s)3 times at once.*no_such_module_here"):
        async with asyncio.timeout(20):
            await children.keep()
    assert said == ["the child ended with code 1: starting another"] * 2
    await children.close()


async def test_a_stubborn_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.5)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    port = free_port(socket.SOCK_STREAM)
    (tmp_path / "stubborn_child.py").write_text(STUBBORN.format(port=port))
    said: list[str] = []
    children = Children(os.environ, said.append)
    child = Child("the child", ("stubborn_child",), tmp_path / "log", f"http://127.0.0.1:{port}/")
    await children.start(child)
    await children.wait_until_ready()
    await children.close()
    assert not alive(pid_of(child))
    assert said == ["the child did not stop within 0 s and was killed"]


async def test_no_orphan_is_left_by_a_parent_that_was_killed(tmp_path: Path) -> None:
    port = str(free_port(socket.SOCK_STREAM))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, port, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 20))
    assert alive(pid)
    parent.kill()
    await parent.wait()
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
