"""System calls of a real relay that fail: what is lost, under which name, and that nothing else is.

Counted exactly. A full buffer (EAGAIN, ENOBUFS) is waited for once a batch, then each further failure costs
the message it hit. Any other refusal costs a message when it comes twice; an interruption costs nothing.
"""

import errno
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyfastpath.tools.ports import free_port
from tests.support.faults import FOREVER, Faults
from tests.support.line import Books, Burst, Line, Way
from tests.support.player import PlainBackend
from tests.support.relay import Relay, running_relay
from tests.support.rig import until
from tests.support.trunk_backend import RelayEnd, TrunkBackend, relay_ends

FULL = (errno.EAGAIN, errno.ENOBUFS)
REFUSED = (
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOMEM,
    errno.EPERM,
)
MEDIA_BYTES = 1300
MODES_AND_WAYS: tuple[tuple[str, Way], ...] = (
    ("trunk", "up"),
    ("plain", "up"),
    ("trunk", "down"),
    ("plain", "down"),
)
TURNS_PER_S = 5_000  # a loop that waits 200 µs after each failure


def by_errno(*errors: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("error", errors, ids=errno.errorcode.get)


@dataclass(frozen=True)
class Rigged:
    """A relay whose system calls fail to order, and a call through it in each mode."""

    relay: Relay
    faults: Faults
    trunk: Line
    plain: Line
    trunk_port: int

    @property
    def trunk_ends(self) -> list[RelayEnd]:
        return relay_ends("127.0.0.1", self.trunk_port, 1)

    def port(self, way: Way, mode: str) -> int:
        """The relay's socket over which it sends that way, and receives what goes the other way."""
        if way == "down":
            return self.relay.listen[1]
        upstream: int = self.trunk_port if mode == "trunk" else self.plain.path[1]
        return upstream

    def line(self, mode: str) -> Line:
        return self.trunk if mode == "trunk" else self.plain


@pytest.fixture(scope="module")
def rigged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rigged]:
    directory: Path = tmp_path_factory.mktemp("errno")
    trunk_port = free_port(socket.SOCK_DGRAM)
    trunk = TrunkBackend(relay_ends("127.0.0.1", trunk_port, 1), keys={})
    plain = PlainBackend()
    backends = [
        {"id": "t", "address": f"127.0.0.1:{trunk.address[1]}", "mode": "trunk", "assume_up": True},
        {"id": "p", "address": f"127.0.0.1:{plain.address[1]}"},
    ]
    with (
        Faults(directory) as faults,
        running_relay(directory, shards=1, trunk_port=trunk_port, backends=backends) as relay,
    ):
        lines = []
        for ufrag, backend in (("trunkUfrag", trunk), ("plainUfrag", plain)):
            relay.install(ufrag, backend=ufrag[0])
            lines.append(Line(relay, backend, ufrag))
            lines[-1].confirm()
        yield Rigged(relay, faults, *lines, trunk_port)
        relay.assert_conservation()
        for end in (*lines, trunk, plain):
            end.close()


def assert_flows(line: Line, *ways: Way) -> None:
    """Nothing is lost."""
    for way in ways:
        sent = line.media(200, 200, 200)
        assert line.burst(way, sent) == Burst(sent, {})


def lost_messages(error: int, failures: int) -> int:
    """Of one batch, so many calls of which fail in a row."""
    if error == errno.EINTR:
        return 0
    return failures - 1 if error in FULL else failures // 2


def named(error: int, lost: int) -> dict[str, int]:
    return {"send_blocked" if error in FULL else "send_failed": lost} if lost else {}


@by_errno(errno.EINTR, *FULL, *REFUSED)
def test_a_failing_send_costs_what_it_hit_and_no_more(rigged: Rigged, error: int) -> None:
    """Of 20 messages the kernel takes 7, then fails five times, then takes the rest."""
    for mode, way in MODES_AND_WAYS:
        line, faults = rigged.line(mode), rigged.faults
        # Up a trunk a large and a small datagram fill one run, which is one message.
        sizes_bytes = (MEDIA_BYTES, 100) if (mode, way) == ("trunk", "up") else (MEDIA_BYTES,)
        a_message = len(sizes_bytes)
        sent = line.media(*sizes_bytes * 20)
        failed = faults.failed("sendmmsg")
        port = rigged.port(way, mode)
        faults.fail("sendmmsg", error, messages=7, times=5, port=port, size_bytes=MEDIA_BYTES)
        burst = line.burst(way, sent)
        assert faults.failed("sendmmsg") - failed == 5
        at, lost = 7 * a_message, lost_messages(error, 5) * a_message
        assert burst == Burst(sent[:at] + sent[at + lost :], named(error, lost))
        assert_flows(line, way)


@by_errno(errno.EINTR, *FULL, *REFUSED)
def test_so_does_a_send_of_a_single_datagram(rigged: Rigged, error: int) -> None:
    line = rigged.plain
    for failures in (1, 2):
        sent = line.media(MEDIA_BYTES)
        rigged.faults.fail("sendto", error, times=failures, port=rigged.port("up", "plain"))
        is_lost = failures == 2 and error != errno.EINTR
        assert line.burst("up", sent) == Burst([] if is_lost else sent, named(error, is_lost))
    assert_flows(line, "up")


@by_errno(errno.EINVAL, errno.EIO, errno.EMSGSIZE)
def test_a_run_that_is_refused_goes_singly_and_each_datagram_is_booked_by_its_own_fate(
    rigged: Rigged, error: int
) -> None:
    """EINVAL may also mean that the path is down, when it meets every datagram: then nothing is concluded."""
    with another_backend(rigged, "trunk", f"run{error}") as line:
        sizes_bytes = [MEDIA_BYTES] * 8
        for alone, lost in ((16, 8), (2, 1)):
            singly = rigged.relay.total("trunk_singly")
            sent = line.media(*sizes_bytes)
            rigged.faults.fail(
                "sendmmsg", error, times=2 + alone, port=rigged.trunk_port, size_bytes=MEDIA_BYTES
            )
            assert line.burst("up", sent) == Burst(sent[lost:], {"send_failed": lost})
            assert rigged.relay.total("trunk_singly") == singly + 1
        # Alone they went: this path is not asked to take a run again.
        failed = rigged.faults.failed("sendmmsg")
        rigged.faults.fail(
            "sendmmsg", error, times=FOREVER, port=rigged.trunk_port, size_bytes=2 * MEDIA_BYTES
        )
        assert_flows(line, "up")
        assert rigged.faults.failed("sendmmsg") == failed
        rigged.faults.stop("sendmmsg")


@by_errno(errno.EAGAIN, errno.EINTR, *REFUSED)
def test_a_failing_receive_loses_nothing(rigged: Rigged, error: int) -> None:
    errors = rigged.relay.total("receive_errors")
    for mode, way in MODES_AND_WAYS:
        line = rigged.line(mode)
        sent = line.media(*[200] * 30)
        port = rigged.port("down" if way == "up" else "up", mode)
        rigged.faults.fail("recvmmsg", error, times=4, port=port)
        assert line.burst(way, sent) == Burst(sent, {})
    counted = 0 if error in (errno.EAGAIN, errno.EINTR) else 4 * len(MODES_AND_WAYS)
    until(lambda: rigged.relay.total("receive_errors") - errors == counted, f"{counted} errors are counted")


@pytest.mark.parametrize("call", ["recvmmsg", "epoll_pwait2"])
def test_a_call_that_keeps_failing_does_not_make_the_loop_spin(rigged: Rigged, call: str) -> None:
    line, faults, relay = rigged.plain, rigged.faults, rigged.relay
    sent, before, failed = line.media(*[200] * 30), Books.of(relay, "up"), faults.failed(call)
    faults.fail(call, errno.ENOMEM, times=FOREVER, port=relay.listen[1] if call == "recvmmsg" else 0)
    line.send("up", sent)
    until(lambda: faults.failed(call) - failed > 10, "it fails")
    failed, began_s = faults.failed(call), time.monotonic()
    time.sleep(0.1)
    assert faults.failed(call) - failed <= TURNS_PER_S * (time.monotonic() - began_s) + 1
    faults.stop(call)
    assert line.outcome("up", before, len(sent)) == Burst(sent, {})


def test_a_port_that_cannot_be_connected_sends_all_the_same(rigged: Rigged) -> None:
    failed = rigged.faults.failed("connect")
    rigged.faults.fail("connect", errno.ENETUNREACH, times=FOREVER)
    with another_backend(rigged, "plain", "connect") as line:
        assert_flows(line, "up", "down")
        assert rigged.faults.failed("connect") > failed
        rigged.faults.stop("connect")
        assert_flows(line, "up", "down")


@contextmanager
def another_backend(rigged: Rigged, mode: str, name: str) -> Iterator[Line]:
    """A confirmed call to a backend of its own."""
    backend = PlainBackend() if mode == "plain" else TrunkBackend(rigged.trunk_ends, keys={})
    keys = {"address": f"127.0.0.1:{backend.address[1]}", "mode": mode}
    keys |= {"assume_up": True} if mode == "trunk" else {}
    status, said = rigged.relay.request("PUT", f"/v1/backends/{name}", json.dumps(keys).encode())
    assert status // 100 == 2, said
    rigged.relay.install(f"{name}Ufrag", backend=name)
    line = Line(rigged.relay, backend, f"{name}Ufrag")
    line.confirm()
    yield line
    line.close()
    backend.close()
