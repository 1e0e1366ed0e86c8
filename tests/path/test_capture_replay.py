"""Capture, replay, regression: what was captured of a live relay passes again through another one."""

import socket
import time
from pathlib import Path

import pytest

from pyfastpath.tools.own_relay import own_relay
from pyfastpath.tools.ports import free_port
from pyfastpath.tools.replay.options import Flags, read_flags
from pyfastpath.tools.replay.report import PASSED, Outcome, to_text
from pyfastpath.tools.replay.run import replay
from tests.support.capturing import captures_in

RECORDED = Path(__file__).parents[1] / "pcaps" / "chromium-dtls12.pcap"
SESSIONS = 3


def played(file: Path, upstream: str, **flags: str) -> Outcome:
    """As fast as it goes; every datagram must come out once, unchanged, in order, in place."""
    wishes = Flags(file=file, upstream=upstream, speed="max", sessions=SESSIONS, **flags)
    outcome = replay(read_flags(wishes, wall_s=int(time.time())))
    assert outcome.exit_code == PASSED, to_text(outcome)
    return outcome


@pytest.mark.parametrize(
    ("upstream", "options"), [("plain", ("--full",)), ("trunk", ())], ids=["plain-full", "trunk-headers"]
)
def test_a_capture_of_a_replay_replays_to_the_same_verdict(
    tmp_path: Path, upstream: str, options: tuple[str, ...]
) -> None:
    trunk = {"trunk_port": free_port(socket.SOCK_DGRAM), "plain_ports": 0} if upstream == "trunk" else {}
    with own_relay(backends=[], settings=trunk) as relay, captures_in(tmp_path) as begin:
        capturing = begin(relay.admin.socket_path, "live.pcapng", *options)
        first = played(RECORDED, upstream, socket=relay.admin.socket_path)
        datagrams = first.up.delivered + first.down.delivered
        capturing.wait_for(datagrams)
        assert capturing.end() == (0, f"{capturing.file}: {datagrams} datagrams\n")
    second = played(capturing.file, upstream)
    assert (second.up, second.down) == (first.up, first.down)
    assert (second.calls, second.datagrams, second.skipped) == (SESSIONS, datagrams, {})
    assert datagrams == SESSIONS * first.datagrams
