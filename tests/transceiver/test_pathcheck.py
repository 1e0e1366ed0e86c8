"""One path: every state with every input, when it is asked again, how much an unproven address may get."""

from itertools import product

import pytest

from pyfastpath.transceiver.pathcheck import (
    AMPLIFICATION_MAX,
    LAST_WAIT_S,
    PROOF_S,
    TRANSITIONS,
    TRANSMISSIONS_MAX,
    Check,
    PathCheck,
    PathInput,
    PathState,
)

CLIENT = (bytes([192, 0, 2, 1]).ljust(16, b"\0"), 50000, 4)
RELAY = (bytes([10, 0, 0, 1]).ljust(16, b"\0"), 7000, 4)
PATH = (RELAY, 3, CLIENT)
DATAGRAM = bytes(100)


def check(generation: int = 0) -> Check:
    return Check(generation, bytes(12), b"key", DATAGRAM)


def path_in(state: PathState) -> PathCheck:
    """A path that came into this state by its own means, at second 0."""
    path = PathCheck(PATH, 0.0)
    path.heard(len(DATAGRAM), 0.0)
    if state is not PathState.UNPROVEN:
        assert path.needs_check(0)
        path.begin(check(), 0.0)
    if state is PathState.VALID:
        path.answered(0.0)
    assert path.state is state
    return path


ACTIONS = {
    PathInput.REQUEST: lambda path: path.needs_check(0),
    PathInput.ANSWER: lambda path: path.answered(PROOF_S),
    PathInput.GIVES_UP: lambda path: path.give_up(),
    PathInput.STALE: lambda path: path.age(PROOF_S),
}


@pytest.mark.parametrize(("state", "what"), [*product(PathState, PathInput)])
def test_each_state_with_each_input_is_as_the_table_says(state: PathState, what: PathInput) -> None:
    path = path_in(state)
    if (state, what) in TRANSITIONS:
        ACTIONS[what](path)
        assert path.state is TRANSITIONS[state, what]
    elif what is PathInput.STALE:  # asked of every path, at any time
        ACTIONS[what](path)
        assert path.state is state
    else:
        with pytest.raises(KeyError):
            ACTIONS[what](path)


def test_every_state_is_reached_and_left() -> None:
    for state in PathState:
        assert any(after is state for (before, _), after in TRANSITIONS.items() if before is not state)
        assert any(before is state and after is not state for (before, _), after in TRANSITIONS.items())


def test_a_valid_path_is_not_asked_and_a_checking_one_not_twice() -> None:
    assert path_in(PathState.UNPROVEN).needs_check(0)
    assert not path_in(PathState.CHECKING).needs_check(0)
    assert not path_in(PathState.VALID).needs_check(0)
    assert path_in(PathState.CHECKING).needs_check(1)  # newer credentials
    assert not path_in(PathState.VALID).needs_check(1)


def test_retransmissions_double_and_end() -> None:
    path = PathCheck(PATH, 0.0)
    path.heard(100 * len(DATAGRAM), 0.0)
    path.needs_check(0)
    assert path.begin(check(), 0.0) == DATAGRAM
    sent_at = [0.0]
    while path.check:
        now = path.get_timer(in_use=False)
        assert path.handle_timer(now - 0.001) is None
        if path.handle_timer(now):
            sent_at.append(now)
    assert sent_at == [0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75]
    assert len(sent_at) == TRANSMISSIONS_MAX
    assert now == sent_at[-1] + LAST_WAIT_S
    assert path.state is PathState.UNPROVEN


def test_an_unproven_address_gets_no_more_than_three_times_its_bytes() -> None:
    path = PathCheck(PATH, 0.0)
    path.heard(90, 0.0)
    path.sent(60)  # our answer
    path.needs_check(0)
    sent = 60
    datagram = path.begin(check(), 0.0)
    while path.check:
        sent += len(datagram or b"")
        datagram = path.handle_timer(path.get_timer(in_use=False))
    assert 60 < sent <= AMPLIFICATION_MAX * 90


def test_more_bytes_from_it_allow_more_to_it() -> None:
    path = PathCheck(PATH, 0.0)
    path.heard(30, 0.0)
    path.needs_check(0)
    assert path.begin(check(), 0.0) is None
    path.heard(30, 0.1)
    assert path.handle_timer(path.get_timer(in_use=False)) == DATAGRAM


def test_a_path_out_of_use_must_prove_itself_again_after_30_s() -> None:
    path = path_in(PathState.VALID)
    assert path.get_timer(in_use=False) == PROOF_S
    assert path.get_timer(in_use=True) > 1e9
    path.age(PROOF_S - 0.001)
    assert path.state is PathState.VALID
    path.age(PROOF_S)
    assert path.state is PathState.UNPROVEN
    assert path.needs_check(0)
    assert path.begin(check(), PROOF_S) is None  # and its bytes of long ago do not count
