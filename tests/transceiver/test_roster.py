"""The roster: a call's names come and go together, and no name has two calls."""

import pytest

from pyfastpath.transceiver.path import identity_of
from pyfastpath.transceiver.requests import SessionError
from pyfastpath.transceiver.roster import Roster

RELAY = (bytes(16), 7000, 4)


def path(port: int, relay=RELAY):
    return (relay, 0, (bytes(16), port, 4))


@pytest.fixture
def roster() -> Roster[str]:
    roster: Roster[str] = Roster()
    roster.add(1, "first", "alice")
    roster.add(2, "second", "bob")
    return roster


def test_a_call_is_found_by_each_of_its_names(roster):
    roster.learn(path(1), "alice")
    assert (
        roster.get(1)
        == roster.of_sid(1)
        == roster.of_ufrag("first")
        == roster.by_identity[identity_of(path(1))]
        == "alice"
    )
    assert len(roster) == 2
    assert "alice" in roster


def test_an_unknown_ufrag_is_nobodys_and_an_unknown_sid_an_error(roster):
    assert roster.of_ufrag("third") is None
    assert roster.get(3) is None
    with pytest.raises(SessionError, match="no session 000000003") as caught:
        roster.of_sid(3)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(("sid", "ufrag"), [(1, "third"), (3, "first")])
def test_a_name_is_never_given_twice(roster, sid, ufrag):
    with pytest.raises(SessionError) as caught:
        roster.add(sid, ufrag, "carol")
    assert caught.value.code == "conflict"
    assert len(roster) == 2
    assert "carol" not in roster


def test_an_ice_restart_adds_a_name(roster):
    roster.add_ufrag("again", "alice")
    assert roster.of_ufrag("first") == roster.of_ufrag("again") == "alice"
    with pytest.raises(SessionError):
        roster.add_ufrag("again", "bob")


def test_a_path_belongs_to_whoever_proved_its_password_last(roster):
    roster.learn(path(1), "alice")
    roster.learn(path(1), "bob")
    assert roster.by_identity[identity_of(path(1))] == "bob"
    roster.forget(path(1), "alice")  # alice's is gone already: bob keeps it
    assert roster.by_identity[identity_of(path(1))] == "bob"
    assert roster.remove("alice") == []
    assert roster.remove("bob") == [path(1)]
    assert roster.by_identity == {}


def test_nothing_is_left_of_a_call_that_ended(roster):
    roster.add_ufrag("again", "alice")
    roster.learn(path(1), "alice")
    roster.learn(path(2), "alice")
    assert roster.remove("alice") == [path(1), path(2)]
    assert roster.of_ufrag("first") is roster.of_ufrag("again") is None
    assert list(roster) == ["bob"]
    assert roster.by_identity == {}
    roster.add(1, "first", "alice")  # the names are free again


def test_another_socket_of_the_same_relay_is_the_same_path(roster):
    roster.learn(path(1), "alice")
    other = path(1, (bytes(16), 7001, 4))
    assert roster.by_identity[identity_of(other)] == "alice"
    roster.learn(other, "alice")
    assert roster.remove("alice") == [other]


def test_names_that_are_no_longer_answered_to_go(roster):
    roster.add_ufrag("again", "alice")
    roster.keep_ufrags("alice", lambda ufrag: ufrag == "again")
    assert roster.of_ufrag("first") is None
    assert roster.of_ufrag("again") == "alice"
    assert roster.of_ufrag("second") == "bob"
    roster.remove("alice")
    assert roster.of_ufrag("again") is None
