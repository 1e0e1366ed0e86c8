"""The trunk FT1 in plain Python: the vector, what is built is read back, defects are named."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import WireError
from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk
from tests.vectors import trunk as vectors

ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 2**125 - 1).map(lambda low: IPv6Address(2**125 | low)),  # 2000::/3
)
RECORDS = st.builds(
    trunk.Record,
    payload=st.binary(min_size=1, max_size=64),
    client=st.builds(Endpoint, ADDRESSES, st.integers(0, 65535)),
    ingress=st.integers(0, 255),
    ecn=st.integers(0, 3),
    confirmed=st.booleans(),
    control=st.booleans(),
)
HEADERS = st.builds(
    trunk.Header, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 3)
)


def test_the_vector_both_ways() -> None:
    header = trunk.Header(epoch=1, sequence=7)
    records = [
        trunk.Record(b"\x80\x00hello", Endpoint.parse("203.0.113.9:54321"), ingress=1, ecn=2),
        trunk.Record(b"\x16\xfe\xfd", Endpoint.parse("[2001:db8::5]:443"), confirmed=True),
    ]
    assert trunk.parse_header(vectors.UNTAGGED) == header
    assert list(trunk.parse_records(vectors.UNTAGGED)) == records
    assert trunk.build_datagram(header, records) == vectors.UNTAGGED


@given(HEADERS, st.lists(RECORDS, max_size=5), st.integers(0, 9))
def test_what_is_built_is_read_back(header: trunk.Header, records: list[trunk.Record], padding: int) -> None:
    datagram = trunk.build_datagram(header, records, vectors.KEY)
    assert trunk.parse_header(datagram) == header
    if header.tagged:
        assert trunk.tag_holds(vectors.KEY, datagram)
        datagram = datagram[: -trunk.TAG_BYTES]
    assert list(trunk.parse_records(datagram + bytes(padding))) == records


@pytest.mark.parametrize("name", vectors.BAD_HEADERS)
def test_bad_headers(name: str) -> None:
    with pytest.raises(WireError):
        trunk.parse_header(vectors.BAD_HEADERS[name])


@pytest.mark.parametrize("name", vectors.RECORDS)
def test_good_and_bad_records(name: str) -> None:
    datagram, good = vectors.RECORDS[name]
    assert [isinstance(each, trunk.Record) for each in trunk.parse_records(datagram)] == good


@pytest.mark.parametrize(
    "control",
    [
        trunk.Ping(b"8 opaque"),
        trunk.Pong(b"8 opaque"),
        trunk.State(2, 15, 4095, 65535, 2**32 - 1, 1000),
        trunk.FlowClosed(),
    ],
)
def test_control_records_both_ways(control: trunk.Control) -> None:
    payload = trunk.build_control(control)
    assert trunk.parse_control(payload) == control
    assert trunk.parse_control(payload + b"later versions may say more") == control


@pytest.mark.parametrize(
    "payload", [b"", b"\x00", b"\x05unknown", b"\x01short", b"\x02" + bytes(10), b"\x03" + bytes(14)]
)
def test_unknown_and_short_controls_are_ignored(payload: bytes) -> None:
    assert trunk.parse_control(payload) is None


def test_the_state_record_on_the_wire() -> None:
    state = trunk.State(state=1, incarnation=3, cluster=77, xcvr=4242, sessions=5, capacity=100)
    assert trunk.build_control(state).hex() == "03010300" + "004d" + "1092" + "00000005" + "00000064"


def test_each_direction_has_its_own_key() -> None:
    up, down = (trunk.direction_key(vectors.KEY, direction) for direction in ("up", "down"))
    datagram = trunk.build_datagram(trunk.Header(1, 1, tagged=True), [], up)
    assert trunk.tag_holds(up, datagram)
    assert not trunk.tag_holds(down, datagram)
    assert not trunk.tag_holds(vectors.KEY, datagram)


def test_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="padding"):
        trunk.build_record(trunk.Record(b""))
    with pytest.raises(ValueError, match="key id"):
        trunk.build_header(trunk.Header(1, 1, key_id=4))
    with pytest.raises(ValueError, match="opaque"):
        trunk.build_control(trunk.Ping(b"short"))


def test_replay_window() -> None:
    window = trunk.ReplayWindow()
    steps = [
        (5, 100, "ok"),
        (5, 100, "replayed"),
        (5, 99, "ok"),
        (5, 101, "ok"),
        (5, 101 + 1023, "ok"),
        (5, 101, "replayed"),  # the last one inside
        (5, 102, "ok"),
        (5, 100, "replayed"),  # left of the window
        (4, 9999, "old_epoch"),
        (6, 0, "ok"),
        (5, 9999, "old_epoch"),
        (6, 2**32 - 1, "ok"),  # one before 0, not 2^32 - 1 after it
        (6, 2**31 - 1, "ok"),
    ]
    for epoch, sequence, verdict in steps:
        assert window.check(epoch, sequence) == verdict, (epoch, sequence)
        if verdict == "ok":
            window.accept(epoch, sequence)
