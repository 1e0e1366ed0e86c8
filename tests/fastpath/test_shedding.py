"""What each level of pressure sheds and what it never does, and how many new flows a network is let open.

Told to the data plane and to its slow twin at once: the pair demands that both say it."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from pyfastpath.relay.flowstates import Client, Verdict
from pyfastpath.relay.rules import Backend
from pyfastpath.relay.shedding import BULK, NEW, RTCP, SEARCHES_PER_MS, UNKNOWN, VIDEO, VOICE
from pyfastpath.types import TRAFFIC_CLASSES, Endpoint
from pyfastpath.wire import stun, token
from tests.model.pair import WALL_S, Pair

KEY = bytes(range(16))
TRUNK = 0
MEDIA = bytes([0x80, 111]) + bytes(160)
RECEIVER_REPORT = bytes([0x81, 201]) + bytes(60)
DTLS = b"\x16\xfe\xfd" + bytes(99)
LEVELS = range(VOICE + 1)


def client(number: int) -> Client:
    return Client(Endpoint(ip_address(f"198.51.{number >> 8}.{number & 255}"), 5000), 0)


class Overload(Pair):
    """Callers with a session of one class each; the number of a caller is that of its token."""

    def __init__(self, shards: int = 1) -> None:
        super().__init__(shards)
        self.backend(TRUNK, Backend(Endpoint.parse("192.0.2.1:5000"), "trunk", identity=(1, 1, 1)))
        self.publish(token_keys={0: KEY})
        self._transactions: Iterator[bytes] = (number.to_bytes(12, "big") for number in range(1, 1 << 16))

    def check(self, number: int, name: str = "voice", shard: int = 0, *, forged: bool = False) -> Verdict:
        """A Binding Request of the caller."""
        transaction = next(self._transactions)
        ufrag = token.mint(
            bytes(16) if forged else KEY, 0, expires_s=WALL_S + 3600, cluster=1, xcvr=1, incarnation=1,
            traffic_class=TRAFFIC_CLASSES.index(name), session=number,
        )  # fmt: skip
        request = stun.build_binding_request(transaction, f"{ufrag}:client".encode())
        said = self.from_client(shard, client(number), request)
        if said.action == "forward":
            answer = stun.build_binding_success(transaction, client(number).endpoint)
            self.from_trunk(shard, TRUNK, client(number), answer)
        return said

    def call(self, number: int, name: str) -> None:
        """A confirmed flow."""
        assert self.check(number, name).action == "forward"
        assert self.reason(number, MEDIA) == "none"

    def reason(self, number: int, datagram: bytes, shard: int = 0) -> str:
        return self.from_client(shard, client(number), datagram).reason


@pytest.fixture
def relay() -> Overload:
    """Two calls of each class: every second flow loses its voice in the end."""
    relay = Overload()
    for number, name in enumerate(TRAFFIC_CLASSES):
        relay.call(2 * number, name)
        relay.call(2 * number + 1, name)
    return relay


def shed_at(relay: Overload, level: int, datagram: bytes) -> dict[str, set[str]]:
    """class: what became of this datagram on its two calls."""
    relay.press(level)
    return {
        name: {relay.reason(number, datagram) for number in (2 * index, 2 * index + 1)}
        for index, name in enumerate(TRAFFIC_CLASSES)
    }


@pytest.mark.parametrize("level", LEVELS)
def test_media_by_class(relay: Overload, level: int) -> None:
    voice = {"none", "shed_voice"} if level >= VOICE else {"none"}
    assert shed_at(relay, level, MEDIA) == {
        "voice": voice,
        "voice_data": voice,
        "video": {"shed_video" if level >= VIDEO else "none"},
        "bulk": {"shed_bulk" if level >= BULK else "none"},
    }


@pytest.mark.parametrize("level", LEVELS)
def test_every_second_rtcp_packet(relay: Overload, level: int) -> None:
    half = {"none", "shed_rtcp"} if level >= RTCP else {"none"}
    assert shed_at(relay, level, RECEIVER_REPORT) == {
        "voice": half,
        "voice_data": half,
        "video": {"shed_video" if level >= VIDEO else "none"},
        "bulk": {"shed_bulk" if level >= BULK else "none"},
    }


@pytest.mark.parametrize("level", LEVELS)
def test_stun_and_dtls_of_confirmed_flows_always_pass(relay: Overload, level: int) -> None:
    assert set().union(*shed_at(relay, level, DTLS).values()) == {"none"}
    for number in range(8):
        assert relay.check(number, TRAFFIC_CLASSES[number // 2]).action == "forward"
    indication = stun.build_message(stun.BINDING_INDICATION, bytes(12))
    assert set().union(*shed_at(relay, level, indication).values()) == {"none"}


@pytest.mark.parametrize("level", LEVELS)
def test_new_sessions_and_strangers(relay: Overload, level: int) -> None:
    relay.press(level)
    said = relay.check(100)
    assert said.reason == ("shed_new" if level >= NEW else "none")
    assert relay.reason(101, MEDIA) == ("shed_unknown" if level >= UNKNOWN else "unknown_flow")
    assert relay.reason(101, DTLS) == "unknown_flow"
    assert relay.check(102, forged=True).reason == ("shed_new" if level >= NEW else "bad_token")
    relay.press(0)
    assert relay.check(103).action == "forward"


def test_an_ice_restart_of_a_live_call_is_no_new_session(relay: Overload) -> None:
    relay.publish(admission=(1, 1))
    relay.press(VOICE)
    said = relay.check(0, "bulk")  # another ufrag from the same address
    assert (said.action, said.overrode) == ("forward", True)


def test_a_flow_that_is_shed_does_not_expire(relay: Overload) -> None:
    relay.press(VOICE)
    for _ in range(10):
        relay.wait(20_000)
        assert relay.reason(6, MEDIA) == "shed_bulk"
    relay.press(0)
    assert relay.reason(6, MEDIA) == "none"
    assert relay.reason(0, MEDIA) == "unknown_flow"


def test_a_flow_of_a_sibling_is_found_in_a_flood_of_strangers() -> None:
    relay = Overload(shards=2)
    relay.call(0, "voice")
    relay.press(UNKNOWN)
    found = [relay.reason(100 + number, MEDIA, shard=1) for number in range(SEARCHES_PER_MS + 10)]
    assert found == ["unknown_flow"] * SEARCHES_PER_MS + ["shed_unknown"] * 10
    assert relay.reason(0, MEDIA, shard=1) == "shed_unknown"
    assert relay.reason(0, DTLS, shard=1) == "none", "DTLS is looked for whatever happens"
    relay.wait(1)
    relay.call(1, "voice")
    assert relay.reason(1, MEDIA, shard=1) == "none"


# ---- admission -----------------------------------------------------------------------------------------


def test_a_network_that_spent_its_burst_opens_no_flow_and_keeps_those_it_has() -> None:
    relay = Overload()
    relay.publish(admission=(1, 3))
    for number in range(3):
        relay.call(number, "voice")
    assert [relay.check(number).reason for number in (3, 4)] == ["admission"] * 2
    for number in range(3):
        assert relay.reason(number, MEDIA) == relay.check(number).reason == "none"
    assert relay.check(256).action == "forward", "another /24"
    relay.wait(1000)
    assert relay.check(3).action == "forward"
    assert relay.check(4).reason == "admission"
    relay.publish(admission=(0, 1))
    assert relay.check(4).action == "forward"


def test_bad_tokens_cost_their_network_nothing_until_there_is_pressure() -> None:
    """Then who knocks too often is refused unread, and a token that is good among them, too."""
    relay = Overload()
    relay.publish(admission=(1, 3))
    assert {relay.check(number, forged=True).reason for number in range(10)} == {"bad_token"}
    assert relay.check(0).action == "forward"
    relay.press(UNKNOWN)
    found = [relay.check(number, forged=True).reason for number in range(10, 14)]
    assert found == ["bad_token"] * 2 + ["shed_unknown"] * 2
    assert relay.check(20).reason == "shed_unknown"
    assert relay.check(0).reason == relay.reason(0, MEDIA) == "none"
