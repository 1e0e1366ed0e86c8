"""GET /v1/capture of a real relay: what is in it, what ends it, and that nobody else notices it."""

import contextlib
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from fastpath.tap import Tap

from pyfastpath.relay import capture
from pyfastpath.relay.relay import Relay
from pyfastpath.relay.tables import conservation_error
from pyfastpath.tools.capture import Blocks
from pyfastpath.tools.ports import free_port
from pyfastpath.wire.frames import Datagram, dissect
from pyfastpath.wire.pcap import read_frames
from tests.relay.conftest import MakeConfig
from tests.relay.test_relay import address_of
from tests.support.http import ask
from tests.support.plain_call import PlainCall, endpoint_text
from tests.support.rig import until

STATISTICS = 5


class Reader:
    """GET /v1/capture in a thread; `pcapng` is what came, `status` is 0 until the relay answered."""

    def __init__(self, admin: Path, **query: object) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(admin))
        self.socket.sendall(f"GET /v1/capture?{urlencode(query)} HTTP/1.1\r\nHost: relay\r\n\r\n".encode())
        self.status = 0
        self.pcapng = b""
        self.whole = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        until(lambda: self.status != 0, "the relay's answer")

    def _read(self) -> None:
        reply = http.client.HTTPResponse(self.socket)
        try:
            reply.begin()
            self.status = reply.status
            while piece := reply.read1(65536):
                self.pcapng += piece
            self.whole = True
        except (OSError, http.client.HTTPException):
            self.status = self.status or -1

    def result(self) -> list[Datagram]:
        """Waits for the end, which must be a good one."""
        self._thread.join(10)
        assert self.whole, "the capture does not end, or not well"
        self.socket.close()
        assert self.counts()[0] >= len(self.datagrams())
        return self.datagrams()

    def end(self, admin: Path, count: int) -> list[Datagram]:
        """Waits for so many datagrams (a datagram is noted after it was sent), ends the capture."""
        until(lambda: len(self.datagrams()) >= count, f"{count} datagrams in the capture")
        assert ask(admin, "DELETE", "/v1/capture") == (204, None)
        return self.result()

    def datagrams(self) -> list[Datagram]:
        blocks = Blocks().feed(self.pcapng)
        found = [dissect(frame) for frame in read_frames(io.BytesIO(blocks).read)] if blocks else []
        assert all(isinstance(item, Datagram) for item in found)
        return found  # type: ignore[return-value]

    def counts(self) -> tuple[int, int]:
        """(asked for, not in the file), of the statistics block that must be the last one."""
        last = self.pcapng[-52:]
        assert int.from_bytes(last[:4], "little") == STATISTICS
        return int.from_bytes(last[24:32], "little"), int.from_bytes(last[36:44], "little")


@pytest.fixture
def admin(relay: Relay, tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


@pytest.fixture
def call(relay: Relay, server: socket.socket) -> Iterator[PlainCall]:
    relay.routes.install("ufragOne", "a", session="first", ttl_s=60)
    relay.routes.install("ufragTwo", "a", session="second", ttl_s=60)
    with PlainCall(address_of(relay), server, "ufragOne") as one:
        yield one


def taps(relay: Relay) -> int:
    """How many shards can be tapped: all of them, once no capture runs."""

    def count(control: object) -> int:
        free = 0
        for shard in control.shards:  # type: ignore[attr-defined]
            try:
                Tap(shard, ring_bytes=1).close()
                free += 1
            except ValueError:
                continue
        return free

    return relay.call(count)


def untapped(relay: Relay) -> bool:
    return taps(relay) == relay.call(lambda control: len(control.shards))


def test_a_call_is_in_it_from_its_first_request_on(admin: Path, relay: Relay, call: PlainCall) -> None:
    reader = Reader(admin, full=1)
    assert taps(relay) == 0
    call.confirm()
    for number in range(20):
        call.exchange(number)
    seen = reader.end(admin, 42)
    assert reader.counts() == (42, 0)
    client, relay_end = call.client.getsockname(), address_of(relay)
    ways = [(str(item.source), str(item.target)) for item in seen]
    up = (f"{client[0]}:{client[1]}", f"{relay_end[0]}:{relay_end[1]}")
    assert ways == [up, up[::-1]] * 21
    assert [item.payload[2] for item in seen[2:]] == [1, 2] * 20
    assert [item.time_ns for item in seen] == sorted(item.time_ns for item in seen)
    assert b"backend a" in reader.pcapng
    assert untapped(relay)


def test_headers_only_unless_full(admin: Path, call: PlainCall) -> None:
    call.confirm()
    for query, size in (({}, 12), ({"full": 1}, 27), ({"full": 1, "snap": 5}, 5)):
        reader = Reader(admin, **query)
        call.exchange()
        seen = reader.end(admin, 2)
        assert [len(item.payload) for item in seen] == [size, size], query
        assert [item.original_bytes for item in seen] == [27, 27]


@pytest.mark.parametrize(
    "query",
    [{"session": "first"}, {"ufrag": "ufragOne"}, {"client": ""}],
    ids=lambda query: next(iter(query)),
)
def test_a_filter_shows_one_of_two_calls(
    admin: Path, relay: Relay, call: PlainCall, server: socket.socket, query: dict[str, str]
) -> None:
    if "client" in query:
        query = {"client": endpoint_text(call.client)}
    reader = Reader(admin, full=1, **query)
    with PlainCall(address_of(relay), server, "ufragTwo") as other:
        for one in (other, call):
            one.confirm()
            one.exchange()
        ports = {item.source.port for item in reader.end(admin, 4)} | {address_of(relay)[1]}
    assert ports == {call.client.getsockname()[1], address_of(relay)[1]}
    assert reader.counts() == (4, 0)


def test_an_address_without_a_port_is_all_its_ports(admin: Path, call: PlainCall) -> None:
    for client, count in (("127.0.0.1", 2), ("127.0.0.2", 0), ("::1", 0)):
        reader = Reader(admin, client=client)
        call.confirm()
        assert len(reader.end(admin, count)) == count, client


def test_a_backend_that_there_is(admin: Path, call: PlainCall) -> None:
    reader = Reader(admin, backend="a")
    call.confirm()
    assert len(reader.end(admin, 2)) == 2
    status, said = ask(admin, "GET", "/v1/capture?backend=b")
    assert (status, said["error"]["code"]) == (404, "unknown_backend")


@pytest.mark.parametrize(
    "query",
    [
        "client=nobody",
        "ufrag=a",
        "full=maybe",
        "snap=0",
        "snap=2049",
        "duration_s=0",
        "duration_s=3601",
        "max_bytes=4095",
        "filter=udp",
    ],
)
def test_what_makes_no_sense_is_refused(admin: Path, relay: Relay, query: str) -> None:
    status, said = ask(admin, "GET", f"/v1/capture?{query}")
    assert (status, said["error"]["code"]) == (400, "bad_request")
    assert untapped(relay)


def test_one_at_a_time(admin: Path) -> None:
    first = Reader(admin)
    status, said = ask(admin, "GET", "/v1/capture")
    assert (status, said["error"]["code"]) == (409, "conflict")
    assert "DELETE /v1/capture" in said["error"]["message"]
    assert first.end(admin, 0) == []
    status, said = ask(admin, "DELETE", "/v1/capture")
    assert (status, said["error"]["code"]) == (404, "not_found")


def test_its_time_ends_it(admin: Path, relay: Relay) -> None:
    began_s = time.monotonic()
    reader = Reader(admin, duration_s=1)
    assert reader.result() == []
    assert time.monotonic() - began_s >= 1
    assert untapped(relay)


def test_its_size_ends_it(admin: Path, relay: Relay, call: PlainCall) -> None:
    call.confirm()
    reader = Reader(admin, full=1, max_bytes=8192)
    for number in range(200):
        call.exchange(number)
    seen = reader.result()
    assert 0 < len(seen) < 400
    assert len(reader.pcapng) <= 8192
    asked_for, left_out = reader.counts()
    assert asked_for - left_out == len(seen)
    assert untapped(relay)


def test_a_reader_that_dies_ends_it(admin: Path, relay: Relay, call: PlainCall) -> None:
    call.confirm()
    for busy in (True, False):
        reader = Reader(admin)
        reader.socket.shutdown(socket.SHUT_RDWR)
        reader.socket.close()
        if busy:
            call.exchange()
        until(lambda: untapped(relay), "no tap is left")
    call.exchange()
    assert Reader(admin, duration_s=1).result() == []


def test_a_relay_that_stops_ends_it_well(
    make_config: MakeConfig, tmp_path: Path, server: socket.socket
) -> None:
    with Relay(make_config(backends=[f"a={endpoint_text(server)}"])) as relay:
        relay.routes.install("ufragOne", "a", ttl_s=60)
        reader = Reader(tmp_path / "admin.sock", duration_s=60)
        with PlainCall(address_of(relay), server, "ufragOne") as call:
            call.confirm()
            until(lambda: len(reader.datagrams()) == 2, "both in the capture")
    assert len(reader.result()) == 2


@contextlib.contextmanager
def stalled(admin: Path, **query: object) -> Iterator[socket.socket]:
    """Whoever asks for a capture and takes nothing of it."""
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(5)
        end.connect(str(admin))
        end.sendall(f"GET /v1/capture?{urlencode(query)} HTTP/1.1\r\nHost: relay\r\n\r\n".encode())
        yield end


def ends_well(end: socket.socket) -> bool:
    """Read all: does the chunked body have its end?"""
    said = b""
    with contextlib.suppress(ConnectionError):
        while piece := end.recv(65536):
            said += piece
    return said.endswith(b"0\r\n\r\n")


def test_a_reader_that_takes_nothing_costs_the_capture_alone(
    admin: Path, relay: Relay, call: PlainCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rings fill, what finds them full is counted, and every datagram of the call arrives."""
    monkeypatch.setattr(capture, "RING_BYTES_MIN", 1 << 16)
    monkeypatch.setattr(capture, "RING_BYTES", 1 << 16)
    monkeypatch.setattr(capture, "STALLED_S", 0.5)
    call.confirm()
    with stalled(admin, full=1, duration_s=3) as end:
        until(lambda: taps(relay) == 0, "the capture")
        sent = 0
        while not untapped(relay):  # more and more than rings, socket buffers and the server's own hold
            for number in range(sent, sent + 20):
                call.client.sendto(b"\x80" + number.to_bytes(4) + bytes(1000), call.relay)
            for number in range(sent, sent + 20):
                assert call.server.recv(2048)[1:5] == number.to_bytes(4)
            sent += 20
        assert not ends_well(end)
    counters = relay.counters()
    assert not conservation_error(counters).any()
    assert counters["dropped"].sum() == 0


def test_more_than_the_rings_hold_is_counted(
    admin: Path, relay: Relay, call: PlainCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control thread is busy with something else: what does not fit meanwhile is not in the file."""
    monkeypatch.setattr(capture, "RING_BYTES_MIN", 1 << 16)
    monkeypatch.setattr(capture, "RING_BYTES", 1 << 16)
    call.confirm()
    reader = Reader(admin, full=1)
    held = threading.Event()
    release = threading.Event()

    def hold(_: object) -> None:
        held.set()
        release.wait(10)

    holder = threading.Thread(target=relay.call, args=(hold,))
    holder.start()
    held.wait(10)
    for number in range(200):
        call.client.sendto(b"\x80" + number.to_bytes(4) + bytes(1000), call.relay)
        assert call.server.recv(2048)[1:5] == number.to_bytes(4)
    release.set()
    holder.join()
    seen = reader.end(admin, 1)
    asked_for, left_out = reader.counts()
    assert asked_for == 200
    assert left_out == 200 - len(seen) > 100
    assert [item.payload[1:5] for item in seen] == [number.to_bytes(4) for number in range(len(seen))]


def test_both_admin_listeners_share_the_one(
    make_config: MakeConfig, tmp_path: Path, server: socket.socket
) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123")
    where = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    config = make_config(
        backends=[f"a={endpoint_text(server)}"], admin_tcp=where, admin_token_file=str(token)
    )
    with Relay(config):
        reader = Reader(tmp_path / "admin.sock")
        bearer = {"Authorization": "Bearer 0123456789abcdef0123"}
        assert ask(where, "GET", "/v1/capture", **bearer)[0] == 409
        assert ask(where, "DELETE", "/v1/capture")[0] == 401
        assert ask(where, "DELETE", "/v1/capture", **bearer)[0] == 204
        assert reader.result() == []


def test_status_says_nothing_of_it_and_the_log_everything(
    admin: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "pyfastpath.capture"):
        Reader(admin, session="first").end(admin, 0)
        until(lambda: "capture ends: 0 datagrams" in caplog.text, "the line of the end")
    assert "capture begins: session first, headers only, 30 s at most" in caplog.text
    assert "capture" not in json.dumps(ask(admin, "GET", "/v1/status")[1])
