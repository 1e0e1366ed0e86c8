"""The tables: where a conversation can stand and what leads on."""

from __future__ import annotations

import itertools

from pyfastpath.transceiver.realtime.states import RESPONSE, USER, Happening, Response, Turn, User


def reachable(table, start):
    found = {start}
    while new := {after for state in found for after in table[state].values()} - found:
        found |= new
    return found


def test_every_state_can_be_reached_and_left():
    for table, start in ((USER, User.SILENT), (RESPONSE, Response.IDLE)):
        assert reachable(table, start) == set(table)
        for state in table:
            assert start in reachable(table, state), state


def test_every_happening_is_of_use():
    used = {what for table in (USER, RESPONSE) for steps in table.values() for what in steps}
    assert used == set(Happening)


def test_a_response_that_is_cut_ends_only_when_it_is_known_what_was_heard():
    for state in (Response.THINKING, Response.PLAYING, Response.ENDING):
        assert RESPONSE[state][Happening.CUT] is Response.CUT
    assert RESPONSE[Response.CUT] == {Happening.CLEARED: Response.IDLE}


def test_user_and_response_do_not_wait_for_each_other():
    turn = Turn()
    assert turn.happen(Happening.RESPOND)
    assert turn.happen(Happening.SPEECH_STARTED)
    assert turn.happen(Happening.SOUND)
    assert (turn.user, turn.response) == (User.SPEAKING, Response.PLAYING)


def test_what_cannot_happen_changes_nothing():
    for history in itertools.product(Happening, repeat=3):
        turn = Turn()
        for happening in history:
            before = (turn.user, turn.response)
            if not turn.happen(happening):
                assert (turn.user, turn.response) == before
