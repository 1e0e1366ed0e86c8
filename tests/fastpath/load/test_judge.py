"""What a player says of a relay that does wrong: each fault is counted, named, and nothing else is."""

import itertools
import random
import struct

import pytest
from fastpath.load.player import PlainEnd, Player, TrunkEnd

from tests.support.crooked import CrookedRelay

KEY = bytes(range(16))
SESSIONS = 3
ENDS = 2
NONE = {
    "late": 0,
    "lost": 0,
    "duplicates": 0,
    "reordered": 0,
    "corrupted": 0,
    "misrouted": 0,
    "misrouted_copies": 0,
    "strangers": 0,
    "in_flight": 0,
}


def request(session):
    """A Binding Request (RFC 8489) that is this session's own."""
    return struct.pack("!HHI12sI", 1, 4, 0x2112A442, b"transactn%03d" % session, 7)


def response(session):
    return struct.pack("!HHI12sI", 0x101, 4, 0x2112A442, b"transactn%03d" % session, 7)


def media(number, upstream):
    return (b"\x80\x6f%s %05d of the media" % (b"up" if upstream else b"dn", number)).ljust(80, b".")


def marked(payload, session):
    """As session number `session` sends it."""
    return payload[:-4] + struct.pack("!I", struct.unpack("!I", payload[-4:])[0] ^ session)


@pytest.fixture(params=["plain", "trunk"])
def ends(request):
    return [PlainEnd() if request.param == "plain" else TrunkEnd(key=KEY) for _ in range(ENDS)]


def relay_of(ends, faults=None, **more):
    key = KEY if isinstance(ends[0], TrunkEnd) else None
    return CrookedRelay(
        [end.address for end in ends],
        lambda first: int(first[17:20]) % ENDS,
        faults=faults,
        key=key,
        **more,
    )


def feed(player, rounds=4, finish=True):
    """Request and response, then rounds of three datagrams up and three down, numbered alike."""
    for session in range(SESSIONS):
        player.assign(session, 0, session % ENDS)
    assert player.feed(0, True, 0, request(0), [request(n) for n in range(SESSIONS)], index=1000)
    assert player.feed(0, False, 0, response(0), [response(n) for n in range(SESSIONS)], index=1001)
    for number in range(rounds * 3):
        upstream = number % 2 == 0
        for each in range(3):
            n = number // 2 * 3 + each
            assert player.feed(0, upstream, 0, media(n, upstream), mark=True, index=n)
    if finish:
        player.finish()


def play(ends, faults=None, **more):
    """The player after everything was played over a relay with these faults."""
    with relay_of(ends, faults) as relay:
        player = Player(relay.listen, ends, sessions=SESSIONS, speed=0, give_up_ms=800, **more)
        try:
            feed(player)
            assert player.run(duration_ms=8_000) == "done"
        finally:
            player.close()
    for way in ("up", "down"):
        counts = player.counters()[way]
        arrived = counts["delivered"] + counts["lost"] + counts["corrupted"]
        assert counts["sent"] == arrived + counts["misrouted"] - counts["misrouted_copies"]
    assert player.counters()["sessions_done"] == SESSIONS
    return player


def assert_only(player, upstream, **expected):
    """One direction has these counts, everything else is as it should be."""
    counters = player.counters()
    here, there = ("up", "down") if upstream else ("down", "up")
    assert {name: counters[here][name] for name in NONE} == NONE | expected
    assert {name: counters[there][name] for name in NONE} == NONE
    assert counters["moved"] == counters["unroutable"] == 0


def test_a_straight_relay_has_no_finding(ends):
    player = play(ends)
    assert_only(player, True)
    assert player.findings() == []
    assert player.counters()["up"]["sent"] == player.counters()["up"]["delivered"] == SESSIONS * 19
    assert player.counters()["down"]["sent"] == player.counters()["down"]["delivered"] == SESSIONS * 19


WAYS = pytest.mark.parametrize("upstream", [True, False], ids=["up", "down"])
VICTIM = 1  # the session whose datagram meets the fault
INDEX = 4  # in the middle of a run of three


@WAYS
def test_a_lost_datagram(ends, upstream):
    player = play(ends, {(upstream, marked(media(INDEX, upstream), VICTIM)): "drop"})
    assert_only(player, upstream, lost=1)
    (found,) = player.findings()
    assert (found.kind, found.session, found.call, found.upstream) == ("lost", VICTIM, 0, upstream)
    assert (found.index, found.expected_end, found.actual_end, found.actual_session) == (INDEX, 1, -1, -1)


@WAYS
def test_a_duplicate(ends, upstream):
    player = play(ends, {(upstream, marked(media(INDEX, upstream), VICTIM)): "twice"})
    assert_only(player, upstream, duplicates=1)
    (found,) = player.findings()
    assert (found.kind, found.session, found.index, found.upstream) == ("duplicate", VICTIM, INDEX, upstream)
    assert found.actual_end == (1 if upstream else -1)
    assert "once more" in found.detail


@WAYS
def test_two_in_the_wrong_order(ends, upstream):
    with relay_of(ends, {(upstream, media(INDEX, upstream)): "swap"}) as relay:
        player = Player(relay.listen, ends, sessions=1, speed=0)
        player.assign(0, 0, 0)
        player.feed(0, True, 0, request(0), index=1000)
        for number in range(8):
            player.feed(0, upstream, 0, media(number, upstream), index=number)
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert_only(player, upstream, reordered=1)
    (found,) = player.findings()
    assert (found.kind, found.session, found.index) == ("reordered", 0, INDEX)


@WAYS
@pytest.mark.parametrize("fault", ["corrupt", "cut"])
def test_a_damaged_datagram(ends, upstream, fault):
    payload = marked(media(INDEX, upstream), VICTIM)
    player = play(ends, {(upstream, payload): fault})
    assert_only(player, upstream, corrupted=1)
    (found,) = player.findings()
    assert (found.kind, found.session, found.index) == ("corrupted", VICTIM, INDEX)
    if fault == "corrupt":
        assert (
            found.detail
            == f"byte 20 of 80 came out as 0x{payload[20] ^ 0x40:02x}, sent was 0x{payload[20]:02x}"
        )
    else:
        assert found.detail == "75 bytes came out instead of 80, the first 75 as they were sent"


def test_damage_in_the_mark_itself(ends):
    payload = marked(media(INDEX, True), VICTIM)

    class LastByte(CrookedRelay):
        def _to_end(self, end, client, data):
            super()._to_end(end, client, data[:-1] + b"!" if data == payload else data)

    with LastByte(
        [end.address for end in ends],
        lambda first: int(first[17:20]) % ENDS,
        key=KEY if isinstance(ends[0], TrunkEnd) else None,
    ) as relay:
        player = Player(relay.listen, ends, sessions=SESSIONS, speed=0)
        feed(player)
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert_only(player, True, corrupted=1)
    assert player.findings()[0].detail == f"byte 79 of 80 came out as 0x21, sent was 0x{payload[-1]:02x}"


@WAYS
def test_a_datagram_that_comes_out_elsewhere(ends, upstream):
    player = play(ends, {(upstream, marked(media(INDEX, upstream), VICTIM)): "elsewhere"})
    assert_only(player, upstream, misrouted=1)
    (found,) = player.findings()
    assert (found.kind, found.session, found.index, found.upstream) == ("misrouted", VICTIM, INDEX, upstream)
    assert found.expected_end == 1
    assert found.actual_end == (0 if upstream else -1)
    if not upstream:
        assert found.actual_session not in (-1, VICTIM)


@WAYS
def test_a_copy_that_comes_out_elsewhere(ends, upstream):
    player = play(ends, {(upstream, marked(media(INDEX, upstream), VICTIM)): "twice elsewhere"})
    assert_only(player, upstream, misrouted=1, misrouted_copies=1)
    assert [(f.kind, f.session, f.index) for f in player.findings()] == [("misrouted", VICTIM, INDEX)]


@WAYS
def test_a_datagram_that_comes_back_to_its_sender(ends, upstream):
    player = play(ends, {(upstream, marked(media(INDEX, upstream), VICTIM)): "back"})
    assert_only(player, upstream, misrouted=1)
    (found,) = player.findings()
    assert (found.kind, found.session, found.upstream) == ("misrouted", VICTIM, upstream)
    assert found.actual_end == (-1 if upstream else 1)


@WAYS
def test_a_datagram_after_it_was_given_up(ends, upstream):
    with relay_of(ends, {(upstream, marked(media(INDEX, upstream), VICTIM)): "late"}, late_s=0.7) as relay:
        player = Player(relay.listen, ends, sessions=SESSIONS, speed=0, give_up_ms=500)
        feed(player, finish=False)
        for _ in range(100):
            player.run(until_fed=False, duration_ms=50)
            if len(player.findings()) == 2:
                break
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert_only(player, upstream, late=1, reordered=0)
    assert [(f.kind, f.session, f.index) for f in player.findings()] == [
        ("lost", VICTIM, INDEX),
        ("late", VICTIM, INDEX),
    ]


def test_a_request_that_comes_out_at_the_wrong_end(ends):
    """The relay routed it wrongly: its session has no flow, nor has its server anybody to answer."""
    player = play(ends, {(True, request(VICTIM)): "elsewhere"})
    counters = player.counters()
    found = player.findings()[0]
    assert (found.kind, found.session, found.index, found.actual_end) == ("misrouted", VICTIM, 1000, 0)
    assert counters["up"]["misrouted"] >= 1
    assert counters["up"]["lost"] == counters["up"]["corrupted"] == 0


def test_a_lost_request_leaves_its_server_silent(ends):
    player = play(ends, {(True, request(VICTIM)): "drop"})
    counters = player.counters()
    assert counters["up"]["lost"] == 1
    kinds = [(f.kind, f.index) for f in player.findings()]
    assert kinds[0] == ("lost", 1000)
    assert ("unroutable", 1001) in kinds
    assert counters["unroutable"] == kinds.count(("unroutable", 1001))


def test_a_stranger(ends):
    with relay_of(ends) as relay:
        player = Player(relay.listen, ends, sessions=SESSIONS, speed=0)
        feed(player)
        relay._front.sendto(b"\x80 nobody sent this, ever", player.client(2))
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert_only(player, False, strangers=1)
    (found,) = player.findings()
    assert (found.kind, found.session, found.index, found.upstream) == ("stranger", -1, -1, False)
    assert found.detail == "24 bytes that nobody sent came out at the client of session 2"


def test_repetitions_in_the_capture_are_no_duplicates(ends):
    """DTLS and STUN send again: four equal datagrams up, then four down, twice."""
    with relay_of(ends) as relay:
        player = Player(relay.listen, ends, sessions=1, speed=0)
        player.assign(0, 0, 0)
        player.feed(0, True, 0, request(0))
        for number in range(16):
            player.feed(0, number // 4 % 2 == 1, 0, b"\x16\xfe\xfd the same flight again")
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert_only(player, True)
    assert player.counters()["up"]["delivered"] == 9


def test_a_lost_one_among_repetitions_is_lost_once(ends):
    same = b"\x16\xfe\xfd the same flight again"
    with relay_of(ends, {(True, same): "drop"}) as relay:
        player = Player(relay.listen, ends, sessions=1, speed=0, give_up_ms=800)
        player.assign(0, 0, 0)
        for payload in (request(0), same, media(1, True), same, media(2, True)):
            player.feed(0, True, 0, payload)
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    assert player.counters()["up"]["lost"] == 1
    assert player.counters()["up"]["delivered"] == 4
    assert player.counters()["up"]["duplicates"] == 0


def test_without_marks_equal_datagrams_of_two_sessions_cannot_be_told_apart(ends):
    """So a datagram at the wrong session is a duplicate there and lost here, instead of misrouted."""
    with relay_of(ends, {(False, media(0, False)): "elsewhere"}) as relay:
        player = Player(relay.listen, ends, sessions=2, speed=0, give_up_ms=800)
        for session in range(2):
            player.assign(session, 0, session % ENDS)
        player.feed(0, True, 0, request(0), [request(0), request(1)])
        player.feed(0, False, 0, media(0, False))
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        player.close()
    counts = player.counters()["down"]
    assert counts["delivered"] + counts["lost"] + counts["misrouted"] - counts["misrouted_copies"] == 2
    assert counts["duplicates"] + counts["misrouted"] == 1


def test_findings_are_bounded_and_counts_are_not(ends):
    faults = {
        (True, marked(media(n, True), session)): "twice" for n in range(18) for session in range(SESSIONS)
    }
    player = play(ends, faults, findings_max=5)
    assert player.counters()["up"]["duplicates"] == 18 * SESSIONS
    assert [f.kind for f in player.findings()] == ["duplicate"] * 5


@pytest.mark.parametrize("seed", range(3))
def test_many_faults_at_once_are_told_apart(ends, seed):
    """A third of all media meets a fault; every one of them, and no other datagram, is found."""
    random_ = random.Random(seed)
    kinds = {
        "twice": "duplicate",
        "corrupt": "corrupted",
        "cut": "corrupted",
        "elsewhere": "misrouted",
        "twice elsewhere": "misrouted",
        "back": "misrouted",
    }
    faults, expected = {}, set()
    for number, session, upstream in itertools.product(range(18), range(SESSIONS), (True, False)):
        if random_.random() < 1 / 3:
            fault = random_.choice(list(kinds))
            faults[upstream, marked(media(number, upstream), session)] = fault
            expected.add((kinds[fault], session, number, upstream))
    player = play(ends, faults)
    assert {(f.kind, f.session, f.index, f.upstream) for f in player.findings()} == expected
    assert len(player.findings()) == len(expected)
