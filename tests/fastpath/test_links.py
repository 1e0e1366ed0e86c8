"""One shard's side of a trunk link: who is believed, and what control records say."""

from typing import Any

import numpy as np
import pytest
from fastpath._testing.batches import TrunkLink
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.relay.layout import TRUNK_LINK
from pyfastpath.wire import trunk
from tests.support.examples import examples

KEYS = {0: bytes(range(16)), 2: bytes(range(16, 32))}
RECORD = trunk.Record(payload=b"\x80hello")


def build(epoch: int, sequence: int, *, key_id: int | None = None, key: bytes | None = None) -> bytes:
    header = trunk.Header(epoch, sequence, key_id is not None, key_id or 0)
    return trunk.build_datagram(header, [RECORD], key or KEYS.get(key_id or 0, b""))


def row(link: TrunkLink) -> Any:
    return np.frombuffer(link.row(), TRUNK_LINK)[0]


def test_an_open_link_takes_untagged_datagrams_only() -> None:
    link = TrunkLink()
    plain = build(5, 1)
    assert link.admit(plain) == ("none", len(plain))
    assert link.admit(plain) == ("none", len(plain)), "no window without a key"
    assert link.admit(build(5, 2, key_id=0))[0] == "bad_tag"
    assert link.admit(b"FT\x02" + plain[3:])[0] == "bad_trunk"
    assert link.admit(plain[:11])[0] == "bad_trunk"
    assert link.admit(b"")[0] == "bad_trunk"


def test_a_keyed_link_believes_a_tag_under_one_of_its_keys() -> None:
    link = TrunkLink()
    for sequence, key_id in enumerate(KEYS):
        tagged = build(5, sequence, key_id=key_id)
        assert link.admit(tagged, keys=KEYS) == ("none", len(tagged) - trunk.TAG_BYTES)
    assert link.admit(build(5, 9), keys=KEYS)[0] == "bad_tag"
    assert link.admit(build(5, 9, key_id=1, key=KEYS[0]), keys=KEYS)[0] == "bad_tag"
    assert link.admit(build(5, 9, key_id=2, key=KEYS[0]), keys=KEYS)[0] == "bad_tag"


@given(st.integers(0), st.integers(1, 255))
def test_every_changed_byte_is_noticed_and_moves_nothing(place: int, change: int) -> None:
    link = TrunkLink()
    tagged = bytearray(build(5, 1, key_id=0))
    place %= len(tagged)
    tagged[place] ^= change
    before = link.row()
    assert link.admit(bytes(tagged), keys=KEYS)[0] in {"bad_tag", "bad_trunk"}
    assert link.row() == before


@examples(200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0xFFFFFFFF, 0, 1, 2]),
            st.one_of(
                st.integers(0, 40),
                st.integers(1000, 1060),
                st.sampled_from([0xFFFFFFFF, 0xFFFFFC00, 1 << 31]),
            ),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_epochs_and_window_equal_the_twin(arrivals: list[tuple[int, int, bool]]) -> None:
    """`again`: a datagram that was in the hand of an engine that died is believed once more."""
    link, twin = TrunkLink(), trunk.ReplayWindow()
    for epoch, sequence, again in arrivals:
        verdict = twin.check(epoch, sequence)
        if verdict == "ok":
            twin.accept(epoch, sequence)
        wanted = "none" if again or verdict == "ok" else verdict
        assert link.admit(build(epoch, sequence, key_id=0), keys=KEYS, again=again)[0] == wanted


def test_only_what_is_believed_is_heard() -> None:
    link = TrunkLink()
    assert row(link)["heard_ms"] == 0
    link.admit(build(5, 1), keys=KEYS, now_ms=4000)
    assert row(link)["heard_ms"] == 0
    link.admit(build(5, 1, key_id=0), keys=KEYS, now_ms=4000)
    assert row(link)["heard_ms"] == 4001  # the last bit is set: 0 means never
    link.admit(build(5, 1, key_id=0), keys=KEYS, now_ms=9000)
    assert row(link)["heard_ms"] == 4001, "a replay is no sign of life"


# ---- control records ------------------------------------------------------------------------------------


def test_a_ping_comes_back_as_the_round_trip_time() -> None:
    link = TrunkLink()
    ping = trunk.parse_control(link.ping(1_000_000_000))
    assert ping == trunk.Ping((1_000_000_000).to_bytes(8, "big"))
    assert link.control(trunk.build_control(trunk.Pong(ping.opaque)), now_ns=1_000_350_000) == "nothing"
    assert (row(link)["pings"], row(link)["pongs"], row(link)["rtt_us"]) == (1, 1, 350)


def test_what_control_records_ask_for() -> None:
    link = TrunkLink()
    assert link.control(trunk.build_control(trunk.Ping(bytes(8)))) == "pong"
    assert link.control(trunk.build_control(trunk.FlowClosed())) == "forget"


def test_a_state_record_is_noted() -> None:
    link = TrunkLink()
    link.admit(build(5, 1), now_ms=7000)
    state = trunk.State(state=2, incarnation=3, cluster=77, xcvr=4242, sessions=100_000, capacity=1 << 31)
    assert link.control(trunk.build_control(state)) == "nothing"
    noted = row(link)
    assert {name: int(noted[name]) for name in ("state", "incarnation", "cluster", "xcvr")} == {
        "state": 2,
        "incarnation": 3,
        "cluster": 77,
        "xcvr": 4242,
    }
    assert (noted["sessions"], noted["capacity"], noted["state_ms"]) == (100_000, 1 << 31, 7001)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x00", b"\x01" + bytes(10), b"\x02" + bytes(10), b"\x03" + bytes(14), b"\x05" + bytes(30)],
    ids=["empty", "type-0", "short-ping", "short-pong", "short-state", "unknown"],
)
def test_what_is_too_short_or_unknown_is_ignored(payload: bytes) -> None:
    link = TrunkLink()
    before = link.row()
    assert link.control(payload) == "nothing"
    assert link.row() == before
