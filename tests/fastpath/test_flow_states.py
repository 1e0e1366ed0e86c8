"""Stories of single flows, told to the data plane and to its slow twin at once: each verdict is named here,
and the pair demands that both say it."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from pyfastpath.relay.flowstates import Client, Verdict
from pyfastpath.relay.rules import Backend
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun, token
from tests.model.pair import WALL_S, Pair

KEY = bytes(range(16))
MEDIA = b"\x80" + bytes(99)
DTLS = b"\x16\xfe\xfd" + bytes(99)
TRUNK_0, TRUNK_1, PLAIN_2 = 0, 1, 2
PLAIN_ADDRESS = Endpoint.parse("192.0.2.3:5000")
ALICE = Client(Endpoint.parse("198.51.100.1:1000"), 0)
BOB = Client(Endpoint.parse("[2001:db8::2]:2000"), 0)


def transactions() -> Iterator[bytes]:
    for number in range(1, 1 << 16):
        yield number.to_bytes(12, "big")


class Story(Pair):
    """A pair with words for what clients and backends do."""

    def __init__(self, shards: int = 1, *, ports: int = 10, flows_max: int = 100) -> None:
        super().__init__(shards, ports=ports, flows_max=flows_max)
        self.fresh = transactions()
        self.backend(TRUNK_0, Backend(Endpoint.parse("192.0.2.1:5000"), "trunk", identity=(1, 1, 1)))
        self.backend(TRUNK_1, Backend(Endpoint.parse("192.0.2.2:5000"), "trunk", identity=(1, 2, 1)))
        self.backend(PLAIN_2, Backend(PLAIN_ADDRESS, "plain"))
        self.route("alice", TRUNK_0)
        self.route("bobs", TRUNK_1)
        self.route("plain", PLAIN_2)
        self.publish(token_keys={0: KEY})

    def check(self, client: Client, ufrag: str, transaction: bytes | None = None, shard: int = 0) -> Verdict:
        """A Binding Request."""
        transaction = transaction or next(self.fresh)
        datagram = stun.build_binding_request(transaction, f"{ufrag}:client".encode(), key=b"password")
        return self.from_client(shard, client, datagram)

    def answer(self, backend: int, client: Client, transaction: bytes, shard: int = 0) -> Verdict:
        """A success response through the trunk."""
        return self.from_trunk(shard, backend, client, success(transaction))

    def connect(self, client: Client, ufrag: str, backend: int, shard: int = 0) -> None:
        """A confirmed flow through the trunk."""
        transaction = next(self.fresh)
        assert forwarded(self.check(client, ufrag, transaction, shard), backend)
        assert self.answer(backend, client, transaction, shard).confirmed
        assert forwarded(self.from_client(shard, client, MEDIA), backend)

    def connect_plain(self, client: Client, ufrag: str = "plain", shard: int = 0) -> int:
        """A confirmed flow in plain mode; gives its upstream port."""
        transaction = next(self.fresh)
        port = self.check(client, ufrag, transaction, shard).port
        assert port is not None
        assert self.from_plain(shard, port, PLAIN_ADDRESS, success(transaction)).confirmed
        return port


def success(transaction: bytes) -> bytes:
    return stun.build_binding_success(transaction, ALICE.endpoint, key=b"password")


def forwarded(verdict: Verdict, backend: int) -> bool:
    return verdict.action == "forward" and verdict.backend == backend


@pytest.fixture
def story() -> Story:
    return Story()


# ---- from nothing to confirmed ----------------------------------------


def test_only_stun_passes_until_the_backend_has_answered(story: Story) -> None:
    transaction = next(story.fresh)
    assert story.from_client(0, ALICE, MEDIA).reason == "unknown_flow"
    first = story.check(ALICE, "alice", transaction)
    assert (first.decision, first.backend, first.overrode) == ("session_route", TRUNK_0, False)
    assert story.from_client(0, ALICE, MEDIA).reason == "provisional"
    assert story.from_client(0, ALICE, DTLS).reason == "provisional"
    assert story.from_trunk(0, TRUNK_0, ALICE, MEDIA).reason == "provisional"
    answer = story.answer(TRUNK_0, ALICE, transaction)
    assert answer.confirmed
    assert answer.client == ALICE
    for datagram in (MEDIA, DTLS):
        assert forwarded(story.from_client(0, ALICE, datagram), TRUNK_0)
        assert story.from_trunk(0, TRUNK_0, ALICE, datagram).client == ALICE


def test_three_times_the_bytes_that_came_and_no_more(story: Story) -> None:
    size = len(stun.build_binding_request(next(story.fresh), b"alice:client", key=b"password"))
    story.check(ALICE, "alice")
    probe = stun.build_message(stun.BINDING_INDICATION, bytes(12), fingerprint=False)  # 20 bytes
    sent = 0
    while sent + len(probe) <= 3 * size:
        assert story.from_trunk(0, TRUNK_0, ALICE, probe).action == "forward"
        sent += len(probe)
    assert story.from_trunk(0, TRUNK_0, ALICE, probe).reason == "amplification"
    story.check(ALICE, "alice")
    assert story.from_trunk(0, TRUNK_0, ALICE, probe).action == "forward"


@pytest.mark.parametrize("kind", [stun.BINDING_ERROR, stun.BINDING_INDICATION])
def test_only_a_success_response_confirms(story: Story, kind: int) -> None:
    transaction = next(story.fresh)
    story.check(ALICE, "alice", transaction)
    other = stun.build_message(kind, transaction)
    assert not story.from_trunk(0, TRUNK_0, ALICE, other).confirmed
    assert story.from_client(0, ALICE, MEDIA).reason == "provisional"


def test_an_answer_to_nobodys_question_confirms_nothing(story: Story) -> None:
    story.check(ALICE, "alice")
    assert not story.answer(TRUNK_0, ALICE, next(story.fresh)).confirmed


def test_a_replayed_request_confirms_no_attacker(story: Story) -> None:
    """An eavesdropper sends Alice's request from his own address: her backend answers him, for the request is
    authentic; but the transaction was hers first."""
    transaction = next(story.fresh)
    story.check(ALICE, "alice", transaction)
    assert forwarded(story.check(BOB, "alice", transaction), TRUNK_0)
    answer = story.answer(TRUNK_0, BOB, transaction)
    assert answer.action == "forward"
    assert not answer.confirmed
    assert story.from_client(0, BOB, MEDIA).reason == "provisional"


def test_a_replay_in_another_shard_does_not_help_either() -> None:
    story = Story(2)
    transaction = next(story.fresh)
    story.check(ALICE, "alice", transaction, shard=0)
    story.check(BOB, "alice", transaction, shard=1)
    assert not story.answer(TRUNK_0, BOB, transaction, shard=1).confirmed


def test_after_60_s_a_transaction_id_is_forgotten(story: Story) -> None:
    transaction = next(story.fresh)
    story.check(ALICE, "alice", transaction)
    for _ in range(15):
        story.wait(4000)
        story.check(ALICE, "alice", next(story.fresh))
    assert not story.answer(TRUNK_0, ALICE, transaction).confirmed
    story.check(BOB, "alice", transaction)
    assert story.answer(TRUNK_0, BOB, transaction).confirmed


def test_another_backends_answer_is_not_for_this_flow(story: Story) -> None:
    transaction = next(story.fresh)
    story.check(ALICE, "alice", transaction)
    assert story.answer(TRUNK_1, ALICE, transaction).reason == "unknown_flow"


# ---- shadows ----------------------------------------


def test_a_spoofer_with_a_session_of_his_own_cannot_tear_the_victim_down(story: Story) -> None:
    """Mallory owns `bobs` and can spoof Alice's address; his backend answers, the relay knows it all."""
    story.connect(ALICE, "alice", TRUNK_0)
    for _ in range(10):
        transaction = next(story.fresh)
        spoofed = story.check(ALICE, "bobs", transaction)
        assert spoofed.overrode
        assert forwarded(spoofed, TRUNK_1)
        story.answer(TRUNK_1, ALICE, transaction)
        assert story.from_trunk(0, TRUNK_1, ALICE, MEDIA).reason == "provisional"
        assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)
        assert story.from_trunk(0, TRUNK_0, ALICE, MEDIA).client == ALICE
        story.check(ALICE, "alice")
        story.wait(2500)


def test_a_live_flow_whose_own_ufrag_fell_silent_gives_way(story: Story) -> None:
    story.connect(ALICE, "alice", TRUNK_0)
    story.wait(6999)
    transaction = next(story.fresh)
    story.check(ALICE, "bobs", transaction)
    assert story.answer(TRUNK_1, ALICE, transaction).confirmed
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)
    story.wait(1)
    story.check(ALICE, "bobs")
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_1)
    assert story.from_trunk(0, TRUNK_0, ALICE, MEDIA).reason == "wrong_backend"


def test_an_ice_restart_of_one_session_takes_over_at_once(story: Story) -> None:
    story.route("first", TRUNK_0, session=77)
    story.route("second", TRUNK_1, session=77)
    story.connect(ALICE, "first", TRUNK_0)
    transaction = next(story.fresh)
    story.check(ALICE, "second", transaction)
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)
    assert story.answer(TRUNK_1, ALICE, transaction).confirmed
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_1)


def test_flow_closed_lets_the_confirmed_shadow_in(story: Story) -> None:
    story.connect(ALICE, "alice", TRUNK_0)
    transaction = next(story.fresh)
    story.check(ALICE, "bobs", transaction)
    story.answer(TRUNK_1, ALICE, transaction)
    story.flow_closed(0, TRUNK_1, ALICE)  # not its flow
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)
    story.flow_closed(0, TRUNK_0, ALICE)
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_1)


def test_flow_closed_without_a_shadow_forgets_the_client(story: Story) -> None:
    story.connect(ALICE, "alice", TRUNK_0)
    story.flow_closed(0, TRUNK_0, ALICE)
    assert story.from_client(0, ALICE, MEDIA).reason == "unknown_flow"


def test_two_clients_behind_one_nat_swap_their_ports(story: Story) -> None:
    one, two = ALICE, Client(Endpoint(ALICE.endpoint.address, 1001), 0)
    story.connect(one, "alice", TRUNK_0)
    story.connect(two, "bobs", TRUNK_1)
    story.wait(7000)
    for client, ufrag, backend in ((one, "bobs", TRUNK_1), (two, "alice", TRUNK_0)):
        transaction = next(story.fresh)
        swapped = story.check(client, ufrag, transaction)
        assert swapped.overrode
        assert forwarded(swapped, backend)
        story.answer(backend, client, transaction)
        assert forwarded(story.from_client(0, client, MEDIA), backend)


def test_one_client_port_towards_two_ingress_addresses_is_two_flows(story: Story) -> None:
    elsewhere = Client(ALICE.endpoint, 1)
    story.connect(ALICE, "alice", TRUNK_0)
    story.connect(elsewhere, "bobs", TRUNK_1)
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)
    assert forwarded(story.from_client(0, elsewhere, MEDIA), TRUNK_1)
    assert story.from_trunk(0, TRUNK_0, elsewhere, MEDIA).reason == "wrong_backend"


# ---- a live call never dies of what concerns new flows ----------------------------------------


def test_a_live_call_outlives_token_route_drain_and_backend(story: Story) -> None:
    ufrag = token.mint(
        KEY, 0, expires_s=WALL_S + 60, cluster=1, xcvr=1, incarnation=1, session=1, traffic_class=2
    )
    assert story.check(ALICE, ufrag).traffic_class == 2
    story.connect(ALICE, ufrag, TRUNK_0)
    story.connect(BOB, "bobs", TRUNK_1)
    story.remove_route("bobs")
    story.publish(token_keys={}, draining=True)
    story.set_state(TRUNK_0, "draining")
    story.remove_backend(TRUNK_1)
    for _ in range(20):
        story.wait(10_000)
        assert forwarded(story.check(ALICE, ufrag), TRUNK_0)
        assert forwarded(story.check(BOB, "bobs"), TRUNK_1)
        assert forwarded(story.from_client(0, BOB, MEDIA), TRUNK_1)
    stranger = Client(ALICE.endpoint, 3)
    assert story.check(stranger, ufrag).reason == "no_route"
    story.publish(token_keys={0: KEY})
    assert story.check(stranger, ufrag).reason == "token_expired"


@pytest.mark.parametrize(
    ("spoil", "reason", "decision"),
    [
        (lambda story: story.remove_route("alice"), "no_route", "no_route"),
        (lambda story: story.remove_backend(TRUNK_0), "unknown_backend", "unknown_backend"),
        (lambda story: story.set_state(TRUNK_0, "draining"), "backend_unavailable", "session_route"),
        (lambda story: story.set_state(TRUNK_0, "down"), "backend_unavailable", "session_route"),
        (lambda story: story.publish(draining=True), "draining", "session_route"),
        (lambda story: story.route("alice", 9), "unknown_backend", "unknown_backend"),
        (lambda story: story.route("alice", TRUNK_0, left_s=0), "no_route", "no_route"),
    ],
)
def test_why_a_new_flow_is_refused(story: Story, spoil, reason: str, decision: str) -> None:
    spoil(story)
    verdict = story.check(ALICE, "alice")
    assert (verdict.action, verdict.reason, verdict.decision) == ("drop", reason, decision)
    assert story.from_client(0, ALICE, MEDIA).reason == "unknown_flow"


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "127.0.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1", "ff02::1"]
)
def test_addresses_of_the_inside_need_to_be_allowed(story: Story, address: str) -> None:
    text = f"[{address}]:1000" if ":" in address else f"{address}:1000"
    inside = Client(Endpoint.parse(text), 0)
    assert story.check(inside, "alice").reason == "client_not_allowed"
    assert story.from_trunk(0, TRUNK_0, inside, MEDIA, confirmed=True).reason == "unknown_flow"
    story.publish(allow_clients=[ip_network(address)])
    assert story.check(inside, "alice").action == "forward"


def test_a_wrong_fingerprint_opens_nothing_but_a_live_flow_forwards_it(story: Story) -> None:
    """FINGERPRINT is checked when a flow is created; the backend judges the rest."""
    datagram = stun.build_binding_request(next(story.fresh), b"alice:client", key=b"password")
    wrong = datagram[:-1] + bytes([datagram[-1] ^ 1])
    assert story.from_client(0, ALICE, wrong).reason == "bad_stun"
    story.connect(ALICE, "alice", TRUNK_0)
    assert forwarded(story.from_client(0, ALICE, wrong), TRUNK_0)


# ---- caps, times, tables ----------------------------------------


def crowd(number: int) -> Client:
    return Client(Endpoint(ALICE.endpoint.address, 3000 + number), 0)


def test_a_ninth_address_of_one_ufrag_costs_its_oldest(story: Story) -> None:
    for number in range(9):
        story.check(crowd(number), "alice")
    assert story.from_client(0, crowd(0), MEDIA).reason == "unknown_flow"
    assert {story.from_client(0, crowd(number), MEDIA).reason for number in range(1, 9)} == {"provisional"}


def test_one_ufrag_from_many_addresses_cannot_lay_the_pool_to_rest() -> None:
    """Whoever makes room under the cap leaves its port to the newcomer; another session finds a free one."""
    story = Story(ports=9)
    story.route("other", PLAIN_2)
    for number in range(100):
        assert story.check(crowd(number), "plain").action == "forward"
    assert story.check(crowd(100), "other").action == "forward"


def test_a_flow_refused_for_want_of_a_port_costs_nobody() -> None:
    story = Story(ports=8)
    story.route("other", PLAIN_2)
    for number in range(8):
        assert story.check(crowd(number), "plain").action == "forward"
    assert story.check(crowd(8), "other").reason == "no_upstream_port"
    assert {story.from_client(0, crowd(number), MEDIA).reason for number in range(8)} == {"provisional"}


@pytest.mark.parametrize(("silence_ms", "alive"), [(4999, True), (5000, False)])
def test_a_provisional_flow_lives_5_s(story: Story, silence_ms: int, alive: bool) -> None:
    story.check(ALICE, "alice")
    story.wait(3000)
    story.check(ALICE, "alice")
    story.wait(silence_ms)
    assert story.from_client(0, ALICE, MEDIA).reason == ("provisional" if alive else "unknown_flow")


@pytest.mark.parametrize(("silence_ms", "alive"), [(59_999, True), (60_000, False)])
def test_a_confirmed_flow_lives_60_s_without_its_client(story: Story, silence_ms: int, alive: bool) -> None:
    story.connect(ALICE, "alice", TRUNK_0)
    story.wait(30_000)
    story.from_client(0, ALICE, MEDIA)
    story.wait(30_000)
    assert story.from_trunk(0, TRUNK_0, ALICE, MEDIA).action == "forward"  # which refreshes nothing
    story.wait(silence_ms - 30_000)
    assert (story.from_client(0, ALICE, MEDIA).action == "forward") == alive


def test_a_full_table_refuses_the_answer_and_the_flow_stays_provisional() -> None:
    story = Story(flows_max=1)
    story.connect(ALICE, "alice", TRUNK_0)
    transaction = next(story.fresh)
    story.check(BOB, "bobs", transaction)
    assert story.answer(TRUNK_1, BOB, transaction).reason == "flow_table_full"
    assert story.from_client(0, BOB, MEDIA).reason == "provisional"
    story.flow_closed(0, TRUNK_0, ALICE)
    assert story.answer(TRUNK_1, BOB, transaction).confirmed


def test_answers_that_a_full_table_refuses_do_not_count_as_sent() -> None:
    story = Story(flows_max=1)
    story.connect(ALICE, "alice", TRUNK_0)
    transaction = next(story.fresh)
    story.check(BOB, "bobs", transaction)
    for _ in range(20):
        assert story.answer(TRUNK_1, BOB, transaction).reason == "flow_table_full"
    probe = stun.build_message(stun.BINDING_INDICATION, bytes(12))
    assert story.from_trunk(0, TRUNK_1, BOB, probe).action == "forward"


def test_a_replacement_needs_no_room() -> None:
    story = Story(flows_max=1)
    story.connect(ALICE, "alice", TRUNK_0)
    story.wait(7000)
    transaction = next(story.fresh)
    story.check(ALICE, "bobs", transaction)
    assert story.answer(TRUNK_1, ALICE, transaction).confirmed
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_1)


# ---- teach-back ----------------------------------------


def test_a_transceiver_teaches_a_flow_that_the_relay_forgot(story: Story) -> None:
    assert story.from_trunk(0, TRUNK_0, ALICE, MEDIA).reason == "unknown_flow"
    assert story.from_trunk(0, TRUNK_0, ALICE, MEDIA, confirmed=True).client == ALICE
    assert story.from_trunk(0, TRUNK_1, ALICE, MEDIA, confirmed=True).reason == "wrong_backend"
    story.wait(4999)
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)  # from now on 60 s
    story.wait(59_999)
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)


def test_a_taught_flow_without_its_client_lives_5_s(story: Story) -> None:
    story.from_trunk(0, TRUNK_0, ALICE, MEDIA, confirmed=True)
    story.wait(5000)
    assert story.from_client(0, ALICE, MEDIA).reason == "unknown_flow"


def test_the_clients_next_check_replaces_what_was_taught(story: Story) -> None:
    story.from_trunk(0, TRUNK_0, ALICE, MEDIA, confirmed=True)
    transaction = next(story.fresh)
    story.check(ALICE, "bobs", transaction)
    assert story.answer(TRUNK_1, ALICE, transaction).confirmed
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_1)


def test_teaching_has_a_rate() -> None:
    story = Story(flows_max=4096)
    story.wait(1000 - story.now_ms % 1000)
    clients = [Client(Endpoint(ALICE.endpoint.address, port), 0) for port in range(1, 1003)]
    verdicts = [story.from_trunk(0, TRUNK_0, client, MEDIA, confirmed=True).reason for client in clients]
    assert verdicts == ["none"] * 1000 + ["unknown_flow"] * 2
    story.wait(1000)
    assert story.from_trunk(0, TRUNK_0, clients[-1], MEDIA, confirmed=True).action == "forward"


# ---- plain mode and shards ----------------------------------------


def test_in_plain_mode_only_the_flows_backend_counts(story: Story) -> None:
    port = story.connect_plain(ALICE)
    assert story.from_plain(0, port, PLAIN_ADDRESS, MEDIA).client == ALICE
    for stranger in ("192.0.2.3:5001", "192.0.2.9:5000", "[2001:db8::3]:5000"):
        assert story.from_plain(0, port, Endpoint.parse(stranger), MEDIA).reason == "unknown_flow"
    assert story.from_plain(0, port, PLAIN_ADDRESS, b"\x50").reason == "not_webrtc"


def test_a_port_rests_60_s_before_another_flow_has_it() -> None:
    story = Story(ports=1)
    port = story.connect_plain(ALICE)
    assert story.check(BOB, "plain").reason == "no_upstream_port"
    story.wait(60_000)  # Alice's flow ends
    assert story.from_plain(0, port, PLAIN_ADDRESS, MEDIA).reason == "unknown_flow"
    assert story.check(BOB, "plain").reason == "no_upstream_port"
    story.wait(59_999)
    assert story.check(BOB, "plain").reason == "no_upstream_port"
    story.wait(1)
    assert story.check(BOB, "plain").port == port


def test_a_port_serves_one_flow_for_each_backend_address() -> None:
    story = Story(ports=1)
    story.backend(3, Backend(Endpoint.parse("192.0.2.4:5000"), "plain"))
    story.backend(256, Backend(Endpoint.parse("192.0.2.4:6000"), "plain", parent=3))
    story.route("other", 3)
    story.route("target", 256)
    ports = [story.check(crowd(n), ufrag).port for n, ufrag in enumerate(("plain", "other", "target"))]
    assert ports == [0, 0, 0]
    for number, source in enumerate(("192.0.2.3:5000", "192.0.2.4:5000", "192.0.2.4:6000")):
        probe = stun.build_message(stun.BINDING_INDICATION, bytes(12))
        assert story.from_plain(0, 0, Endpoint.parse(source), probe).client == crowd(number)


def test_a_flow_found_in_another_shard_keeps_its_upstream_port() -> None:
    story = Story(2)
    port = story.connect_plain(ALICE, shard=1)
    assert story.from_client(0, ALICE, MEDIA).port == port
    assert story.from_plain(1, port, PLAIN_ADDRESS, MEDIA).client == ALICE
    for _ in range(4):  # only the copy is fed: the original must keep the port
        story.wait(30_000)
        assert story.from_client(0, ALICE, MEDIA).port == port
    assert story.from_plain(1, port, PLAIN_ADDRESS, MEDIA).client == ALICE
    story.wait(60_000)
    assert story.from_client(0, ALICE, MEDIA).reason == "unknown_flow"
    assert story.from_plain(1, port, PLAIN_ADDRESS, MEDIA).reason == "unknown_flow"


def test_a_copy_never_sends_from_a_port_that_was_given_away() -> None:
    """The original is replaced, its port rests, then serves Bob: Alice's old copy must not use it."""
    story = Story(2, ports=1)
    story.route("first", PLAIN_2)
    port = story.connect_plain(ALICE, "first", shard=1)
    assert story.from_client(0, ALICE, MEDIA).port == port
    story.wait(7000)
    transaction = next(story.fresh)
    story.check(ALICE, "alice", transaction, shard=1)
    assert story.answer(TRUNK_0, ALICE, transaction, shard=1).confirmed
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)
    for _ in range(2):
        story.wait(30_000)
        story.from_client(1, ALICE, MEDIA)
    assert story.connect_plain(BOB, shard=1) == port
    assert story.from_plain(1, port, PLAIN_ADDRESS, MEDIA).client == BOB
    assert forwarded(story.from_client(0, ALICE, MEDIA), TRUNK_0)


def test_a_client_that_moved_to_another_shard_is_found_from_both() -> None:
    """Its first flow stays behind in shard 0; whoever owns the newer one may still send through there."""
    story = Story(2)
    story.connect(ALICE, "alice", TRUNK_0, shard=0)
    story.from_client(1, ALICE, MEDIA)
    story.wait(7000)
    transaction = next(story.fresh)
    story.check(ALICE, "bobs", transaction, shard=1)
    assert story.answer(TRUNK_1, ALICE, transaction, shard=1).confirmed
    for shard in (0, 1):
        assert story.from_trunk(shard, TRUNK_1, ALICE, MEDIA).client == ALICE
    assert story.from_trunk(0, TRUNK_0, ALICE, MEDIA).client == ALICE
    assert story.from_trunk(1, TRUNK_0, ALICE, MEDIA).reason == "wrong_backend"


def test_a_restarted_engine_changes_nothing(story: Story) -> None:
    port = story.connect_plain(ALICE)
    story.connect(BOB, "bobs", TRUNK_1)
    transaction = next(story.fresh)
    story.check(crowd(1), "alice", transaction)
    story.restart()
    assert story.from_client(0, ALICE, MEDIA).port == port
    assert story.from_plain(0, port, PLAIN_ADDRESS, MEDIA).client == ALICE
    assert forwarded(story.from_client(0, BOB, MEDIA), TRUNK_1)
    assert story.answer(TRUNK_0, crowd(1), transaction).confirmed
