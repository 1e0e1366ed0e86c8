"""The word with the service manager, against one of our own; sd_notify(3) says what has to come of it."""

import json
import os
import socket
import sys

import pytest

from pyfastpath import notify
from pyfastpath.notify import ServiceManager
from tests.support.manager import Manager


@pytest.fixture
def manager(tmp_path):
    with Manager(tmp_path) as running:
        yield running


def word_with(manager, **variables):
    return ServiceManager({"NOTIFY_SOCKET": str(manager.path)} | variables)


def test_what_is_told_arrives_as_lines(manager):
    word = word_with(manager)
    assert word.tell(notify.READY, notify.status("two\nlines are one"))
    assert word.tell(notify.reloading(1_234_567))
    assert word.tell(notify.main_pid(7), notify.WATCHDOG, notify.STOPPING)
    manager.wait_for("STOPPING=1")
    assert manager.heard == [
        "READY=1",
        "STATUS=two lines are one",
        "RELOADING=1",
        "MONOTONIC_USEC=1234567",
        "MAINPID=7",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_descriptors_are_kept_by_name_and_let_go(manager):
    word = word_with(manager)
    ours = [os.pipe() for _ in range(200)]  # more than one datagram carries
    ends = [end for pair in ours for end in pair]
    assert word.store("plain-0", ends)
    assert word.store("note", [os.memfd_create("note")])
    assert word.store("note", [os.memfd_create("other")])
    assert word.wait_until_heard()
    # The two ends of a pipe are one file to fstat, and to systemd: one of them is kept.
    assert manager.names() == {"note": 2, "plain-0": 200}
    assert word.forget("note")
    assert word.wait_until_heard()
    assert manager.names() == {"plain-0": 200}
    for end in ends:
        os.close(end)


def test_the_next_process_inherits_what_is_kept(manager):
    word = word_with(manager)
    memory = os.memfd_create("tables")
    os.write(memory, b"still here")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        word.store("clients-0", [client.fileno()])
        word.store("tables-1", [memory])
        assert word.wait_until_heard()
        told = (
            "import json, os, sys; from pyfastpath.notify import ServiceManager;"
            "word = ServiceManager(os.environ); kept = dict(word.inherited);"
            "print(json.dumps([kept, os.pread(kept['tables-1'], 64, 0).decode(),"
            "[os.get_inheritable(fd) for fd in kept.values()],"
            "sorted(set(os.environ) & {'LISTEN_FDS', 'LISTEN_PID', 'NOTIFY_SOCKET'}), word.watchdog_s]))"
        )
        process = manager.start([sys.executable, "-c", told], stdout=-1, env={"WATCHDOG_USEC": "2500000"})
        said, _ = process.communicate(timeout=30)
    os.close(memory)
    kept, content, inheritable, left, watchdog_s = json.loads(said)
    assert kept == {"tables-1": 3, "clients-0": 4}
    assert (content, inheritable, left, watchdog_s) == ("still here", [False, False], [], 2.5)


def test_what_is_meant_for_another_process_is_not_taken():
    word = ServiceManager(
        {"LISTEN_PID": "1", "LISTEN_FDS": "3", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "1000"}
    )
    assert (word.inherited, word.watchdog_s, word.listens) == ([], 0.0, False)


def test_without_a_manager_nothing_happens():
    word = ServiceManager({})
    assert not word.tell(notify.READY)
    assert not word.store("note", [0])
    assert not word.wait_until_heard()


def test_a_manager_that_is_gone_is_said_and_ends_nothing(tmp_path, caplog):
    word = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone.sock")})
    assert not word.tell(notify.READY)
    assert "the service manager was not told 'READY=1'" in caplog.text


def test_an_abstract_socket_is_one_too():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"fastpath-test-{os.getpid()}"
        listening.bind("\0" + name)
        listening.settimeout(5)
        assert ServiceManager({"NOTIFY_SOCKET": "@" + name}).tell(notify.READY)
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", ["", "a:b", "a\n", "ä", "x" * 256])
def test_names_that_systemd_refuses_are_refused_here(name):
    with pytest.raises(ValueError, match="is no name of a descriptor"):
        ServiceManager({}).store(name, [0])


def test_signs_of_life_come_often_enough_and_status_when_it_is_news(manager):
    word = word_with(manager, WATCHDOG_USEC="3000000")
    for now_ms in range(0, 4000, 250):
        word.alive(now_ms / 1000, "idle" if now_ms < 2000 else "busy")
    assert word.wait_until_heard()
    assert manager.heard == [
        "WATCHDOG=1", "STATUS=idle", "WATCHDOG=1", "WATCHDOG=1", "STATUS=busy", "WATCHDOG=1", "BARRIER=1"
    ]  # fmt: skip


def test_nobody_watches_where_no_watchdog_was_asked_for(manager):
    word = word_with(manager)
    word.alive(0.0, "idle")
    assert word.wait_until_heard()
    assert manager.heard == ["STATUS=idle", "BARRIER=1"]
