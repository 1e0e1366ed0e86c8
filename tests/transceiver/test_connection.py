"""A connection from its first check to its goodbye, against a client in memory. One behaviour a test."""

import pytest

from pyfastpath.transceiver.connection import CHECKS_AT_ONCE, DATAGRAMS_AT_ONCE, Connection
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.events import Connected, DataReceived, Ended, HandshakeBegun
from pyfastpath.transceiver.ice import Credentials, PathAdded, PathSelected
from pyfastpath.wire import rtcp, rtp
from pyfastpath.wire.answer import build_answer, setup_for
from pyfastpath.wire.offer import parse_offer
from tests.support.rtc_client import RtcClient, certificate
from tests.support.rtc_pair import Pair, entropy, path_of

PWD = "p" * 24
GARBAGE = bytes((0x80, 111)) + bytes(30)


def pair_of(client: RtcClient, offer_text: str = "") -> Pair:
    offer = parse_offer(offer_text or client.offer())
    connection = Connection(
        offer,
        Credentials("server", PWD, offer.ice_ufrag, offer.ice_pwd),
        certificate=certificate(),
        entropy=entropy(),
        counters=Counters(),
        ssrc=0xFACE,
        ntp_offset_s=1.8e9,
    )
    client.accept(
        build_answer(
            offer,
            ufrag="server",
            pwd=PWD,
            fingerprint=certificate().fingerprint,
            setup=setup_for(offer.setup),
            candidates=(),
            ssrc=0xFACE,
            session_id=1,
        )
    )
    return Pair(connection, client)


@pytest.fixture
def client() -> RtcClient:
    return RtcClient()


@pytest.fixture
def pair(client) -> Pair:
    return pair_of(client)


@pytest.fixture
def live(pair) -> Pair:
    pair.connect()
    return pair


def counters(pair: Pair) -> Counters:
    return pair.server._counters


def dropped(pair: Pair) -> dict[str, int]:
    return {name: count for name, count in counters(pair).dropped.items() if count}


def test_check_handshake_media_both_ways(live):
    kinds = [type(event) for event in live.events]
    assert (
        kinds.index(PathAdded)
        < kinds.index(PathSelected)
        < kinds.index(HandshakeBegun)
        < kinds.index(Connected)
    )
    live.up(live.client.audio(b"hello"))
    (packet,) = live.take(rtp.RtpPacket)
    assert packet.payload == b"hello"
    assert live.server.send_audio(b"there", 960, True, live.now)
    live.settle()
    (heard,) = live.client.received
    assert (heard.payload, heard.timestamp, heard.marker, heard.ssrc) == (b"there", 960, True, 0xFACE)
    assert all(confirmed for _, data, confirmed in live.down if data[0] >= 20)
    assert not dropped(live)


@pytest.mark.parametrize("setup", ["actpass", "active", "passive"])
def test_either_side_opens_the_handshake(setup):
    pair = pair_of(RtcClient(setup=setup))
    pair.connect()
    assert len(pair.take(Connected)) == 1


def test_nothing_but_stun_goes_to_an_address_that_answered_no_check_of_ours(pair):
    pair.client.answers_checks = False
    pair.up(pair.client.check())
    pair.up(*pair.client.start_dtls(pair.now))
    pair.run(2)
    assert pair.client.checks_received > 1
    assert {data[0] >> 6 for _, data, _ in pair.down} == {0}
    assert all(data[0] <= 3 for _, data, _ in pair.down)
    assert not any(confirmed for _, _, confirmed in pair.down)
    pair.client.answers_checks = True
    pair.up(pair.client.check())  # as clients do; we may not send three times what came
    pair.run(3)
    assert pair.take(Connected)


def test_a_lost_flight_is_sent_again(client):
    pair = pair_of(client)
    lost = []

    def lose(data, path, is_up):
        if 20 <= data[0] <= 63 and len(lost) < 3:
            lost.append(data)
            return True
        return False

    pair.lose = lose
    pair.up(client.check())
    pair.up(*client.start_dtls(pair.now))
    pair.run(10)
    assert len(lost) == 3
    assert pair.take(Connected)


def test_the_fingerprint_is_the_offers_or_the_call_ends(client):
    other = client.offer(fingerprint=":".join(["AA"] * 32))
    pair = pair_of(client, other)
    pair.up(client.check())
    pair.up(*client.start_dtls(pair.now))
    pair.run(0.5)
    (ended,) = pair.take(Ended)
    assert ended.reason == "fingerprint_mismatch"
    assert not pair.take(Connected)


def test_media_follows_a_new_path_only_after_it_answered(live):
    new = path_of(60_000)
    live.deaf.add(new)
    live.up(live.client.check(), path=new)
    live.server.send_audio(b"still old", 960, False, live.now)
    live.settle()
    assert live.down[-1][0] == live.path
    live.deaf.clear()
    live.run(1.0)
    (selected,) = [event for event in live.take(PathSelected) if event.previous is not None]
    assert (selected.path, selected.previous) == (new, live.path)
    live.down.clear()
    live.server.send_audio(b"new", 1920, False, live.now)
    live.settle()
    assert live.down[-1][0] == new
    assert live.client.received[-1].payload == b"new"
    live.up(live.client.audio(b"from there"), path=new)
    assert live.take(rtp.RtpPacket)[-1].payload == b"from there"


def test_another_shard_of_the_relay_is_followed_by_authentic_media_alone(live):
    moved = path_of(relay_port=7001)
    live.up(b"\x80" + bytes(60), path=moved)  # not authentic
    live.server.send_audio(b"a", 960, False, live.now)
    live.settle()
    assert live.down[-1][0] == live.path
    live.up(live.client.audio(b"x"), path=moved)
    live.server.send_audio(b"b", 1920, False, live.now)
    live.settle()
    assert live.down[-1][0] == moved


def test_ice_restart_keeps_keys_and_audio(live):
    live.server.restart(Credentials("again", "q" * 24, "client2", "r" * 24))
    live.client.remote |= {"a=ice-ufrag": "again", "a=ice-pwd": "q" * 24}
    live.client.ufrag, live.client.pwd = "client2", "r" * 24
    live.up(live.client.check())
    live.run(0.5)
    live.up(live.client.audio(b"after"))
    assert live.take(rtp.RtpPacket)[-1].payload == b"after"
    assert len(live.take(Connected)) == 1  # no second handshake


def test_replayed_and_corrupted_packets_are_counted_and_do_no_harm(live):
    packet = live.client.audio(b"once")
    live.up(packet, packet)
    changed = bytearray(live.client.audio(b"twice"))
    changed[-1] ^= 1
    live.up(bytes(changed))
    assert [event.payload for event in live.take(rtp.RtpPacket)] == [b"once"]
    assert dropped(live) == {"srtp_replayed": 1, "srtp_auth_failed": 1}


def test_media_before_the_keys_is_dropped_by_name(pair):
    pair.up(pair.client.check())
    pair.up(b"\x80\x6f" + bytes(40))
    assert dropped(pair) == {"media_before_keys": 1}


def test_every_datagram_is_used_or_dropped(live):
    sent = 0
    for data in (
        b"",
        b"\x05",
        b"\x80",
        b"\x80\xc8" + bytes(30),
        b"\x16\xfe\xfd" + bytes(30),
        bytes(20),
        b"\xff" * 99,
    ):
        live.up(data)
        sent += 1
    used = sum(counters(live).used.values())
    assert sum(dropped(live).values()) <= sent
    assert used + sum(dropped(live).values()) >= sent


def test_reports_flow_while_audio_does(live):
    for _ in range(100):
        live.up(live.client.audio(b"tick"))
        live.server.send_audio(b"tock", live.client.timestamp, False, live.now)
        live.run(0.02)
    kinds = {kind for data in live.client.rtcp for kind in packet_types(data)}
    assert {200, 202, 205} <= kinds  # sender reports, who we are, transport-wide feedback


def packet_types(compound: bytes) -> list[int]:
    found, at = [], 0
    while at < len(compound):
        found.append(compound[at + 1])
        at += 4 + 4 * int.from_bytes(compound[at + 2 : at + 4], "big")
    return found


def test_consent_ends_with_the_clients_checks(live):
    live.run(29)
    assert not live.take(Ended)
    live.run(3)
    (ended,) = live.take(Ended)
    assert ended.reason == "consent_expired"
    live.down.clear()
    assert not live.server.send_audio(b"x", 0, False, live.now)
    live.run(5)
    assert live.down == []
    assert live.server.get_timer() is None


def test_the_client_closes(live):
    live.client.dtls.close()
    live.up(*live.client.follow())
    (ended,) = live.take(Ended)
    assert ended.reason == "closed_by_client"
    live.up(live.client.audio(b"late"))
    assert dropped(live) == {"session_over": 1}


def test_we_close(live):
    live.server.close("hangup", live.now)
    live.settle()
    assert live.client.is_closed
    assert 203 in packet_types(live.client.rtcp[-1])  # BYE
    (ended,) = live.take(Ended)
    assert ended.reason == "hangup"


def test_data_both_ways(live):
    live.client.dtls.send_data(b"to the server")
    live.up(*live.client.follow())
    assert [event.data for event in live.take(DataReceived)] == [b"to the server"]
    live.server.send_data(b"to the client", live.now)
    live.settle()
    assert live.client.data == [b"to the client"]


@pytest.mark.parametrize(
    ("direction", "is_sent"),
    [("sendrecv", True), ("recvonly", True), ("sendonly", False), ("inactive", False)],
)
def test_nothing_is_sent_to_a_client_that_offered_to_receive_nothing(client, direction, is_sent):
    """RFC 3264, section 6.1: a WHIP publisher offers sendonly. It is heard all the same, and gets reports."""
    pair = pair_of(client, client.offer().replace("a=sendrecv", f"a={direction}"))
    pair.connect()
    assert pair.server.send_audio(b"\x78hello", 0, True, pair.now) is is_sent
    pair.up(client.audio(b"\x78word"))
    pair.run(1.0)
    assert [packet.payload for packet in client.received] == ([b"\x78hello"] if is_sent else [])
    assert [event.payload for event in pair.take(rtp.RtpPacket)] == [b"\x78word"]
    said = [packet for compound in client.rtcp for packet in rtcp.parse_compound(compound)]
    assert any(isinstance(packet, rtcp.SenderReport) for packet in said) is is_sent
    assert any(
        isinstance(packet, rtcp.SenderReport | rtcp.ReceiverReport) and packet.reports for packet in said
    )


def test_a_session_is_heard_at_a_bounded_rate_and_its_checks_apart() -> None:
    client = RtcClient()
    pair = pair_of(client)
    pair.connect()
    counters = pair.server._counters
    pair.run(10.0)
    counters.dropped = dict.fromkeys(counters.dropped, 0)
    path = path_of()
    for _ in range(10 * DATAGRAMS_AT_ONCE):
        pair.server.receive_datagram(GARBAGE, path, pair.now)
    refused = counters.dropped["too_many_datagrams"]
    assert refused >= 8 * DATAGRAMS_AT_ONCE  # one burst, and what was saved up while it was spent
    assert counters.dropped["srtp_auth_failed"] + refused == 10 * DATAGRAMS_AT_ONCE
    answered = len(client.successes)
    pair.up(client.check())
    pair.settle()
    assert len(client.successes) == answered + 1, "consent is heard all the same"
    pair.run(1.0)
    pair.server.receive_datagram(GARBAGE, path, pair.now)
    assert counters.dropped["too_many_datagrams"] == refused, "a second later it is as before"
    for _ in range(3 * CHECKS_AT_ONCE):
        pair.server.receive_datagram(bytes(20), path, pair.now)
    assert counters.dropped["too_many_checks"] >= CHECKS_AT_ONCE
    assert counters.conservation_error <= 0  # this test hands datagrams over without counting them
