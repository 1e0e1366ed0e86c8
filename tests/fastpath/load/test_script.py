"""The ring between who feeds a player and who plays: order, room, the links of a call, bytes that stay."""

import random
from collections import deque

import pytest
from fastpath._testing.playing import LINE_BYTES, Script, fingerprint, marked

RING = 4096


def length(random_):
    return LINE_BYTES + 8 * random_.randrange((RING // 2 - LINE_BYTES) // 8 + 1)


@pytest.mark.parametrize("seed", range(6))
def test_lines_come_in_order_and_stay_until_the_last_session_is_through(seed):
    random_ = random.Random(seed)
    script, fed, played = Script(RING), 0, 0
    waiting = deque()  # [line, times it is still wanted], a line is (address, index)
    last = {}  # call -> the line adopted last
    call_of = {}
    for _ in range(20_000):
        action = random_.random()
        if action < 0.4:
            call, left = random_.randrange(3), random_.randrange(1, 4)
            if script.feed(call, length(random_), fed, left):
                call_of[fed] = (call, left)
                fed += 1
        elif action < 0.7:
            line = script.adopt()
            assert (line is None) == (played == fed)
            if line is not None:
                assert line[1] == played
                call, left = call_of[played]
                if any(last.get(call) == other for other, _ in waiting):
                    assert script.following(last[call][0]) == line
                last[call] = line
                waiting.append([line, left])
                played += 1
        elif waiting:
            one = random_.choice(waiting)
            if one[1]:
                script.settle(one[0][0])
                one[1] -= 1
            script.release()
            while waiting and not waiting[0][1]:
                waiting.popleft()
    assert played > 500


def test_a_full_ring_takes_nothing_until_the_oldest_is_through():
    script = Script(RING)
    assert script.feed(0, RING // 2, 0, 1)
    assert script.feed(0, RING // 2, 1, 1)
    assert not script.feed(0, LINE_BYTES, 2, 1)
    first, second = script.adopt(), script.adopt()
    script.settle(second[0])
    script.release()
    assert not script.feed(0, LINE_BYTES, 2, 1), "the oldest one is still wanted"
    script.settle(first[0])
    script.release()
    assert script.used() == 0
    assert script.feed(0, LINE_BYTES, 2, 1)
    assert script.adopt()[1] == 2


def test_finished_is_said_when_everything_is_adopted():
    script = Script(RING)
    script.feed(0, LINE_BYTES, 0, 1)
    script.finish()
    assert not script.finished()
    script.adopt()
    assert script.finished()


def test_a_fingerprint_sees_every_byte_and_the_length():
    random_ = random.Random(1)
    for size in (1, 2, 3, 4, 7, 8, 9, 20, 172, 1200):
        data = random_.randbytes(size)
        changed = [
            data[:n] + bytes([data[n] ^ 1 << random_.randrange(8)]) + data[n + 1 :] for n in range(size)
        ]
        prints = {fingerprint(each) for each in [data, data + b"\0", *changed]}
        assert len(prints) == size + 2


def test_a_mark_is_the_session_number_over_the_last_four_bytes():
    data = bytes(range(20))
    assert marked(data, 0) == data
    assert marked(data, 0x01020304) == data[:16] + bytes([16 ^ 1, 17 ^ 2, 18 ^ 3, 19 ^ 4])
