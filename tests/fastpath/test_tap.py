"""The tap over real sockets: what a capture is shown of both directions, its filters, and its bounds."""

import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from fastpath.backends import PLAIN, TRUNK
from fastpath.counters import DROP_REASONS
from fastpath.tap import Tap

from pyfastpath.wire.stun import build_binding_request, build_message
from tests.purity import ROOT, functions
from tests.support.rig import Rig, address16, udp, until
from tests.support.rig_call import Call

UP, DOWN = 0, 1
REASONS = [name for name, _ in DROP_REASONS]
MODES = pytest.mark.parametrize("mode", [PLAIN, TRUNK], ids=["plain", "trunk"])
IPS = pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])


class Note(NamedTuple):
    """What Tap.read gives."""

    stamp_ns: int
    direction: int
    reason: int
    backend: int | None
    address: bytes
    port: int
    family: int
    ingress: int
    length: int
    data: bytes

    @property
    def why(self) -> str:
        return REASONS[self.reason]


def tap_of(rig: Rig, shard: int = 0, **wanted: object) -> Tap:
    return Tap(rig.shards[shard], ring_bytes=1 << 18, **wanted)


def notes(tap: Tap, count: int) -> list[Note]:
    """The next `count` notes; fails when another one follows at once."""
    got: list[Note] = []
    until(
        lambda: bool(got.extend(Note(*row) for row in tap.read(1000))) or len(got) >= count, f"{count} notes"
    )
    assert len(got) == count, got
    return got


def expect(arrived: object, count: int = 1) -> None:
    """Datagrams have come out at the other end."""
    got: list[bytes] = []
    until(lambda: bool(got.extend(arrived())) or len(got) >= count, f"{count} datagrams")  # type: ignore[operator]


@pytest.fixture
def call(request: pytest.FixtureRequest) -> Iterator[Call]:
    """A call over a rig of one shard; the parameters are (mode, ip)."""
    mode, ip = getattr(request, "param", (PLAIN, "127.0.0.1"))
    with Rig(ip=ip) as rig:
        one = Call(rig, mode, "someUfrag")
        yield one
        one.close()


@MODES
@IPS
def test_a_call_is_seen_from_its_first_request_on(mode: int, ip: str) -> None:
    with Rig(ip=ip) as rig:
        call = Call(rig, mode, "someUfrag", index=5)
        tap = tap_of(rig, whole=True)
        before_ns = time.time_ns()
        call.confirm()
        call.send_up(b"\x80up")
        expect(call.at_backend)
        call.send_down(b"\x80down")
        expect(call.at_client)
        seen = notes(tap, 4)
        assert [note.direction for note in seen] == [UP, DOWN, UP, DOWN]
        assert [note.data for note in seen[2:]] == [b"\x80up", b"\x80down"]
        assert seen[0].data[:2] == b"\x00\x01"
        assert seen[1].data[:2] == b"\x01\x01"
        assert [note.length for note in seen] == [len(note.data) for note in seen]
        stamps = [before_ns, *(note.stamp_ns for note in seen), time.time_ns()]
        assert stamps == sorted(stamps)
        address = address16(ip)
        port = call.client.getsockname()[1]
        for note in seen:
            assert (note.address, note.port, note.family) == (address, port, 6 if ":" in ip else 4)
            assert (note.backend, note.ingress, note.why) == (5, 3, "none")
        assert tap.counts() == (4, 0)
        call.close()


def test_off_it_is_asked_for_once_a_batch() -> None:
    """Of the functions that each forwarded datagram passes none mentions it; `lose` is of dropped ones."""
    mentions = {
        function.name
        for file in sorted((ROOT / "fastpath").glob("*.p[yx][xd]"))
        if file.stem != "tap"
        for function in functions(file)
        if any("tap_" in line for line in function.body)
    }
    when_on = {"note_batch", "note_sent", "note_lost"}
    assert mentions - when_on == {"serve_clients", "forward_clients", "flush", "lose", "lose_plain"}


def test_off_notes_nothing_and_keeps_what_was_noted(call: Call) -> None:
    tap = tap_of(call.rig, whole=True)
    call.confirm()
    tap.close()
    call.send_up(b"\x80up")
    expect(call.at_backend)
    assert len(notes(tap, 2)) == 2
    assert tap.counts() == (2, 0)
    tap.close()
    again = tap_of(call.rig, whole=True)
    call.send_up(b"\x80again")
    assert [note.data for note in notes(again, 1)] == [b"\x80again"]


def test_a_shard_has_one_tap_at_a_time(call: Call) -> None:
    tap = tap_of(call.rig)
    with pytest.raises(ValueError, match="has a tap already"):
        tap_of(call.rig)
    tap.close()
    assert tap_of(call.rig).counts() == (0, 0)


# ---- how much of a datagram --------------------------------------------------------------------------

EXTENDED_RTP = struct.pack("!BBHII", 0x92, 96, 1, 2, 3) + bytes(8) + struct.pack("!HH", 0xBEDE, 2) + bytes(8)
CLIENT_HELLO = bytes([22, 254, 253]) + bytes(8) + (112).to_bytes(2, "big") + bytes([1]) + bytes(11)
HEADERS = {
    "rtp": (struct.pack("!BBHII", 0x80, 96, 1, 2, 3), 160),
    "rtp with sources and an extension": (EXTENDED_RTP, 160),
    "an extension longer than the packet": (struct.pack("!BBHIIHH", 0x90, 96, 1, 2, 3, 0xBEDE, 0xFFFF), 0),
    "rtcp": (struct.pack("!BBHI", 0x80, 200, 6, 1), 20),
    "a handshake record": (CLIENT_HELLO, 100),
    "an encrypted record": (bytes([23, 254, 253, 0, 1]) + bytes(6) + b"\x00\x20", 32),
    "an encrypted handshake record": (bytes([22, 254, 253, 0, 1]) + bytes(6) + b"\x00\x20", 32),
    "a record of DTLS 1.3": (bytes([0x2F]) + bytes(4), 40),
    "a short record of DTLS 1.3": (bytes([0x20]) + bytes(1), 40),
    "one byte of RTP": (b"\x80", 0),
    "a record cut short": (bytes([22, 254, 253]), 0),
}


@pytest.mark.parametrize("kind", HEADERS, ids=[name.replace(" ", "-") for name in HEADERS])
def test_headers_only_keeps_headers_only(call: Call, kind: str) -> None:
    header, payload_bytes = HEADERS[kind]
    call.confirm()
    tap = tap_of(call.rig)
    call.send_up(header + b"p" * payload_bytes)
    (note,) = notes(tap, 1)
    assert note.data == header
    assert note.length == len(header) + payload_bytes


def test_headers_only_keeps_stun_whole_and_of_anything_else_four_bytes(call: Call) -> None:
    tap = tap_of(call.rig)
    call.confirm()
    request, response = notes(tap, 2)
    assert (len(request.data), len(response.data)) == (request.length, response.length)
    call.send_up(b"\x50 no WebRTC")
    (note,) = notes(tap, 1)
    assert (note.data, note.why) == (b"\x50 no", "not_webrtc")


def test_snap_bounds_everything(call: Call) -> None:
    call.confirm()
    tap = tap_of(call.rig, whole=True, snap_bytes=7)
    call.send_up(b"\x80" + b"x" * 99)
    (note,) = notes(tap, 1)
    assert (note.data, note.length) == (b"\x80xxxxxx", 100)
    tap.close()
    for wrong in (0, 2049):
        with pytest.raises(ValueError, match=r"1\.\.2048"):
            tap_of(call.rig, snap_bytes=wrong)


# ---- what was dropped --------------------------------------------------------------------------------


def test_what_a_client_lost_is_there_with_the_reason(call: Call) -> None:
    tap = tap_of(call.rig, whole=True)
    call.send_up(b"\x80too early")
    call.send_up(build_binding_request(os.urandom(12), b"otherUfrag:peer"))
    call.send_up(b"\x80" + bytes(2100))
    whys = [note.why for note in notes(tap, 3)]
    assert whys == ["unknown_flow", "no_route", "oversize"]


@MODES
def test_what_a_backend_lost_is_there_with_the_reason(mode: int) -> None:
    with Rig() as rig:
        call = Call(rig, mode, "someUfrag", index=5)
        tap = tap_of(rig, whole=True)
        call.send_up(build_binding_request(os.urandom(12), b"someUfrag:peer"))
        expect(call.at_backend)
        call.send_down(b"\x80 not confirmed yet")
        _, note = notes(tap, 2)
        assert (note.direction, note.why, note.data) == (DOWN, "provisional", b"\x80 not confirmed yet")
        assert (note.port, note.backend) == (call.client.getsockname()[1], 5)
        call.send_down(b"\x50 no WebRTC")
        (note,) = notes(tap, 1)
        assert (note.why, note.port) == ("not_webrtc", call.client.getsockname()[1])
        call.close()


def test_what_a_confirmed_plain_flow_lost_names_its_client(call: Call) -> None:
    call.confirm()
    tap = tap_of(call.rig, client=(address16("127.0.0.1"), 4, call.client.getsockname()[1]))
    call.send_down(b"\x50 no WebRTC")
    (note,) = notes(tap, 1)
    assert (note.why, note.direction) == ("not_webrtc", DOWN)


@MODES
def test_what_the_kernel_refused_is_no_success(mode: int) -> None:
    """A backend at an address that this socket cannot reach."""
    with Rig() as rig:
        call = Call(rig, mode, "someUfrag")
        call.confirm()
        rig.shared.backends.remove(0)
        rig.shared.backends.publish(0, address16("240.0.0.1"), 9, 4, mode, 0)
        tap = tap_of(rig)
        call.send_up(b"\x80into nowhere")
        (note,) = notes(tap, 1)
        assert note.why == "send_failed"
        call.close()


# ---- filters -----------------------------------------------------------------------------------------


@MODES
def test_each_filter_shows_one_call_and_not_its_neighbour(mode: int) -> None:
    with Rig() as rig:
        calls = [Call(rig, mode, f"ufrag{number}", index=number) for number in range(2)]
        for number, call in enumerate(calls):
            rig.install(call.ufrag, number, session=100 + number, replace=True)
        port = calls[1].client.getsockname()[1]
        loopback = address16("127.0.0.1")
        for wanted in (
            {"client": (loopback, 4, port)},
            {"ufrag": b"ufrag1"},
            {"session": 101},
            {"backend": 1},
            {"backend": 1, "session": 101, "ufrag": b"ufrag1", "client": (loopback, 4, 0)},
        ):
            tap = tap_of(rig, **wanted)
            for call in calls:
                call.confirm()
                call.send_up(b"\x80up")
                expect(call.at_backend)
                call.send_down(b"\x80down")
                expect(call.at_client)
            seen = notes(tap, 4)
            assert {note.port for note in seen} == {port}, wanted
            assert {note.backend for note in seen} == {1}
            tap.close()
        for nobody in ({"backend": 0, "session": 101}, {"client": (address16("127.0.0.2"), 4, 0)}):
            tap = tap_of(rig, **nobody)
            calls[1].send_up(b"\x80up")
            expect(calls[1].at_backend)
            assert tap.counts() == (0, 0)
            tap.close()
        for call in calls:
            call.close()


def test_a_request_that_opens_no_flow_is_found_by_its_ufrag(call: Call) -> None:
    tap = tap_of(call.rig, ufrag=b"neverInstalled")
    call.send_up(build_binding_request(os.urandom(12), b"neverInstalled:peer"))
    call.send_up(build_binding_request(os.urandom(12), b"another:peer"))
    call.send_up(b"\x80media")
    (note,) = notes(tap, 1)
    assert (note.why, note.backend) == ("no_route", None)
    assert b"neverInstalled" in note.data
    until(lambda: call.rig.counters()["received"][UP] == 3, "all three datagrams")
    assert tap.counts() == (1, 0)


def test_an_address_that_is_none_is_refused(call: Call) -> None:
    for wrong in ((b"\x7f", 4, 0), (bytes(16), 5, 0)):
        with pytest.raises(ValueError, match="16 bytes with family 4 or 6"):
            tap_of(call.rig, client=wrong)


def test_a_target_counts_as_its_backend() -> None:
    with Rig() as rig:
        server = udp("127.0.0.1")
        rig.add_backend(7, 9, PLAIN)
        index = rig.shared.backends.target(7, address16("127.0.0.1"), server.getsockname()[1], 4, 0)
        rig.install("someUfrag", index)
        tap = tap_of(rig, backend=7)
        client = udp("127.0.0.1")
        client.sendto(build_binding_request(os.urandom(12), b"someUfrag:peer"), rig.address)
        (note,) = notes(tap, 1)
        assert note.backend == index
        client.close()
        server.close()


def test_a_flow_that_a_sibling_holds_is_found() -> None:
    """Answers of a trunk arrive at any shard; the flow is read where it is."""
    with Rig(shards=2) as rig:
        call = Call(rig, TRUNK, "someUfrag")
        call.confirm()
        taps = [tap_of(rig, shard, ufrag=b"someUfrag", whole=True) for shard in range(2)]
        _, ingress, client = call.path
        assert call.link is not None
        for number, end in enumerate(rig.relay_ends):
            call.link.send([((end, ingress, client), b"\x80" + bytes([number]), False)])
            expect(call.at_client)
        assert [notes(tap, 1)[0].data for tap in taps] == [b"\x80\x00", b"\x80\x01"]
        call.close()


# ---- bounds ------------------------------------------------------------------------------------------


def test_a_full_ring_costs_the_capture_and_not_the_call(call: Call) -> None:
    call.confirm()
    tap = Tap(call.rig.shards[0], ring_bytes=1, whole=True)  # the smallest there is: 64 KiB
    sent = [b"\x80" + number.to_bytes(2, "big") + bytes(997) for number in range(100)]
    for datagram in sent:
        call.send_up(datagram)
    got: list[bytes] = []
    until(lambda: bool(got.extend(call.at_backend())) or len(got) == len(sent), "all of them at the backend")
    assert got == sent
    until(lambda: tap.counts()[0] == 100, "all of them at the tap")
    fit = 65536 // (48 + 1000)
    assert tap.counts() == (100, 100 - fit)
    assert [note.data for note in notes(tap, fit)] == sent[:fit]
    call.send_up(b"\x80room again")
    assert notes(tap, 1)[0].data == b"\x80room again"


def test_the_ring_goes_round_without_losing_one(call: Call) -> None:
    """Every length, so that notes end everywhere before the ring's end."""
    call.confirm()
    tap = Tap(call.rig.shards[0], ring_bytes=1, whole=True)
    for start in range(1, 1200, 40):
        sent = [b"\x80" * length for length in range(start, start + 40)]
        for datagram in sent:
            call.send_up(datagram)
        assert [note.data for note in notes(tap, 40)] == sent
    assert tap.counts() == (1200, 0)


def test_it_is_read_in_portions(call: Call) -> None:
    call.confirm()
    tap = tap_of(call.rig)
    for number in range(10):
        call.send_up(bytes([0x80, number]))
    until(lambda: tap.counts()[0] == 10, "ten notes")
    assert [len(tap.read(4)) for _ in range(4)] == [4, 4, 2, 0]


@MODES
def test_it_comes_and_goes_under_load(mode: int) -> None:
    """The ring is freed while the worker is busy: neither a datagram nor the worker gets lost."""
    with Rig() as rig:
        call = Call(rig, mode, "someUfrag")
        call.confirm()
        stop = threading.Event()
        sent = 0

        def load() -> None:
            nonlocal sent
            while not stop.is_set():
                call.send_up(b"\x80" + sent.to_bytes(4, "big"))
                sent += 1
                if sent % 32 == 0:
                    time.sleep(0.001)

        sender = threading.Thread(target=load)
        sender.start()
        got: list[bytes] = []
        seen = rounds = 0
        deadline = time.monotonic() + 5
        while rounds < 200 or seen < 200:
            assert time.monotonic() < deadline, f"{seen} datagrams in {rounds} captures"
            tap = tap_of(rig)
            time.sleep(0.0002)
            rounds += 1
            got += call.at_backend()
            tap.close()
            seen += len(tap.read(1000))
            del tap
        stop.set()
        sender.join()
        until(lambda: bool(got.extend(call.at_backend())) or len(got) == sent, "every datagram")
        assert got == [b"\x80" + number.to_bytes(4, "big") for number in range(sent)]
        assert seen <= sent
        rig.stop()
        counters = rig.counters()
        assert counters["received"][UP] == counters["forwarded"][UP] == sent + 1
        rig.start()
        call.close()


def test_a_tap_survives_its_workers(call: Call) -> None:
    """Another number of workers: new workers over the same shards."""
    rig = call.rig
    call.confirm()
    tap = tap_of(rig)
    rig.stop()
    call.send_up(b"\x80while nobody served")
    rig.serve()
    assert notes(tap, 1)[0].why == "none"


def test_a_response_that_is_none_confirms_nothing_and_is_shown(call: Call) -> None:
    """What the relay sends down although it changes nothing is shown as sent."""
    tap = tap_of(call.rig)
    call.send_up(build_binding_request(os.urandom(12), b"someUfrag:peer"))
    expect(call.at_backend)
    call.send_down(build_message(0x0101, os.urandom(12), []))
    expect(call.at_client)
    assert [note.why for note in notes(tap, 2)] == ["none", "none"]
