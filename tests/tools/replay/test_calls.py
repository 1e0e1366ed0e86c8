"""Which datagrams of a capture are a call's: direction, set-up, restarts, and what is left out and why."""

from collections import Counter
from pathlib import Path

import pytest

from pyfastpath.tools.pcap import read_pcap
from pyfastpath.tools.replay import calls
from pyfastpath.tools.replay.calls import CallFinder, Placed, RoleError
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun

PCAPS = Path(__file__).parents[2] / "pcaps"
CLIENT, MOVED, SERVER, OTHER = (
    Endpoint.parse(text) for text in ("192.0.2.2:4000", "192.0.2.9:4001", "10.0.0.1:40000", "10.0.0.2:40000")
)
RTP, DTLS = b"\x80\x6f" + bytes(20), b"\x16\xfe\xfd" + bytes(20)


def request(ufrags: bytes = b"serv:clnt", serial: int = 1) -> bytes:
    return stun.build_binding_request(serial.to_bytes(12, "big"), ufrags)


def success(serial: int = 1) -> bytes:
    return stun.build_binding_success(serial.to_bytes(12, "big"), CLIENT)


def set_up(finder: CallFinder, client: Endpoint = CLIENT, ufrags: bytes = b"serv:clnt") -> None:
    assert finder.place(client, SERVER, request(ufrags))
    assert finder.place(SERVER, client, success())


def placed(found: Placed | None) -> tuple[int, bool, bool]:
    assert found is not None
    return found.flow.index, found.upstream, found.stun


@pytest.mark.parametrize(
    ("name", "found_calls", "found_flows"),
    [("chromium-dtls12", 1, 1), ("chromium-dtls13-sped", 1, 1), ("wrtc-12-clients", 12, 24)],
)
def test_the_captures(name: str, found_calls: int, found_flows: int) -> None:
    """Every datagram is placed, the way the port says; calls and clients are those of the .jsonl."""
    datagrams = read_pcap(PCAPS / f"{name}.pcap").datagrams
    finder = CallFinder()
    for item in datagrams:
        found = finder.place(item.source, item.target, item.payload)
        assert found is not None
        assert found.upstream == (item.target.port == 40_000)
        assert item.source == (found.flow.client if found.upstream else found.flow.server)
    assert (len(finder.calls), len(finder.flows), finder.skipped) == (found_calls, found_flows, Counter())
    assert sum(flow.up + flow.down for flow in finder.flows) == len(datagrams)
    known = (PCAPS / f"{name}.jsonl").read_text()
    assert all(f'"server_ufrag": "{call.ufrags[0].decode()}"' in known for call in finder.calls)


def test_a_call_from_its_first_request() -> None:
    finder = CallFinder()
    assert placed(finder.place(CLIENT, SERVER, request())) == (0, True, True)
    assert placed(finder.place(SERVER, CLIENT, success())) == (0, False, True)
    assert placed(finder.place(CLIENT, SERVER, DTLS)) == (0, True, False)
    assert placed(finder.place(SERVER, CLIENT, RTP)) == (0, False, False)
    (call,), (flow,) = finder.calls, finder.flows
    assert (call.ufrags, flow.client_ufrags, flow.up, flow.down) == ([b"serv"], [b"clnt"], 2, 2)


def test_what_comes_before_the_answer_is_left_out() -> None:
    finder = CallFinder()
    assert finder.place(CLIENT, SERVER, RTP) is None  # a capture that began in the middle of the call
    finder.place(CLIENT, SERVER, request())
    assert finder.place(CLIENT, SERVER, DTLS) is None
    assert finder.place(SERVER, CLIENT, DTLS) is None
    assert finder.place(SERVER, CLIENT, success(serial=2))  # STUN, but no answer
    assert finder.place(CLIENT, SERVER, DTLS) is None
    finder.place(SERVER, CLIENT, success())
    assert finder.place(CLIENT, SERVER, DTLS)
    assert finder.skipped == {calls.NO_CALL: 1, calls.UNCONFIRMED: 3}


def test_the_answer_may_not_be_three_times_the_question() -> None:
    finder = CallFinder()
    finder.place(CLIENT, SERVER, request())
    long = stun.build_message(stun.BINDING_SUCCESS, bytes(11) + b"\x01", [(0x8022, bytes(500))])
    assert finder.place(SERVER, CLIENT, long) is None
    assert finder.place(CLIENT, SERVER, DTLS) is None  # so it confirmed nothing
    assert finder.skipped == {calls.AMPLIFIED: 1, calls.UNCONFIRMED: 1}


@pytest.mark.parametrize(
    ("payload", "original_bytes", "why"),
    [
        (b"\x40" + bytes(30), None, calls.NOT_WEBRTC),
        (b"", None, calls.NOT_WEBRTC),
        (b"", 172, calls.CUT),
        (request()[:30], len(request()), calls.CUT),
        (request()[:-4], None, calls.BAD_STUN),
        (b"\x80" + bytes(3000), None, calls.TOO_LONG),
        (RTP[:12], 2049, calls.TOO_LONG),
        (stun.build_message(0x0011, bytes(12), [(0x8022, bytes(700))] * 3), None, calls.TOO_LONG),
    ],
)
def test_what_no_relay_forwards_is_left_out(payload: bytes, original_bytes: int | None, why: str) -> None:
    finder = CallFinder()
    set_up(finder)
    assert finder.place(CLIENT, SERVER, payload, original_bytes) is None
    assert finder.skipped == {why: 1}


def test_a_cut_media_packet_is_played() -> None:
    finder = CallFinder()
    set_up(finder)
    assert placed(finder.place(CLIENT, SERVER, RTP[:12], 172)) == (0, True, False)


def test_other_traffic_is_of_no_call() -> None:
    finder = CallFinder()
    for payload in (RTP, b"\x00\x01", b"", success(), stun.build_message(stun.BINDING_REQUEST, bytes(12))):
        assert finder.place(CLIENT, SERVER, payload) is None
    assert finder.skipped == {calls.NO_CALL: 5}
    assert not finder.calls


def test_a_moved_client_is_another_flow_of_its_call() -> None:
    finder = CallFinder()
    set_up(finder)
    set_up(finder, MOVED)
    (call,) = finder.calls
    assert [flow.client for flow in call.flows] == [CLIENT, MOVED]


def test_an_ice_restart_is_the_same_call_under_another_ufrag() -> None:
    finder = CallFinder()
    set_up(finder)
    finder.place(CLIENT, SERVER, request(b"next:new1", serial=7))
    assert placed(finder.place(SERVER, CLIENT, RTP)) == (0, False, False)  # the old path lives on meanwhile
    set_up(finder, MOVED, b"next:new1")
    (call,) = finder.calls
    assert call.ufrags == [b"serv", b"next"]
    assert len(call.flows) == 2


def test_a_full_ice_server_asks_too() -> None:
    """Its requests carry the names the other way round; they make no flow and no call of their own."""
    finder = CallFinder()
    set_up(finder)
    assert placed(finder.place(SERVER, CLIENT, request(b"clnt:serv", serial=9))) == (0, False, True)
    assert placed(finder.place(CLIENT, SERVER, success(serial=9))) == (0, True, True)
    assert [call.ufrags for call in finder.calls] == [[b"serv"]]


def test_a_server_that_asks_first_is_known_by_its_other_calls() -> None:
    finder = CallFinder()
    set_up(finder)
    assert finder.place(SERVER, MOVED, request(b"mov1:srv2")) is None
    assert placed(finder.place(MOVED, SERVER, request(b"srv2:mov1"))) == (1, True, True)
    assert finder.skipped == {calls.NO_CALL: 1}


@pytest.mark.parametrize(
    "known",
    [
        {"server": SERVER},
        {"server": Endpoint(SERVER.address, calls.UNSPECIFIED_PORT)},
        {"server_ufrags": [b"serv"]},
    ],
    ids=["address", "any-port", "credentials"],
)
def test_what_is_known_decides_who_is_the_server(known: dict) -> None:
    finder = CallFinder(**known)
    assert finder.place(SERVER, CLIENT, request(b"clnt:serv")) is None
    assert placed(finder.place(CLIENT, SERVER, request())) == (0, True, True)


def test_who_asks_first_is_the_client_when_nothing_is_known() -> None:
    finder = CallFinder()
    assert placed(finder.place(SERVER, CLIENT, request(b"clnt:serv"))) == (0, True, True)
    with pytest.raises(RoleError, match=r"10\.0\.0\.1:40000 is a client in one call .*--server IP:PORT"):
        finder.place(MOVED, SERVER, request(b"srv2:mov1"))


def test_calls_of_another_server_are_left_out() -> None:
    finder = CallFinder(server=SERVER)
    assert finder.place(CLIENT, OTHER, request()) is None
    assert finder.skipped == {calls.OTHER_SERVER: 1}


def test_a_server_at_both_ends_is_refused() -> None:
    finder = CallFinder(server=Endpoint(SERVER.address, calls.UNSPECIFIED_PORT))
    with pytest.raises(RoleError, match="at both ends"):
        finder.place(Endpoint(SERVER.address, 5000), SERVER, request())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FLOWS_MAX", 1)
    finder = CallFinder()
    set_up(finder)
    assert finder.place(MOVED, SERVER, request()) is None
    for serial in range(100):
        finder.place(CLIENT, SERVER, request(b"%04d:clnt" % serial, serial + 2))
    assert len(finder.calls[0].ufrags) == calls.UFRAGS_MAX
    assert finder.skipped == {calls.TOO_MANY: 1 + 100 - (calls.UFRAGS_MAX - 1)}
