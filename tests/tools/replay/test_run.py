"""One replay as a whole, in what tests/path/test_replay.py does not look at: faults, silence, damage."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfastpath.errors import ConfigError, PcapError
from pyfastpath.tools.own_relay import own_relay
from pyfastpath.tools.ports import free_port
from pyfastpath.tools.replay.options import Flags, read_flags
from pyfastpath.tools.replay.report import FAILED, PASSED, UNREACHABLE, to_text
from pyfastpath.tools.replay.run import replay
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from pyfastpath.wire.frames import LINK_RAW
from pyfastpath.wire.pcapng import PcapngWriter
from tests.support.crafted import packet

PCAP = Path(__file__).parents[2] / "pcaps" / "chromium-dtls12.pcap"
KEY = bytes(range(16)).hex()


def played(**flags):
    given = {"speed": "max", "limit": 100} | flags
    return replay(read_flags(Flags(file=PCAP, **given), wall_s=0))


@pytest.fixture
def nobody() -> Iterator[dict[str, object]]:
    """Flags for a target that swallows everything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        sink = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        target = f"127.0.0.1:{end.getsockname()[1]}"
        yield {"target": target, "sink": [sink], "token_key": f"0:{KEY}", "transceiver": "1"}


def test_what_was_played_is_told() -> None:
    outcome = played(sessions=7, seed=5, backends=3, preload=True)
    assert outcome.exit_code == PASSED, to_text(outcome)
    assert (outcome.sessions, outcome.backends, outcome.seed, outcome.turns) == (7, 3, 5, 1)
    assert (outcome.up.sent, outcome.down.sent) == (outcome.planned_up, outcome.planned_down)
    assert outcome.planned_up + outcome.planned_down == 700
    assert (outcome.signed, outcome.unsigned) == (0, 6)
    assert set(outcome.latency_us) == {"p50", "p90", "p99", "p999", "max"}
    assert 0 < outcome.latency_us["p50"] <= outcome.latency_us["max"]
    assert outcome.timing_us == {}


def test_a_target_that_swallows_everything(nobody: dict[str, object]) -> None:
    """Each lost datagram is named by frame, session and client; its drops cannot be asked for."""
    outcome = played(limit=2, sessions=2, **nobody)
    assert outcome.exit_code == UNREACHABLE
    assert outcome.drops is None
    assert outcome.latency_us == {}
    assert "latency" not in to_text(outcome)
    lost = [fault for fault in outcome.faults if fault.kind == "lost"]
    assert [(fault.frame, fault.session, fault.upstream) for fault in lost] == [(1, 0, True), (1, 1, True)]
    assert {fault.client.partition(":")[0] for fault in lost} == {"127.2.0.1", "127.2.0.2"}
    assert outcome.unroutable == 2


def test_a_long_call_to_nobody_is_left(nobody: dict[str, object]) -> None:
    outcome = played(limit=0, **nobody)
    assert outcome.exit_code == UNREACHABLE
    assert outcome.unsent > 500
    assert outcome.elapsed_s < 20


def test_damage_is_found_before_a_relay_starts(tmp_path: Path) -> None:
    file = tmp_path / "cut.pcap"
    file.write_bytes(PCAP.read_bytes()[:-1])
    with pytest.raises(PcapError, match=r"cut\.pcap: .* at byte \d+"):
        replay(read_flags(Flags(file=file), wall_s=0))


def stamped(file: Path, *seconds: int) -> Path:
    """A client that asks at these times."""
    client, server = Endpoint.parse("192.0.2.2:4000"), Endpoint.parse("192.0.2.1:3478")
    frame = packet(client, server, stun.build_binding_request(bytes(12), b"serv:clnt", key=b"password"))
    writer = PcapngWriter()
    blocks = [writer.packet(second * 10**9, frame, len(frame)) for second in seconds]
    file.write_bytes(b"".join([writer.section_header(), writer.interface(LINK_RAW), *blocks]))
    return file


CENTURY_S = 36_525 * 86_400


def test_a_century_is_not_waited_for(tmp_path: Path) -> None:
    """One wrong time stamp, and a replay at recorded time would never end."""
    wishes = read_flags(Flags(file=stamped(tmp_path / "old.pcapng", 1, CENTURY_S)), wall_s=0)
    with pytest.raises(ConfigError, match=r"--speed: .*that takes 36,525 days.* --speed max"):
        replay(wishes)


def test_at_full_speed_no_time_is_too_late(tmp_path: Path) -> None:
    """Turn after turn the times would leave what a player can hold."""
    file = stamped(tmp_path / "late.pcapng", 1, 2 * CENTURY_S)
    outcome = replay(read_flags(Flags(file=file, speed="max", loop=5), wall_s=0))
    assert outcome.exit_code == PASSED, to_text(outcome)
    assert outcome.up.delivered == 10


def test_a_relay_that_dies_meanwhile_gets_its_verdict(tmp_path: Path) -> None:
    """What was lost is told, though nobody can be asked for drops any more."""
    with own_relay(backends=[]) as relay:
        wishes = read_flags(Flags(file=PCAP, socket=relay.admin.where, limit=400), wall_s=0)
        killed = []

        def kill(counters: object) -> None:
            if not killed:
                killed.append(relay.pid)
                os.kill(relay.pid, signal.SIGKILL)

        outcome = replay(wishes, kill)
    assert killed
    assert outcome.exit_code == FAILED, to_text(outcome)
    assert outcome.up.delivered
    assert outcome.up.lost + outcome.down.lost + outcome.unsent
    assert outcome.drops is None
