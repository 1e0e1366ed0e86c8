"""A relay of a command's own: it forwards, it tells, and nothing of it is left."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyfastpath.errors import FastpathError
from pyfastpath.tools.own_relay import OwnRelayError, own_relay
from pyfastpath.tools.relay_numbers import PUBLISH_S

HOLDER = """
import time
from pyfastpath.tools.own_relay import own_relay
with own_relay(backends=[]) as relay:
    print(relay.pid, flush=True)
    time.sleep(60)
"""


def request(ufrag: str) -> bytes:
    """The least Binding Request that names a ufrag."""
    name = f"{ufrag}:x".encode()
    attribute = b"\x00\x06" + len(name).to_bytes(2, "big") + name + bytes(-len(name) % 4)
    return b"\x00\x01" + len(attribute).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + os.urandom(12) + attribute


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_forwards_to_the_backend_of_a_route_and_is_gone_afterwards():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as backend:
        backend.bind(("127.0.0.1", 0))
        backend.settimeout(10)
        address = f"127.0.0.1:{backend.getsockname()[1]}"
        with own_relay(backends=[{"id": "sink", "address": address}], settings={"plain_ports": 16}) as relay:
            relay.install_many({"aaaaaaaa": "sink", "bbbbbbbb": "sink"})
            sent = request("bbbbbbbb")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(sent, relay.listen)
                assert backend.recv(2000) == sent
            time.sleep(PUBLISH_S)
            assert relay.numbers().forwarded_up == 1
            assert relay.admin.get("status")["routes"]["installed"] == 2
            folder = relay.log.parent
            assert folder.is_dir()
        assert is_gone(relay.pid)
        assert not folder.exists()


def test_it_runs_where_it_is_told_and_with_what_it_is_told():
    cpu = max(os.sched_getaffinity(0))
    with own_relay(backends=[], settings={"shards": 2, "coalesce_us": 0}, cpu=cpu) as relay:
        assert os.sched_getaffinity(relay.pid) == {cpu}
        assert relay.admin.get("status")["shards"] == 2
        assert relay.log.exists()


def test_settings_of_another_relay_are_not_inherited(monkeypatch):
    monkeypatch.setenv("PYFASTPATH_SHARDS", "nonsense")
    with own_relay(backends=[]) as relay:
        assert relay.admin.get("status")["shards"] == 1


def test_a_trunk_backend_gets_a_trunk():
    sink = {"id": "sink", "address": "127.0.0.1:9", "mode": "trunk", "assume_up": True}
    with own_relay(backends=[sink]) as relay:
        assert relay.admin.get("backends")["backends"][0]["mode"] == "trunk"


def test_a_refused_route_is_told():
    with (
        own_relay(backends=[]) as relay,
        pytest.raises(FastpathError, match=r"refused 1 of 1 routes: .*nobody"),
    ):
        relay.install_many({"aaaaaaaa": "nobody"})


def test_one_that_does_not_start_is_told_with_its_log():
    with (
        pytest.raises(OwnRelayError, match=r"(?s)ended with code 2\. The end of its log:.*no_such_key"),
        own_relay(backends=[], settings={"no_such_key": 1}),
    ):
        raise AssertionError("it started")


def test_a_missing_build_is_told():
    with (
        pytest.raises(OwnRelayError, match=r"no build of the profile 'fastest'\. Run: make fastest"),
        own_relay(backends=[], profile="fastest"),
    ):
        raise AssertionError("it started")


def test_no_orphan_is_left_by_a_parent_that_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert not is_gone(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
