"""What `bundle` writes, read back by the plain twin of the trunk."""

from typing import Any

from fastpath._testing.batches import bundle
from hypothesis import example, given
from hypothesis import strategies as st

from pyfastpath.wire import trunk
from tests.support.examples import examples
from tests.support.regions import client, client_v6

KEY = bytes(range(16))
EPOCH = 9
FIRST_SEQUENCE = 0xFFFFFFF0  # wraps on the way
RUN_BYTES = 65_000
RUN_DATAGRAMS = 64
PADDING_PERCENT = 5

CLIENTS = [client(1), client(2, ingress=3), client_v6(1, ingress=255), client_v6(2)]
SIZES = st.one_of(
    st.integers(1, 60),
    st.integers(150, 180),  # voice
    st.integers(1000, 1250),  # video
    st.integers(1, 2048),
    st.sampled_from([1, 1362, 1378, 1390, 1450, 2048]),
)
RECORDS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, 8, 16]), st.sampled_from(CLIENTS), SIZES), min_size=1, max_size=64
)
MTUS = st.sampled_from([40, 200, 576, 1400, 1472, 9000, 65_000])


def payload(number: int, size: int) -> bytes:
    return bytes([number]) * size


def record_bytes(item: tuple) -> int:
    return len(item[2]) + (22 if item[1][2] == 6 else 10)


def datagrams_of(run: dict) -> list[bytes]:
    """What the kernel makes of one send with UDP_SEGMENT."""
    data, size = run["data"], run["segment_bytes"]
    return [data[start : start + size] for start in range(0, len(data), size)]


def read(datagram: bytes, key: bytes | None, sequence: int) -> tuple[list[trunk.Record], int]:
    """Its records, and where they end; the header must be as it should."""
    header = trunk.parse_header(datagram)
    assert header == trunk.Header(EPOCH, sequence & 0xFFFFFFFF, key is not None, 2 if key else 0)
    if key is not None:
        assert trunk.tag_holds(key, datagram)
        datagram = datagram[: -trunk.TAG_BYTES]
    records = list(trunk.parse_records(datagram))
    assert not any(isinstance(record, trunk.BadRecord) for record in records)
    written = trunk.HEADER_BYTES + sum(len(trunk.build_record(record)) for record in records)
    assert set(datagram[written:]) <= {0}, "padding is zeros"
    return records, written


def flags_of(record: trunk.Record) -> int:
    return record.ecn | 8 * record.confirmed | 16 * record.control


def check(items: list, mtu: int, *, singly: bool, key: bytes | None) -> list[dict[str, Any]]:
    """Everything that must hold of every mix; gives the runs."""
    runs, next_sequence = bundle(
        items, mtu, singly=singly, key=key, key_id=2 if key else 0, epoch=EPOCH, sequence=FIRST_SEQUENCE
    )
    sequence, taken = FIRST_SEQUENCE, 0
    for run in runs:
        datagrams = datagrams_of(run)
        assert run["first_item"] == taken
        assert len(datagrams) == run["datagrams"] <= (1 if singly else RUN_DATAGRAMS)
        assert len(run["data"]) <= RUN_BYTES
        if len(datagrams) == 1:
            assert run["segment_bytes"] == len(run["data"])
        for number, datagram in enumerate(datagrams):
            last = number == len(datagrams) - 1
            records, written = read(datagram, key, sequence)
            share = items[taken : taken + len(records)]
            assert [(flags_of(r), r.ingress, r.client.port, r.client.family, r.payload) for r in records] == [
                (flags, who[3], who[1], who[2], data) for flags, who, data in share
            ]
            assert [r.client.address.packed for r in records] == [
                who[0][: 4 if who[2] == 4 else 16] for _, who, _ in share
            ]
            tag_bytes = trunk.TAG_BYTES if key else 0
            padding = len(datagram) - written - tag_bytes
            assert padding * 100 <= PADDING_PERCENT * run["segment_bytes"]
            assert not (padding and last), "the last one may be shorter: nothing to pad for"
            assert run["oversize"] == (len(datagram) > mtu)
            if run["oversize"]:
                assert (len(records), len(datagrams)) == (1, 1), "a record that fits no bundle travels alone"
            taken += len(records)
            sequence += 1
            if taken < len(items):
                assert written + tag_bytes + record_bytes(items[taken]) > mtu, "it would have fitted in here"
        assert run["items"] == taken - run["first_item"]
    assert taken == len(items)
    assert next_sequence == sequence & 0xFFFFFFFF
    return runs


@examples(500)
@given(RECORDS, MTUS, st.booleans(), st.sampled_from([None, KEY]))
@example([(0, CLIENTS[0], 2048)] * 64, 1400, False, KEY)  # the most a buffer must hold
@example([(0, CLIENTS[2], 2048)] * 64, 65_000, False, KEY)
@example([(0, CLIENTS[0], 1)] * 64, 40, False, None)
@example([(0, CLIENTS[0], 1378), (0, CLIENTS[0], 1311)] * 32, 1400, False, None)  # just within 5 %
def test_every_mix_parses_back(shape: list, mtu: int, singly: bool, key: bytes | None) -> None:
    items = [(flags, who, payload(number, size)) for number, (flags, who, size) in enumerate(shape)]
    runs = check(items, mtu, singly=singly, key=key)
    assert sum(run["items"] for run in runs) == len(items)


def test_voice_of_many_clients_leaves_in_one_send() -> None:
    """Seven records of 172 bytes a datagram, ten datagrams; the last one, with one record, is shorter."""
    runs = check([(0, CLIENTS[0], payload(n, 172)) for n in range(64)], 1400, singly=False, key=None)
    assert [(run["datagrams"], run["segment_bytes"]) for run in runs] == [(10, 12 + 7 * 182)]


def test_a_much_shorter_bundle_ends_its_run() -> None:
    sizes = [1300, 1300, 700, 1300, 1300]
    runs = check([(0, CLIENTS[0], payload(n, s)) for n, s in enumerate(sizes)], 1400, singly=False, key=None)
    assert [run["datagrams"] for run in runs] == [3, 2]


def test_a_run_keeps_within_what_the_kernel_takes() -> None:
    items = [(0, CLIENTS[0], payload(n, 2000)) for n in range(64)]
    runs = check(items, 2100, singly=False, key=None)
    assert [run["datagrams"] for run in runs] == [32, 32]


def test_nothing_to_send_is_no_run() -> None:
    assert bundle([], 1400) == ([], 0)
