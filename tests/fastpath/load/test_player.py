"""The player as a whole: order, time, the ring, threads, what it refuses. Faults are in test_judge.py."""

import itertools
import struct
import threading
import time

import pytest
from fastpath.load.player import PlainEnd, Player, TrunkEnd

from tests.support.crooked import CrookedRelay

MS = 1_000_000


def request(session):
    return struct.pack("!HHI12sI", 1, 4, 0x2112A442, b"transactn%03d" % session, 7)


def media(number):
    return b"\x80\x6f%06d" % number + bytes(60)


@pytest.fixture
def end():
    made = PlainEnd()
    yield made
    made.close()


@pytest.fixture
def relay(end):
    with CrookedRelay([end.address], lambda first: 0) as made:
        yield made


@pytest.fixture
def new_player(relay, end):
    """A player of one end, closed at last."""
    made = []

    def build(sessions=1, **more):
        made.append(Player(relay.listen, [end], sessions=sessions, **{"speed": 0} | more))
        return made[-1]

    yield build
    for player in made:
        player.close()


def begin(player, sessions=1, time_ns=0):
    for session in range(sessions):
        player.assign(session, 0, 0)
    assert player.feed(0, True, time_ns, request(0), [request(n) for n in range(sessions)])


# ---- order ------------------------------------------------------------------------------------------


def test_a_side_waits_for_what_the_other_has_sent(end):
    """Late datagrams hold the answer back, and nothing that the same side sends."""
    late = {(True, media(1)): "late", (False, media(4)): "late"}
    with CrookedRelay([end.address], lambda first: 0, faults=late, late_s=0.2) as relay:
        player = Player(relay.listen, [end], sessions=1, speed=0, give_up_ms=5_000)
        begin(player)
        script = [(True, 1), (True, 2), (False, 3), (False, 4), (False, 5), (True, 6)]
        for upstream, number in script:
            player.feed(0, upstream, 0, media(number))
        player.finish()
        began_s = time.monotonic()
        assert player.run(duration_ms=8_000) == "done"
        assert time.monotonic() - began_s > 0.4
        assert relay.passed == [(True, request(0)), *((up, media(n)) for up, n in script)]
        player.close()
    assert player.counters()["up"]["delivered"] == 4
    assert player.counters()["down"]["delivered"] == 3


def test_the_window_bounds_what_is_on_the_way(end):
    """A relay that answers nothing: as many datagrams as the window holds, no more."""
    with CrookedRelay([end.address], lambda first: 0) as relay:
        player = Player(relay.listen, [end], sessions=40, speed=0, window=100, give_up_ms=60_000)
        begin(player, 40)
        for number in range(20):
            player.feed(0, True, 0, media(number), mark=True)
        relay._up = lambda client, payload: None
        assert player.run(until_fed=False, duration_ms=300) == "time"
        assert player.counters()["up"]["in_flight"] == player.counters()["up"]["sent"] == 100
        player.close()


def test_a_session_has_at_most_sixty_four_on_the_way(end):
    with CrookedRelay([end.address], lambda first: 0) as relay:
        player = Player(relay.listen, [end], sessions=1, speed=0, give_up_ms=60_000)
        begin(player)
        for number in range(200):
            player.feed(0, True, 0, media(number))
        relay._up = lambda client, payload: None
        assert player.run(until_fed=False, duration_ms=300) == "time"
        assert player.counters()["up"]["in_flight"] == 64
        player.close()


def test_each_session_has_an_address_of_its_own(new_player, relay):
    player = new_player(sessions=7, sockets=3, first_source="127.3.255.254")
    begin(player, 7)
    player.feed(0, False, 0, media(1), mark=True)
    player.finish()
    assert player.run(duration_ms=5_000) == "done"
    clients = [player.client(session) for session in range(7)]
    assert [address for address, _ in clients] == ["127.3.255.254"] * 3 + ["127.3.255.255"] * 3 + [
        "127.4.0.0"
    ]
    assert len({port for _, port in clients}) == 3
    assert set(relay._end_of) == set(clients)
    assert player.counters()["down"]["delivered"] == 7


def test_two_calls_at_two_ends():
    ends = [PlainEnd(), TrunkEnd()]
    with CrookedRelay([ends[0].address], lambda first: 0) as relay:
        player = Player(relay.listen, ends, sessions=2, speed=0)
        player.assign(0, 5, 0)
        player.assign(1, 9, 0)
        for call in (5, 9, 9, 5):
            player.feed(call, True, 0, b"\x80 of call %d" % call)
        player.finish()
        assert player.run(duration_ms=5_000) == "done"
        assert [p for _, p in relay.passed].count(b"\x80 of call 5") == 2
        player.close()
    assert player.counters()["up"]["delivered"] == 4


# ---- time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("speed", "least_s"), [(1, 0.4), (4, 0.1)])
def test_datagrams_leave_no_earlier_than_their_time(new_player, speed, least_s):
    player = new_player(speed=speed)
    begin(player, time_ns=5_000 * MS)
    for number in range(1, 21):
        player.feed(0, True, (5_000 + 20 * number) * MS, media(number))
    player.finish()
    began_s = time.monotonic()
    assert player.run(duration_ms=8_000) == "done"
    assert time.monotonic() - began_s > least_s
    counters = player.counters()
    assert counters["up"]["delivered"] == 21
    assert counters["timed"] + counters["held_back"] + counters["starved"] == 21
    assert 0 < player.timing_ns(0.5) <= player.timing_ns(1.0)
    assert sum(count for _, count in player.timing_histogram()) == counters["timed"]


def test_a_phase_shifts_a_session(new_player, relay):
    player = new_player(sessions=3, speed=1)
    for session, phase_ms in enumerate((200, 0, 100)):
        player.assign(session, 0, 0, phase_ms * MS)
    for number in range(2):
        player.feed(0, True, number * 400 * MS, request(number), [request(10 * number + n) for n in range(3)])
    player.finish()
    assert player.run(duration_ms=8_000) == "done"
    assert [payload for _, payload in relay.passed] == [request(n) for n in (1, 2, 0, 11, 12, 10)]


def test_what_waits_for_the_other_side_is_held_back_and_not_timed(end):
    with CrookedRelay([end.address], lambda first: 0, faults={(True, media(1)): "late"}, late_s=0.2) as relay:
        player = Player(relay.listen, [end], sessions=1, speed=1, give_up_ms=5_000)
        begin(player)
        player.feed(0, True, 1 * MS, media(1))
        player.feed(0, False, 2 * MS, media(2))
        player.finish()
        assert player.run(duration_ms=8_000) == "done"
        player.close()
    assert player.counters()["held_back"] >= 1
    assert player.counters()["timed"] <= 2


def test_latency_is_known_by_direction(new_player):
    player = new_player()
    begin(player)
    for number in range(30):
        player.feed(0, number % 3 == 0, 0, media(number))
    player.finish()
    assert player.run(duration_ms=5_000) == "done"
    assert player.latency_ns(0.5, True) > 0
    assert player.latency_ns(0.5, False) > 0
    up, down, both = (sum(n for _, n in player.latency_histogram(way)) for way in (True, False, None))
    assert (up, down, both) == (11, 20, 31)
    assert player.timing_ns(0.5) == 0


# ---- the ring ---------------------------------------------------------------------------------------


def test_a_long_capture_streams_through_a_small_ring(new_player):
    player = new_player(sessions=3, ring_bytes=1 << 16)
    begin(player, 3)
    refused = 0
    for number in range(3_000):
        while not player.feed(0, number % 5 != 0, number, media(number), mark=True):
            refused += 1
            assert player.run(duration_ms=5_000) == "hungry"
    player.finish()
    assert player.run(duration_ms=10_000) == "done"
    assert refused > 3
    counters = player.counters()
    assert counters["fed"] == 3_001
    assert counters["up"]["delivered"] + counters["down"]["delivered"] == 3 * 3_001
    assert player.findings() == []


def test_one_thread_feeds_while_another_plays(new_player):
    player = new_player(sessions=2, ring_bytes=1 << 16)
    begin(player, 2)
    said = []
    playing = threading.Thread(target=lambda: said.append(player.run(until_fed=False)))
    playing.start()
    for number in range(2_000):
        while not player.feed(0, number % 2 == 0, number, media(number), mark=True):
            time.sleep(0.001)
    player.finish()
    playing.join(timeout=30)
    assert said == ["done"]
    counters = player.counters()
    assert counters["up"]["delivered"] + counters["down"]["delivered"] == 2 * 2_001
    assert player.findings() == []


def test_a_hungry_player_has_played_what_it_was_given(new_player):
    player = new_player()
    begin(player)
    assert player.run(duration_ms=5_000) == "hungry"
    assert player.counters()["up"]["delivered"] == 1
    player.feed(0, False, 0, media(1))
    assert player.run(duration_ms=5_000) == "hungry"
    assert player.counters()["down"]["delivered"] == 1
    player.finish()
    assert player.run(duration_ms=5_000) == "done"
    assert player.counters()["sessions_done"] == 1


def test_patches_may_have_any_length_and_may_be_missing(new_player, relay):
    player = new_player(sessions=3)
    for session in range(3):
        player.assign(session, 0, 0)
    texts = [b"\x80 short", None, b"\x80 long" * 200]
    player.feed(0, True, 0, b"\x80 everybody's", texts)
    player.feed(0, False, 0, media(1), [None, media(2), None])
    player.finish()
    assert player.run(duration_ms=5_000) == "done"
    sent = [payload for upstream, payload in relay.passed if upstream]
    assert sorted(sent) == sorted([texts[0], b"\x80 everybody's", texts[2]])
    assert player.counters()["down"]["delivered"] == 3


def test_a_mark_leaves_short_ones_and_session_0_alone(new_player, relay):
    player = new_player(sessions=2)
    begin(player, 2)
    player.feed(0, True, 0, b"\x80 fifteen bytes", mark=True)
    player.feed(0, True, 0, b"\x80 sixteen bytes!", mark=True)
    player.finish()
    assert player.run(duration_ms=5_000) == "done"
    sent = [payload for _, payload in relay.passed if payload[0] == 0x80]
    assert sorted(sent) == sorted(
        [b"\x80 fifteen bytes"] * 2 + [b"\x80 sixteen bytes!", b"\x80 sixteen bytes "]
    )


# ---- ends of a run ----------------------------------------------------------------------------------


def test_stop_ends_a_run_of_another_thread(new_player):
    player = new_player()
    begin(player)
    said = []
    playing = threading.Thread(target=lambda: said.append(player.run(until_fed=False)))
    playing.start()
    time.sleep(0.05)
    player.stop()
    playing.join(timeout=10)
    assert said == ["stopped"]
    player.finish()
    assert player.run(duration_ms=5_000) == "done"


def test_a_run_of_no_time_plays_one_round(new_player):
    player = new_player()
    begin(player)
    assert player.run(until_fed=False, duration_ms=0) == "time"
    assert player.counters()["up"]["sent"] == 1


def test_what_the_kernel_refuses_is_said(end):
    """No route leads from a loopback address to a network that is not here."""
    player = Player(("203.0.113.1", 9), [end], sessions=1, speed=0)
    begin(player)
    with pytest.raises(OSError, match="the kernel refused a datagram"):
        player.run(duration_ms=2_000)
    player.close()


# ---- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(["sessions"], [0, 65_001]),
        *itertools.product(["speed"], [-1, float("nan"), 2e6]),
        *itertools.product(["sockets"], [0, 65]),
        *itertools.product(["window"], [0, 8193]),
        ("ring_bytes", 1000),
        ("give_up_ms", 0),
    ],
)
def test_what_is_out_of_range_is_refused(end, name, value):
    with pytest.raises(ValueError, match=f"{name} is .*choose"):
        Player(("127.0.0.1", 9), [end], **{"sessions": 1, "speed": 1} | {name: value})


def test_a_player_without_ends_is_refused():
    with pytest.raises(ValueError, match="ends is 0"):
        Player(("127.0.0.1", 9), [], sessions=1)


def test_assignments_that_cannot_be(new_player):
    player = new_player(sessions=3)
    begin(player)
    for session, call, which, why in (
        (3, 1, 0, "no such one"),
        (1, 65_536, 0, "no such one"),
        (1, 1, 1, "no such one"),
        (0, 1, 0, "session 0 plays call 0 already"),
        (1, 0, 0, "call 0 has begun"),
    ):
        with pytest.raises(ValueError, match=why):
            player.assign(session, call, which)


def test_datagrams_that_cannot_be(new_player):
    player = new_player(sessions=70, ring_bytes=1 << 16)
    for session in range(70):
        player.assign(session, 0, 0)
    big = bytes(2048)
    for call, payload, patches, mark, why in (
        (1, media(0), None, False, "call 1 has no session"),
        (0, b"", None, False, r"1\.\.2048 bytes"),
        (0, big + b"!", None, False, r"1\.\.2048 bytes"),
        (0, media(0), [b"", *[None] * 69], False, r"1\.\.2048 bytes"),
        (0, media(0), [None] * 69, False, "69 patches for the sessions of call 0: one for each of its 70"),
        (0, media(0), [None] * 70, True, "mark=False"),
        (0, media(0), [big] * 70, False, "half the ring"),
    ):
        with pytest.raises(ValueError, match=why):
            player.feed(call, True, 0, payload, patches, mark=mark)
    assert player.counters()["fed"] == 0
    player.finish()
    with pytest.raises(ValueError, match=r"after finish\(\)"):
        player.feed(0, True, 0, media(0))


def test_a_closed_player_says_so(end):
    player = Player(("127.0.0.1", 9), [end], sessions=1)
    player.close()
    player.close()
    for use in (player.run, player.finish, lambda: player.serve(1), lambda: player.feed(0, True, 0, b"x")):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert player.counters()["fed"] == 0
