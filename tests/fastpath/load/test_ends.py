"""The ends of a player by themselves: what a relay hears from them, whom they believe."""

import socket
import struct

import pytest
from fastpath.load.player import PlainEnd, Player, TrunkEnd

from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk
from tests.support.crooked import CrookedRelay

KEY = bytes(range(16))
NOWHERE = ("127.0.0.1", 9)  # no relay listens here: nothing is played


@pytest.fixture
def relay():
    """A relay's socket, for one datagram at a time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(5)
        yield made


def player_of(*ends, **more):
    return Player(NOWHERE, list(ends), sessions=1, **more)


def next_records(relay, key=b"", want_control=True):
    """The records of the next trunk datagram that holds some of this kind."""
    while True:
        data = relay.recv(65536)
        header = trunk.parse_header(data)
        assert header.tagged == bool(key)
        if key:
            assert trunk.tag_holds(trunk.direction_key(key, "down"), data)
            data = data[: -trunk.TAG_BYTES]
        found = [record for record in trunk.parse_records(data) if record.control == want_control]
        if found:
            return header, found


@pytest.mark.parametrize("key", [None, KEY], ids=["untagged", "tagged"])
def test_a_trunk_end_answers_pings_and_says_who_it_is(relay, key):
    end = TrunkEnd(key=key, key_id=2, identity=(7, 42, 3))
    player = player_of(end)
    ping = trunk.Record(trunk.build_control(trunk.Ping(b"opaque!!")), control=True)
    head = trunk.Header(1, 0, bool(key), 2 if key else 0)
    up_key = trunk.direction_key(key, "up") if key else b""
    relay.sendto(trunk.build_datagram(head, [ping], up_key), end.address)
    player.serve(100)
    said = []
    while len(said) < 2:
        header, records = next_records(relay, key or b"")
        assert header.key_id == (2 if key else 0)
        said += [trunk.parse_control(record.payload) for record in records]
    assert trunk.Pong(b"opaque!!") in said
    (state,) = [each for each in said if isinstance(each, trunk.State)]
    assert (state.cluster, state.xcvr, state.incarnation) == (7, 42, 3)
    assert player.counters()["pings"] == 1
    player.close()


def test_a_trunk_end_believes_nobody_without_its_key(relay):
    end = TrunkEnd(key=KEY)
    player = player_of(end)
    record = trunk.Record(b"\x80 media", Endpoint.parse("127.2.0.1:4000"))
    relay.sendto(trunk.build_datagram(trunk.Header(1, 0), [record]), end.address)
    relay.sendto(trunk.build_datagram(trunk.Header(1, 1, True), [record], bytes(16)), end.address)
    relay.sendto(b"no trunk at all", end.address)
    player.serve(50)
    assert player.counters()["bad_trunk"] == 3
    assert player.counters()["up"]["strangers"] == 0
    player.close()


def test_each_trunk_end_begins_a_newer_epoch(relay):
    epochs = []
    for _ in range(3):
        end = TrunkEnd()
        player = player_of(end)
        relay.sendto(trunk.build_datagram(trunk.Header(1, 0), []), end.address)
        player.serve(30)
        epochs.append(next_records(relay)[0].epoch)
        player.close()
    assert epochs == sorted(set(epochs))


def test_a_plain_end_answers_a_bare_request_and_nothing_else(relay):
    end = PlainEnd()
    player = player_of(end)
    bare = struct.pack("!HHI12s", 1, 0, 0x2112A442, b"is it alive?")
    with_ufrag = struct.pack("!HHI12s4s", 1, 4, 0x2112A442, b"a client's..", b"attr")
    for datagram in (with_ufrag, b"\x80 media", bare):
        relay.sendto(datagram, end.address)
    player.serve(50)
    answer = relay.recv(2048)
    assert answer[:2] == b"\x01\x01"
    assert answer[8:20] == b"is it alive?"
    assert struct.unpack("!H", answer[26:28])[0] ^ 0x2112 == relay.getsockname()[1]
    assert player.counters()["probes"] == 1
    assert player.counters()["up"]["strangers"] == 2
    player.close()


def test_a_session_that_comes_from_another_port_has_moved():
    end = PlainEnd()

    class Moving(CrookedRelay):
        def _up(self, client, payload):
            if payload == b"\x80 now from elsewhere":
                self.move(client)
            super()._up(client, payload)

    with Moving([end.address], lambda first: 0) as relay:
        player = Player(relay.listen, [end], sessions=1, speed=0)
        player.assign(0, 0, 0)
        payloads = [b"\x80 first", b"\x80 now from elsewhere", b"\x80 and again"]
        for payload in payloads:
            player.feed(0, True, 0, payload)
        player.feed(0, False, 0, b"\x80 the answer")
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert player.counters()["moved"] == 1
    assert [(found.kind, found.session, found.actual_end) for found in player.findings()] == [("moved", 0, 0)]
    assert player.counters()["up"]["delivered"] == 3
    assert player.counters()["down"]["delivered"] == 1, "the answer went to the new port"


def test_the_servers_turn_before_its_client_ever_spoke():
    end = PlainEnd()
    with CrookedRelay([end.address], lambda first: 0) as relay:
        player = Player(relay.listen, [end], sessions=1, speed=0)
        player.assign(0, 0, 0)
        player.feed(0, False, 0, b"\x80 a capture that began too late", index=5)
        player.feed(0, True, 0, b"\x80 up")
        player.feed(0, False, 0, b"\x80 down")
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert player.counters()["unroutable"] == 1
    assert [(found.kind, found.index) for found in player.findings()] == [("unroutable", 5)]
    assert player.counters()["down"]["delivered"] == 1


def test_a_record_of_a_client_that_is_nobodys(relay):
    """The relay writes a wrong client address: the datagram is misrouted, even at the right end."""
    end = TrunkEnd()

    class WrongClient(CrookedRelay):
        def _to_end(self, end, client, data):
            super()._to_end(end, ("203.0.113.9", 7) if data == b"\x80 wrong" else client, data)

    with WrongClient([end.address], lambda first: 0, key=b"") as crooked:
        player = Player(crooked.listen, [end], sessions=1, speed=0)
        player.assign(0, 0, 0)
        player.feed(0, True, 0, b"\x80 first")
        player.feed(0, True, 0, b"\x80 wrong", index=1)
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert player.counters()["up"]["misrouted"] == 1
    assert [(found.kind, found.index, found.actual_session) for found in player.findings()] == [
        ("misrouted", 1, -1)
    ]


def test_an_end_plays_for_one_player():
    end = PlainEnd()
    player = player_of(end)
    with pytest.raises(ValueError, match="belongs to another player"):
        player_of(end)
    player.close()
    with pytest.raises(ValueError, match="belongs to another player"):
        player_of(end)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_end_says_where_it_listens(host):
    for end in (PlainEnd((host, 0)), TrunkEnd((host, 0))):
        assert end.address[0] == host
        assert end.address[1] > 0
        end.close()


def test_wrong_keys_are_refused():
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        TrunkEnd(key=bytes(15))
    with pytest.raises(ValueError, match=r"choose 0\.\.3"):
        TrunkEnd(key_id=4)


class OnePort(CrookedRelay):
    """Gives every client the upstream port of the first one."""

    def _to_end(self, end, client, data):
        if self._upstream and client not in self._upstream:
            ((_, first),) = self._upstream.items()
            self._upstream = {client: first}
            self._client_of[first] = client
        super()._to_end(end, client, data)


def two_after_each_other(phase_ns):
    """The player of two sessions, the second one so much later, over a relay with one upstream port."""
    end = PlainEnd()
    with OnePort([end.address], lambda first: 0) as relay:
        player = Player(relay.listen, [end], sessions=2, speed=1, give_up_ms=500)
        player.assign(0, 0, 0)
        player.assign(1, 0, 0, phase_ns)
        player.feed(0, True, 0, b"\x80 request", [b"\x80 the first's request", b"\x80 the second's request"])
        player.feed(0, False, 0, b"\x80 the answer to", mark=True)
        player.finish()
        assert player.run(duration_ms=9_000) == "done"
        player.close()
    return player


def test_a_port_that_was_silent_for_long_may_be_another_sessions():
    player = two_after_each_other(5_200_000_000)
    assert player.findings() == []
    assert player.counters()["up"]["delivered"] == player.counters()["down"]["delivered"] == 2


def test_two_living_flows_on_one_port_are_a_misroute():
    player = two_after_each_other(100_000_000)
    assert player.counters()["up"]["misrouted"] == 1
    found = player.findings()[0]
    assert (found.kind, found.session, found.actual_end, found.actual_session) == ("misrouted", 1, 0, 0)
