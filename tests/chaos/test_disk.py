"""The disk under logs and captures is full, read-only, or somebody moves its files.

Calls go on, nothing ends, and when there is room again the log goes on.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.mounts import fill, make_read_only, make_writable, own_mounts, small_disk
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.relay import Relay, running_relay
from tests.support.rig import until

WAIT_S = 20.0
START_S = 60.0


@dataclass(frozen=True)
class Logging:
    """A relay whose log is on a small disk, and a call through it."""

    relay: Relay
    call: PlainCall
    disk: Path

    @property
    def log(self) -> Path:
        return self.disk / "relay.log"

    def says(self, what: str) -> None:
        """Wait until this stands in the log."""
        until(lambda: self.log.exists() and what in self.log.read_text(), f"the log says {what!r}", WAIT_S)

    def chatter(self) -> None:
        """Two lines."""
        for method in ("POST", "DELETE"):
            assert self.relay.request(method, "/v1/drain")[0] == 200

    def reload(self) -> None:
        self.relay.process.send_signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logging]:
    directory = tmp_path_factory.mktemp("disk")
    with own_mounts(), small_disk(directory / "disk") as disk, udp_end() as server:
        settings = {
            "backends": [{"id": "a", "address": endpoint_text(server)}],
            "log_file": str(disk / "relay.log"),
        }
        with running_relay(directory, **settings) as relay:
            relay.install("ufrag1", backend="a")
            with PlainCall(relay.listen, server, "ufrag1") as call:
                call.confirm()
                yield Logging(relay, call, disk)
                assert relay.total("engine_starts") == 1
                relay.assert_conservation()
        assert relay.process.returncode == 0
        assert relay.log.read_text() == "", "nothing had to go to standard error"


def test_a_log_that_is_removed_or_replaced_is_made_anew_by_sighup(it: Logging) -> None:
    it.log.unlink()
    it.chatter()
    assert not it.log.exists(), "until SIGHUP it writes where nobody reads"
    it.reload()
    it.says("reloaded")
    it.log.rename(it.disk / "relay.log.1")
    it.log.write_text("somebody else's\n")
    it.reload()
    it.says("reloaded")
    assert it.log.read_text().startswith("somebody else's\n")
    it.call.exchange(1)


def test_a_read_only_disk_for_the_log(it: Logging) -> None:
    """No file can be made there: the relay says so in the one it has, and goes on."""
    old = it.disk / "relay.log.1"
    it.log.rename(old)
    make_read_only(it.disk)
    try:
        it.reload()
        until(lambda: old.read_text().count("not reopened: ") == 2, "keeper and engine say so", WAIT_S)
        assert not it.log.exists()
        it.call.exchange(2)
    finally:
        make_writable(it.disk)
    it.reload()
    it.says("reloaded")
    it.call.exchange(3)


def test_a_full_disk_for_the_log(it: Logging) -> None:
    """What does not fit is not logged; what comes once there is room stands in the file."""
    filler = fill(it.disk)
    for _ in range(60):  # more than what is left of the page that the log's end stands on
        it.chatter()
    it.call.exchange(4)
    before = it.log.stat().st_size
    it.reload()
    it.call.exchange(5)
    assert it.log.stat().st_size == before
    filler.unlink()
    it.chatter()
    it.says("the disk did not take")
    it.call.exchange(6)


def test_a_full_disk_for_a_capture(it: Logging, tmp_path: Path) -> None:
    """Whoever captures is told; the relay ends that capture, and takes the next."""
    filler = fill(it.disk)
    capture = [sys.executable, "-m", "pyfastpath", "capture", "--socket", str(it.relay.admin), "--full"]
    where = ("-o", str(it.disk / "calls.pcapng"), "--duration", "60")
    process = subprocess.Popen([*capture, *where], stderr=subprocess.PIPE, text=True)
    until((it.disk / "calls.pcapng").exists, "the capture begins", START_S)
    for number in range(50):
        it.call.exchange(7 + number)
    _, said = process.communicate(timeout=START_S)
    filler.unlink()
    assert process.returncode == 1, said
    message = "pyfastpath: cannot write the capture: No space left on device. Give it another place."
    assert said.splitlines()[-1] == message
    again = (*capture, "-o", str(tmp_path / "calls.pcapng"), "--duration", "1")
    done = subprocess.run(again, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 0, done.stderr
    it.call.exchange(99)
