"""ICE-lite by its stories: what a client does, what becomes of the path, what is dropped under which name."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import count
from random import Random
from typing import Any

import aioice
import pytest

from pyfastpath.transceiver import ice
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.ice import (
    ConsentExpired,
    Credentials,
    IceServer,
    PathAdded,
    PathRemoved,
    PathSelected,
)
from pyfastpath.transceiver.path import Path, client_of
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun

FIRST = Credentials("servufragservufragserv", "serverPassword01234567", "clnt", "clientPassword01234567")
SECOND = Credentials("othrufragothrufragothr", "serverPassword07654321", "cln2", "clientPassword07654321")
THIRD = Credentials("thrdufragthrdufragthrd", "serverPassword03333333", "cln3", "clientPassword03333333")


def path(port: int = 50000, *, relay_port: int | None = 7000, ingress: int = 0, host: int = 1) -> Path:
    client = (bytes([203, 0, 113, host]).ljust(16, b"\0"), port, 4)
    relay = None if relay_port is None else (bytes([10, 0, 0, 1]).ljust(16, b"\0"), relay_port, 4)
    return (relay, ingress, client)


HOME, AWAY, ELSEWHERE = path(), path(50001), path(50002)


NUMBERS = count(1)


class Client:
    """A full agent reduced to its messages; it says nothing of its own accord."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    def request(
        self,
        *,
        nominate: bool = False,
        pwd: str | None = None,
        ufrag: str | None = None,
        transaction: bytes | None = None,
        role: int = stun.Attribute.ICE_CONTROLLING,
        extra: tuple[tuple[int, bytes], ...] = (),
        signed: bool = True,
        fingerprint: bool = True,
    ) -> bytes:
        credentials = self.credentials
        attributes = [(stun.Attribute.PRIORITY, bytes(4)), (role, bytes(8)), *extra]
        if nominate:
            attributes.append((stun.Attribute.USE_CANDIDATE, b""))
        return stun.build_binding_request(
            transaction or next(NUMBERS).to_bytes(12, "big"),
            f"{ufrag or credentials.local_ufrag}:{credentials.remote_ufrag}".encode(),
            key=(pwd or credentials.local_pwd).encode() if signed else None,
            attributes=attributes,
            fingerprint=fingerprint,
        )

    def answer(self, check: bytes, at: Path, *, pwd: str | None = None) -> bytes:
        """To a check of the server's, as it came to the client."""
        key = (pwd or self.credentials.remote_pwd).encode()
        return stun.build_binding_success(check[8:20], client_of(at), key=key)


class Story:
    """An IceServer, its client, and a clock."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.server = IceServer(FIRST, entropy=Random(1).randbytes, drop=self.counters.drop)
        self.client = Client(FIRST)
        self.now = 100.0

    @property
    def dropped(self) -> dict[str, int]:
        return {reason: times for reason, times in self.counters.dropped.items() if times}

    def receive(self, datagram: bytes, at: Path = HOME) -> list[tuple[Path, bytes]]:
        self.server.receive(datagram, at, self.now)
        return self.server.datagrams_to_send()

    def events(self) -> list[object]:
        found = []
        while (event := self.server.next_event()) is not None:
            found.append(event)
        return found

    def ask(self, at: Path = HOME, *, nominate: bool = False, client: Client | None = None) -> bytes | None:
        """A valid request. Gives the server's check, if it sent one; its answer must be a success."""
        sent = self.receive((client or self.client).request(nominate=nominate), at)
        answer = stun.parse_message(sent[0][1])
        assert answer.type == stun.BINDING_SUCCESS
        return next((datagram for _, datagram in sent if kind_of(datagram) == stun.BINDING_REQUEST), None)

    def prove(self, at: Path = HOME, *, nominate: bool = True, client: Client | None = None) -> None:
        """A valid request, and the answer to the server's check."""
        check = self.ask(at, nominate=nominate, client=client)
        if check:
            assert self.receive((client or self.client).answer(check, at), at) == []

    def wait(self, seconds: float) -> list[tuple[float, Path, bytes]]:
        """Let time pass from timer to timer; what was sent, and after how many seconds."""
        start, sent = self.now, []
        end = start + seconds
        while (timer := self.server.get_timer()) is not None and timer <= end:
            self.now = timer
            self.server.handle_timer(timer)
            sent += [(timer - start, to, datagram) for to, datagram in self.server.datagrams_to_send()]
        self.now = end
        return sent


def kind_of(datagram: bytes) -> int:
    return stun.parse_message(datagram).type


@pytest.fixture
def story() -> Story:
    return Story()


# ---- answers ----------------------------------------------------------------------------------------


def test_a_request_is_answered_on_its_path_with_the_clients_address_and_our_signature(story: Story) -> None:
    (to, datagram), *_ = story.receive(story.client.request(transaction=b"transaction1"), HOME)
    message = stun.parse_message(datagram)
    assert to == HOME
    assert (message.type, message.transaction) == (stun.BINDING_SUCCESS, b"transaction1")
    assert stun.mapped_address(message) == Endpoint.parse("203.0.113.1:50000")
    assert message.has_fingerprint
    assert stun.integrity_holds(datagram, FIRST.local_pwd.encode())
    assert story.dropped == {}


def test_a_client_over_ipv6_learns_its_address(story: Story) -> None:
    at = (None, 0, (bytes(15) + b"\5", 443, 6))
    (_, datagram), *_ = story.receive(story.client.request(), at)
    assert stun.mapped_address(stun.parse_message(datagram)) == Endpoint.parse("[::5]:443")


def test_a_wrong_password_is_refused_unsigned_and_teaches_nothing(story: Story) -> None:
    [(to, datagram)] = story.receive(story.client.request(pwd="guess", nominate=True))
    message = stun.parse_message(datagram)
    assert (to, message.type, stun.error_code(message)) == (HOME, stun.BINDING_ERROR, 401)
    assert message.value(stun.Attribute.MESSAGE_INTEGRITY) is None
    assert story.dropped == {"stun_bad_integrity": 1}
    assert story.server.paths == ()
    assert story.events() == []


def test_a_wrong_ufrag_is_refused_unsigned(story: Story) -> None:
    [(_, datagram)] = story.receive(story.client.request(ufrag="nobodysufrag"))
    assert stun.error_code(stun.parse_message(datagram)) == 401
    assert story.dropped == {"stun_unknown_ufrag": 1}


def test_a_request_without_integrity_is_a_bad_one(story: Story) -> None:
    [(_, datagram)] = story.receive(story.client.request(signed=False))
    assert stun.error_code(stun.parse_message(datagram)) == 400
    assert story.dropped == {"stun_bad_integrity": 1}


def test_a_request_without_fingerprint_is_dropped_in_silence(story: Story) -> None:
    assert story.receive(story.client.request(fingerprint=False)) == []
    assert story.dropped == {"stun_bad_fingerprint": 1}


def test_a_request_with_a_wrong_fingerprint_is_dropped_in_silence(story: Story) -> None:
    request = bytearray(story.client.request())
    request[-1] ^= 1
    assert story.receive(bytes(request)) == []
    assert story.dropped == {"stun_bad_fingerprint": 1}


def test_a_client_that_claims_our_role_is_told_to_change_it(story: Story) -> None:
    [(_, datagram)] = story.receive(story.client.request(role=stun.Attribute.ICE_CONTROLLED, nominate=True))
    assert stun.error_code(stun.parse_message(datagram)) == 487
    assert stun.integrity_holds(datagram, FIRST.local_pwd.encode())
    assert story.dropped == {"stun_role_conflict": 1}
    assert story.server.paths == ()


def test_an_attribute_that_must_be_understood_and_is_not_is_named_in_the_refusal(story: Story) -> None:
    [(_, datagram)] = story.receive(story.client.request(extra=((0x7001, b"what"), (0xC057, b"fine"))))
    message = stun.parse_message(datagram)
    assert stun.error_code(message) == 420
    assert message.value(stun.Attribute.UNKNOWN_ATTRIBUTES) == bytes.fromhex("7001")
    assert stun.integrity_holds(datagram, FIRST.local_pwd.encode())
    assert story.dropped == {"stun_unknown_attribute": 1}


def test_what_browsers_add_is_ignored(story: Story) -> None:
    extra = ((0xC057, b"\0\0\0\1"), (0xC059, b"\0\0\0\0"), (0xC001, b"\0\0\0\1"))
    assert kind_of(story.receive(story.client.request(extra=extra))[0][1]) == stun.BINDING_SUCCESS


def test_an_indication_keeps_alive_and_is_not_answered(story: Story) -> None:
    assert story.receive(stun.build_message(stun.BINDING_INDICATION, bytes(12))) == []
    assert story.dropped == {}


def test_another_method_and_garbage_are_dropped_by_name(story: Story) -> None:
    assert story.receive(stun.build_message(0x0003, bytes(12))) == []
    assert story.receive(b"\0\1garbage") == []
    assert story.dropped == {"stun_unsupported": 1, "stun_malformed": 1}


def test_no_answer_is_larger_than_three_times_the_question(story: Story) -> None:
    requests = [
        story.client.request(nominate=True),
        story.client.request(pwd="guess"),
        story.client.request(ufrag="nobodysufrag"),
        story.client.request(signed=False),
        story.client.request(role=stun.Attribute.ICE_CONTROLLED),
        story.client.request(extra=tuple((0x7000 + n, b"") for n in range(20))),
    ]
    for number, request in enumerate(requests):
        at = path(60000 + number)
        sent = story.receive(request, at)
        sent += [(to, datagram) for _, to, datagram in story.wait(40)]
        assert 0 < sum(len(datagram) for to, datagram in sent if to == at) <= 3 * len(request)


# ---- which path -------------------------------------------------------------------------------------


def test_a_nominated_path_is_selected_once_it_has_answered_us(story: Story) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    assert story.server.selected is None
    assert not story.server.is_validated(HOME)
    story.receive(story.client.answer(check, HOME))
    assert story.server.selected == HOME
    assert story.server.is_validated(HOME)
    assert story.events() == [PathAdded(HOME), PathSelected(HOME, None)]
    assert story.dropped == {}


def test_our_check_is_one_that_a_client_must_answer(story: Story) -> None:
    check = story.ask()
    assert check is not None
    message = stun.parse_message(check)
    assert message.type == stun.BINDING_REQUEST
    name = f"{FIRST.remote_ufrag}:{FIRST.local_ufrag}".encode()
    assert message.value(stun.Attribute.USERNAME) == name
    assert stun.integrity_holds(check, FIRST.remote_pwd.encode())
    assert message.has_fingerprint
    assert len(message.value(stun.Attribute.ICE_CONTROLLED) or b"") == 8
    assert message.value(stun.Attribute.ICE_CONTROLLING) is None
    assert message.value(stun.Attribute.PRIORITY) == bytes.fromhex("6effffff")
    assert message.value(stun.Attribute.USE_CANDIDATE) is None


def test_a_path_is_held_by_a_client_that_proved_it_and_was_heard_lately(story: Story) -> None:
    assert not story.server.knows(HOME)
    check = story.ask(HOME)
    assert story.server.knows(HOME)
    assert not story.server.holds(HOME, story.now), "a request proves no address"
    assert check is not None
    story.receive(story.client.answer(check, HOME), HOME)
    assert story.server.holds(HOME, story.now)
    assert story.server.holds(path(relay_port=7001), story.now), "by whatever socket of the relay"
    story.wait(6.9)
    assert story.server.holds(HOME, story.now)
    story.wait(0.2)
    assert not story.server.holds(HOME, story.now)
    story.ask(HOME)
    assert story.server.holds(HOME, story.now)


def test_before_any_nomination_the_first_proven_path_serves(story: Story) -> None:
    story.prove(HOME, nominate=False)
    assert story.server.selected == HOME
    story.prove(AWAY, nominate=False)
    assert story.server.selected == HOME
    story.prove(AWAY, nominate=True)
    assert story.server.selected == AWAY


def test_an_unproven_nomination_keeps_no_proven_path_from_serving(story: Story) -> None:
    check = story.ask(HOME, nominate=True)
    assert check is not None
    story.prove(AWAY, nominate=False)
    assert story.server.selected == AWAY
    story.receive(story.client.answer(check, HOME), HOME)
    assert story.server.selected == HOME


def test_a_path_is_asked_once_however_often_it_asks(story: Story) -> None:
    assert story.ask(nominate=True)
    assert story.ask(nominate=True) is None
    story.prove(HOME)
    assert story.ask(nominate=True) is None


def test_a_nomination_alone_moves_nothing(story: Story) -> None:
    """The session's owner nominates an address that is not his: it gets an answer and checks, never media."""
    story.prove(HOME)
    story.ask(AWAY, nominate=True)
    for _ in range(20):
        story.now += 1
        story.ask(AWAY, nominate=True)
        assert story.server.selected == HOME
    assert not story.server.is_validated(AWAY)


def test_media_follows_to_a_new_path_that_answered(story: Story) -> None:
    story.prove(HOME)
    story.events()
    check = story.ask(AWAY, nominate=True)
    assert check is not None
    assert story.server.selected == HOME
    story.receive(story.client.answer(check, AWAY), AWAY)
    assert story.server.selected == AWAY
    assert story.events() == [PathAdded(AWAY), PathSelected(AWAY, HOME)]


def test_a_plain_check_from_elsewhere_does_not_move_the_call(story: Story) -> None:
    story.prove(HOME)
    story.prove(AWAY, nominate=False)
    assert story.server.is_validated(AWAY)
    assert story.server.selected == HOME


def test_a_client_that_moved_without_knowing_is_followed(story: Story) -> None:
    """Its NAT gave it another address: checks for consent alone nominate nothing (RFC 7675)."""
    story.prove(HOME)
    story.events()
    story.now += 5
    check = story.ask(AWAY)
    assert check is not None
    assert story.server.selected == HOME
    story.receive(story.client.answer(check, AWAY), AWAY)
    assert story.server.selected == AWAY
    assert story.events() == [PathAdded(AWAY), PathSelected(AWAY, HOME)]


def test_while_the_path_in_use_is_heard_only_a_nomination_moves_the_call(story: Story) -> None:
    story.prove(HOME)
    for _ in range(10):
        story.now += 2.5
        story.ask(HOME)
        story.now += 0.5
        story.prove(AWAY, nominate=False)
    assert story.server.is_validated(AWAY)
    assert story.server.selected == HOME


def test_a_check_from_elsewhere_moves_nothing_before_it_is_proven_however_silent_the_path_is(
    story: Story,
) -> None:
    story.prove(HOME)
    story.now += 5
    for _ in range(5):
        story.ask(AWAY)
        story.now += 1
    assert story.server.selected == HOME
    story.ask(HOME, nominate=True)
    assert story.server.selected == HOME


def test_the_call_comes_back_to_a_path_proven_lately_at_once(story: Story) -> None:
    story.prove(HOME)
    story.prove(AWAY)
    assert story.ask(HOME, nominate=True) is None
    assert story.server.selected == HOME


def test_a_nomination_taken_back_before_the_proof_changes_nothing(story: Story) -> None:
    story.prove(HOME)
    check = story.ask(AWAY, nominate=True)
    assert check is not None
    story.ask(HOME, nominate=True)
    story.receive(story.client.answer(check, AWAY), AWAY)
    assert story.server.selected == HOME


def test_an_old_proof_does_not_last(story: Story) -> None:
    """An address left behind may have another owner: spoofing a nomination from it must not pay."""
    story.prove(HOME)
    story.now += 3600
    story.prove(AWAY)
    assert not story.server.is_validated(HOME)
    assert story.ask(HOME, nominate=True) is not None
    assert story.server.selected == AWAY


def test_an_old_proof_does_not_last_if_the_timer_is_late_either(story: Story) -> None:
    story.prove(HOME)
    story.prove(AWAY, nominate=False)
    story.now += 31
    assert story.ask(AWAY, nominate=True) is not None
    assert story.server.selected == HOME


def test_a_proof_ages_while_the_path_is_not_in_use(story: Story) -> None:
    story.prove(HOME)
    story.prove(AWAY, nominate=False)
    for _ in range(4):
        story.wait(10)
        story.ask(HOME, nominate=True)
    assert story.server.is_validated(HOME)
    assert not story.server.is_validated(AWAY)


# ---- who is believed --------------------------------------------------------------------------------


def test_a_replayed_request_from_another_path_is_ignored(story: Story) -> None:
    """An eavesdropper resends the client's own nomination from his address."""
    request = story.client.request(nominate=True)
    story.receive(request, HOME)
    assert story.receive(request, AWAY) == []
    assert story.dropped == {"stun_replayed_transaction": 1}
    assert story.server.paths == (HOME,)


def test_a_request_retransmitted_on_its_own_path_is_answered_again(story: Story) -> None:
    request = story.client.request()
    first, *_ = story.receive(request)
    assert story.receive(request) == [first]
    assert story.dropped == {}


def test_a_transaction_is_remembered_for_60_s(story: Story) -> None:
    request = story.client.request()
    story.receive(request, HOME)
    story.now += 59.9
    assert story.receive(request, AWAY) == []
    story.now += 0.1
    assert story.receive(request, AWAY)


def test_transactions_that_are_remembered_have_a_bound(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice, "TRANSACTIONS_MAX", 4)
    requests = [story.client.request() for _ in range(5)]
    for request in requests:
        story.receive(request, HOME)
    assert story.receive(requests[4], AWAY) == []
    assert story.receive(requests[0], AWAY)


def test_a_stranger_fills_no_memory(story: Story) -> None:
    """Of requests that do not prove the password neither path nor transaction is remembered."""
    for number in range(1000):
        story.receive(story.client.request(pwd="guess"), path(number))
    assert story.server.paths == ()
    assert story.server.get_timer() is None
    request = story.client.request(pwd="guess", transaction=b"transaction1")
    story.receive(request, HOME)
    assert story.ask(AWAY)


def test_an_answer_from_the_wrong_path_is_not_believed(story: Story) -> None:
    """The owner answers, from his own address, the check that went to another."""
    story.prove(HOME)
    check = story.ask(AWAY, nominate=True)
    assert check is not None
    story.receive(story.client.answer(check, AWAY), HOME)
    story.receive(story.client.answer(check, AWAY), ELSEWHERE)
    assert not story.server.is_validated(AWAY)
    assert story.server.selected == HOME
    assert story.dropped == {"stun_unexpected_response": 2}
    story.receive(story.client.answer(check, AWAY), AWAY)
    assert story.server.selected == AWAY


@pytest.mark.parametrize("pwd", [FIRST.local_pwd, "guess"])
def test_an_answer_with_a_wrong_signature_is_not_believed(story: Story, pwd: str) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    story.receive(story.client.answer(check, HOME, pwd=pwd))
    assert story.server.selected is None
    assert story.dropped == {"stun_bad_response": 1}
    story.receive(story.client.answer(check, HOME))
    assert story.server.selected == HOME


def test_an_answer_without_signature_is_not_believed(story: Story) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    story.receive(stun.build_binding_success(check[8:20], client_of(HOME)))
    assert story.server.selected is None
    assert story.dropped == {"stun_bad_response": 1}


def test_an_answer_to_nothing_is_dropped(story: Story) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    story.receive(stun.build_binding_success(bytes(12), client_of(HOME), key=FIRST.remote_pwd.encode()))
    story.receive(story.client.answer(check, HOME))
    story.receive(story.client.answer(check, HOME))  # a second time
    assert story.dropped == {"stun_unexpected_response": 2}


def test_a_check_that_is_refused_ends_and_the_next_request_starts_another(story: Story) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    refusal = stun.build_binding_error(check[8:20], 487, "Role Conflict", key=FIRST.remote_pwd.encode())
    story.receive(refusal)
    assert story.dropped == {"stun_bad_response": 1}
    assert story.server.selected is None
    story.prove(HOME)
    assert story.server.selected == HOME


def test_an_unsigned_refusal_stops_no_check(story: Story) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    story.receive(stun.build_binding_error(check[8:20], 401, "Unauthenticated"))
    story.receive(story.client.answer(check, HOME))
    assert story.server.selected == HOME


# ---- time -------------------------------------------------------------------------------------------


def test_a_check_is_repeated_until_it_ends(story: Story) -> None:
    """The client keeps asking, so that its bytes pay for ours."""
    check = story.ask(nominate=True)
    sent = []
    for number in range(60):
        story.ask(nominate=True)
        sent += [(number / 2 + after, datagram) for after, _, datagram in story.wait(0.5)]
        if sent and sent[-1][0] > 15:
            break
    assert [after for after, _ in sent] == [0.25, 0.75, 1.75, 3.75, 7.75, 15.75]
    assert {datagram for _, datagram in sent} == {check}
    story.wait(4.1)
    again = story.ask(nominate=True)
    assert again is not None
    assert again != check


def test_a_lost_check_costs_a_retransmission(story: Story) -> None:
    story.ask(nominate=True)
    story.ask(nominate=True)
    [(after, to, datagram)] = story.wait(0.3)
    assert (after, to) == (0.25, HOME)
    story.receive(story.client.answer(datagram, HOME))
    assert story.server.selected == HOME


def test_consent_expires_30_s_after_the_last_request(story: Story) -> None:
    story.prove(HOME)
    story.wait(20)
    story.ask(HOME)
    story.events()
    story.wait(29.9)
    assert story.server.selected == HOME
    assert story.events() == []
    story.wait(0.2)
    assert story.server.selected is None
    assert story.events() == [ConsentExpired()]
    assert story.server.get_timer() is None


def test_an_answer_renews_consent_too(story: Story) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    story.wait(10)
    story.receive(story.client.answer(check, HOME))
    story.wait(29.9)
    assert story.server.selected == HOME
    story.wait(0.2)
    assert story.server.selected is None


def test_neither_strangers_nor_other_paths_renew_consent(story: Story) -> None:
    story.prove(HOME)
    for _ in range(3):
        story.wait(8)
        story.receive(story.client.request(pwd="guess"), HOME)
        story.ask(AWAY)
        story.receive(stun.build_message(stun.BINDING_INDICATION, bytes(12)), HOME)
    story.wait(6.1)
    assert ConsentExpired() in story.events()


def test_after_consent_expired_nothing_is_answered(story: Story) -> None:
    story.prove(HOME)
    story.wait(31)
    assert story.receive(story.client.request(nominate=True)) == []
    assert story.dropped == {"session_over": 1}
    story.server.handle_timer(story.now)
    assert story.events().count(ConsentExpired()) == 1


def test_a_silent_path_is_forgotten(story: Story) -> None:
    story.prove(HOME)
    story.ask(AWAY)
    story.events()
    for _ in range(4):
        story.wait(15.1)
        story.ask(HOME)
    assert story.server.paths == (HOME,)
    assert story.events() == [PathRemoved(AWAY)]


def test_a_nominated_path_that_never_answers_is_forgotten_too(story: Story) -> None:
    story.prove(HOME)
    story.ask(AWAY, nominate=True)
    for _ in range(4):
        story.wait(15.1)
        story.ask(HOME)
    assert story.server.paths == (HOME,)
    assert story.server.selected == HOME
    story.prove(ELSEWHERE)
    assert story.server.selected == ELSEWHERE


# ---- bounds -----------------------------------------------------------------------------------------


def test_sixteen_paths_are_remembered_and_the_one_in_use_always(story: Story) -> None:
    story.prove(HOME)
    for number in range(100):
        story.now += 0.01
        story.ask(path(51000 + number))
    assert len(story.server.paths) == ice.PATHS_MAX
    assert HOME in story.server.paths
    assert path(51099) in story.server.paths
    assert path(51000) not in story.server.paths
    assert story.server.selected == HOME
    events = Counter(type(event) for event in story.events())
    assert events == {PathAdded: 101, PathRemoved: 85, PathSelected: 1}


def test_a_path_about_to_carry_the_call_is_not_forgotten_for_others(story: Story) -> None:
    story.prove(HOME)
    check = story.ask(AWAY, nominate=True)
    assert check is not None
    for number in range(100):
        story.now += 0.01
        story.ask(path(51000 + number))
    story.receive(story.client.answer(check, AWAY), AWAY)
    assert story.server.selected == AWAY


# ---- relay sockets ----------------------------------------------------------------------------------


def test_within_a_path_the_newest_relay_socket_is_followed(story: Story) -> None:
    story.prove(HOME)
    story.events()
    moved = path(relay_port=7001)
    assert story.ask(moved) is None
    assert story.server.selected == moved
    assert story.server.is_validated(moved)
    assert story.server.paths == (moved,)
    assert story.events() == [PathRemoved(HOME), PathAdded(moved)]


def test_media_by_another_relay_socket_is_followed_when_the_session_says_so(story: Story) -> None:
    story.prove(HOME)
    story.server.follow(path(relay_port=7001))
    assert story.server.selected == path(relay_port=7001)
    story.server.follow(AWAY)  # not a path of ours: nothing to follow
    assert story.server.selected == path(relay_port=7001)


def test_our_check_may_be_answered_through_another_relay_socket(story: Story) -> None:
    check = story.ask(nominate=True)
    assert check is not None
    moved = path(relay_port=7001)
    story.receive(story.client.answer(check, moved), moved)
    assert story.server.selected == moved


def test_a_transaction_may_come_again_through_another_relay_socket(story: Story) -> None:
    request = story.client.request()
    story.receive(request, HOME)
    assert story.receive(request, path(relay_port=7001))
    assert story.dropped == {}


def test_another_relay_or_ingress_is_another_path(story: Story) -> None:
    story.prove(HOME)
    for other in (path(ingress=1), path(relay_port=None)):
        assert not story.server.is_validated(other)
        assert story.ask(other, nominate=True) is not None
        assert story.server.selected == HOME


# ---- ICE restart ------------------------------------------------------------------------------------


def test_after_a_restart_both_generations_are_answered(story: Story) -> None:
    story.prove(HOME)
    story.server.restart(SECOND)
    assert story.server.owns(FIRST.local_ufrag)
    assert story.server.owns(SECOND.local_ufrag)
    assert not story.server.owns(THIRD.local_ufrag)
    story.ask(HOME)
    story.ask(AWAY, client=Client(SECOND))
    assert story.server.selected == HOME


def test_the_new_generation_takes_over_when_it_nominates(story: Story) -> None:
    story.prove(HOME)
    story.server.restart(SECOND)
    restarted = Client(SECOND)
    check = story.ask(AWAY, nominate=True, client=restarted)
    assert check is not None
    assert stun.parse_message(check).value(stun.Attribute.USERNAME) == b"cln2:othrufragothrufragothr"
    story.receive(story.client.answer(check, AWAY), AWAY)  # with the old password
    assert story.server.selected == HOME
    story.receive(restarted.answer(check, AWAY), AWAY)
    assert story.server.selected == AWAY


def test_the_old_generation_ends_10_s_after_the_new_one_nominated(story: Story) -> None:
    story.prove(HOME)
    story.server.restart(SECOND)
    story.wait(20)
    assert story.server.owns(FIRST.local_ufrag)
    story.prove(AWAY, client=Client(SECOND))
    story.wait(9.9)
    story.ask(HOME)
    story.wait(0.2)
    assert not story.server.owns(FIRST.local_ufrag)
    [(_, datagram)] = story.receive(story.client.request())
    assert stun.error_code(stun.parse_message(datagram)) == 401
    assert story.dropped == {"stun_unknown_ufrag": 1}


def test_a_late_nomination_of_the_old_generation_moves_nothing(story: Story) -> None:
    story.prove(HOME)
    story.server.restart(SECOND)
    story.prove(AWAY, client=Client(SECOND))
    story.ask(HOME, nominate=True)
    assert story.server.selected == AWAY


def test_a_restart_on_the_same_path_needs_no_new_proof(story: Story) -> None:
    story.prove(HOME)
    story.server.restart(SECOND)
    assert story.ask(HOME, nominate=True, client=Client(SECOND)) is None
    assert story.server.selected == HOME


def test_a_check_under_way_is_made_anew_with_the_new_credentials(story: Story) -> None:
    story.prove(HOME)
    story.ask(AWAY, nominate=True)
    story.server.restart(SECOND)
    restarted = Client(SECOND)
    check = story.ask(AWAY, nominate=True, client=restarted)
    assert check is not None
    story.receive(restarted.answer(check, AWAY), AWAY)
    assert story.server.selected == AWAY


def test_a_restart_that_came_to_nothing_is_replaced_by_the_next(story: Story) -> None:
    story.prove(HOME)
    story.server.restart(SECOND)
    story.ask(AWAY, client=Client(SECOND))
    story.server.restart(THIRD)
    assert [story.server.owns(c.local_ufrag) for c in (FIRST, SECOND, THIRD)] == [True, False, True]
    assert story.wait(1) == []  # the check with SECOND's credentials has ended
    assert story.ask(AWAY, client=Client(THIRD))


def test_a_restart_after_a_restart_keeps_the_one_in_force(story: Story) -> None:
    story.prove(HOME)
    story.server.restart(SECOND)
    story.prove(AWAY, client=Client(SECOND))
    story.server.restart(THIRD)
    assert [story.server.owns(c.local_ufrag) for c in (FIRST, SECOND, THIRD)] == [False, True, True]
    story.prove(ELSEWHERE, client=Client(THIRD))
    assert story.server.selected == ELSEWHERE


# ---- everything is used or dropped ------------------------------------------------------------------


def test_ten_thousand_random_messages_leave_it_sane(story: Story) -> None:
    """Bent requests and answers from many addresses: no exception, bounded memory, the call unmoved."""
    story.prove(HOME)
    random = Random(7)
    for number in range(10_000):
        datagram = bytearray(story.client.request(nominate=True) if number % 2 else random.randbytes(60))
        for _ in range(random.randrange(1, 4)):
            datagram[random.randrange(len(datagram))] = random.randrange(256)
        story.receive(bytes(datagram), path(random.randrange(1000)))
    assert story.server.selected == HOME
    assert len(story.server.paths) <= ice.PATHS_MAX
    assert sum(story.dropped.values()) >= 9_900


# ---- a real client ----------------------------------------------------------------------------------


class Shell(asyncio.DatagramProtocol):
    """The least socket around an IceServer, for a client that sends to it directly."""

    def __init__(self, server: IceServer) -> None:
        self.server = server
        self.payloads: list[bytes] = []
        self.heard = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.heard.set()
        if data[0] > 3:
            self.payloads.append(data)
            return
        client = Endpoint.parse(f"{address[0]}:{address[1]}")
        at = (None, 0, (client.address16, client.port, client.family))
        self.server.receive(data, at, asyncio.get_running_loop().time())
        self.flush()

    def flush(self) -> None:
        for to, datagram in self.server.datagrams_to_send():
            client = client_of(to)
            self.transport.sendto(datagram, (str(client.address), client.port))
        if self._timer:
            self._timer.cancel()
        if (due := self.server.get_timer()) is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self.tick)

    def tick(self) -> None:
        self.server.handle_timer(asyncio.get_running_loop().time())
        self.flush()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self.transport.close()


@pytest.fixture
async def shell(story: Story) -> AsyncIterator[Shell]:
    loop = asyncio.get_running_loop()
    _, shell = await loop.create_datagram_endpoint(lambda: Shell(story.server), ("127.0.0.1", 0))
    yield shell
    shell.close()


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda **_: ["127.0.0.1"])


async def aioice_client(shell: Shell, *, controlling: bool = True) -> aioice.Connection:
    client = aioice.Connection(
        ice_controlling=controlling, local_username=FIRST.remote_ufrag, local_password=FIRST.remote_pwd
    )
    client.remote_is_lite = True
    client.remote_username, client.remote_password = FIRST.local_ufrag, FIRST.local_pwd
    await client.gather_candidates()
    port = shell.transport.get_extra_info("sockname")[1]
    await client.add_remote_candidate(aioice.Candidate("1", 1, "udp", 1, "127.0.0.1", port, "host"))
    await client.add_remote_candidate(None)
    return client


async def until(shell: Shell, condition: Callable[[], object]) -> None:
    """Looks after each datagram. The test's own timeout ends it if it never comes."""
    while not condition():
        shell.heard.clear()
        await shell.heard.wait()


async def test_aioice_connects_answers_our_check_and_exchanges_data(
    story: Story, shell: Shell, on_loopback: None
) -> None:
    client = await aioice_client(shell)
    await client.connect()
    await until(shell, lambda: story.server.selected)
    selected = story.server.selected
    assert selected is not None
    assert client_of(selected).port == client.local_candidates[0].port
    shell.transport.sendto(b"to the client", (str(client_of(selected).address), client_of(selected).port))
    assert await client.recv() == b"to the client"
    await client.send(b"to the server")
    await until(shell, lambda: shell.payloads)
    assert story.dropped == {}
    await client.close()


async def test_aioice_that_begins_in_our_role_is_put_right(
    story: Story, shell: Shell, on_loopback: None
) -> None:
    client = await aioice_client(shell, controlling=False)
    await client.connect()
    await until(shell, lambda: story.server.selected)
    assert client.ice_controlling
    assert set(story.dropped) == {"stun_role_conflict"}
    await client.close()
