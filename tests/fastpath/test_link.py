"""The transceiver's end of the trunk, against a relay that is the plain twin over a loopback socket."""

import os
import socket
from ipaddress import ip_address

import pytest
from fastpath.link import Link

from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk
from pyfastpath.wire.trunk import FlowClosed, Header, Ping, Pong, Record, State
from tests.support.trunk_backend import UDP_GRO

KEY = bytes(range(16))
UDP_SEGMENT = 103
SO_NO_CHECK = 11
CLIENT = Endpoint(ip_address("203.0.113.9"), 54321)
CLIENT6 = Endpoint(ip_address("2001:db8::5"), 443)


class Relay:
    """A relay socket in plain Python, and the link that believes it."""

    def __init__(self, keys: dict[int, bytes] | None = None, **options: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.other.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.other.bind(("127.0.0.1", 0))
        self.other.setblocking(False)
        self.end = (bytes([127, 0, 0, 1]).ljust(16, b"\0"), self.socket.getsockname()[1], 4)
        self.link = Link(self.other.fileno(), relays=[self.end], keys=keys, epoch=7, **options)
        self.sequence = 0

    def send(
        self, *records: Record, epoch: int = 1, sequence: int | None = None, key: bytes = b"", kid: int = 0
    ) -> None:
        self.sequence += 1
        header = Header(epoch, self.sequence if sequence is None else sequence, bool(key), kid)
        up = trunk.direction_key(key, "up") if key else b""
        self.raw(trunk.build_datagram(header, records, up))

    def raw(self, datagram: bytes) -> None:
        """loopback delivers within the call."""
        self.socket.sendto(datagram, self.other.getsockname())

    def receive(self) -> tuple[Header, list[Record]]:
        datagram = self.socket.recv(65536)
        header = trunk.parse_header(datagram)
        body = datagram[: -trunk.TAG_BYTES] if header.tagged else datagram
        return header, list(trunk.parse_records(body))


@pytest.fixture
def relay():
    made = []

    def make(*args, **kwargs):
        made.append(Relay(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.socket.close()
        each.other.close()


def raw_client(endpoint: Endpoint) -> tuple[bytes, int, int]:
    return endpoint.address16, endpoint.port, endpoint.family


def test_records_come_out_with_all_they_carried(relay):
    here = relay()
    here.send(Record(b"\x80one", CLIENT, ingress=3, ecn=2), Record(b"\x16two", CLIENT6, ecn=1))
    here.send(Record(b"\x80three", CLIENT))
    assert here.link.receive() == [
        (b"\x80one", (here.end, 3, raw_client(CLIENT)), 2),
        (b"\x16two", (here.end, 0, raw_client(CLIENT6)), 1),
        (b"\x80three", (here.end, 0, raw_client(CLIENT)), 0),
    ]
    assert here.link.receive() == []
    assert here.link.dropped == {}


def test_a_path_is_one_tuple_however_many_records_come_on_it(relay):
    here = relay()
    for _ in range(2):
        here.send(Record(b"\x80one", CLIENT, ingress=3), Record(b"\x80two", CLIENT), Record(b"\x80", CLIENT6))
    first, other, third, again, *_ = [path for _, path, _ in here.link.receive()]
    assert first is again
    assert len({first, other, third}) == 3


def test_more_paths_than_a_link_remembers_come_out_right(relay):
    here = relay()
    for first in range(0, 65_600, 50):
        clients = [
            Endpoint(ip_address(f"198.51.{n >> 14}.9"), 1 + n % (1 << 14)) for n in range(first, first + 50)
        ]
        here.send(*(Record(b"\x80", client) for client in clients))
        assert [path[2] for _, path, _ in here.link.receive()] == list(map(raw_client, clients))


def test_what_is_sent_is_bundled_in_order_and_read_by_the_twin(relay):
    here = relay()
    payloads = [b"\x80" + os.urandom(size) for size in (1, 171, 171, 900, 1400, 20)]
    path = (here.end, 2, raw_client(CLIENT))
    here.link.send([(path, payload, True) for payload in payloads], ecn=1)
    found, sequences = [], []
    while len(found) < len(payloads):
        header, records = here.receive()
        assert (header.epoch, header.tagged) == (7, False)
        sequences.append(header.sequence)
        found += records
    assert found == [Record(payload, CLIENT, ingress=2, ecn=1, confirmed=True) for payload in payloads]
    assert len(sequences) < len(payloads)
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_a_batch_of_any_size_leaves_whole(relay):
    here = relay()
    payloads = [bytes([0x80]) + number.to_bytes(2, "big") for number in range(150)]
    here.link.send([((here.end, 0, raw_client(CLIENT)), payload, False) for payload in payloads])
    found: list[bytes] = []
    while len(found) < len(payloads):
        found += [record.payload for record in here.receive()[1]]
    assert found == payloads


def test_a_keyed_link_tags_and_wants_tags(relay):
    here = relay({1: KEY}, key_id=1)
    here.send(Record(b"\x80untagged", CLIENT))
    here.send(Record(b"\x80wrong", CLIENT), key=bytes(16), kid=1)
    here.send(Record(b"\x80other id", CLIENT), key=KEY, kid=2)
    assert here.link.receive() == []
    assert here.link.dropped == {"bad_tag": 3}
    here.send(Record(b"\x80right", CLIENT), key=KEY, kid=1)
    assert [item[0] for item in here.link.receive()] == [b"\x80right"]

    here.link.send([((here.end, 0, raw_client(CLIENT)), b"\x80down", False)])
    datagram = here.socket.recv(2048)
    assert trunk.parse_header(datagram).tagged
    assert trunk.tag_holds(trunk.direction_key(KEY, "down"), datagram)
    assert not trunk.tag_holds(trunk.direction_key(KEY, "up"), datagram), "nothing can be reflected"


def test_replays_and_older_epochs_are_refused_by_name(relay):
    here = relay({0: KEY})
    here.send(Record(b"\x80a", CLIENT), epoch=5, sequence=100, key=KEY)
    here.send(Record(b"\x80a", CLIENT), epoch=5, sequence=100, key=KEY)
    here.send(Record(b"\x80b", CLIENT), epoch=4, sequence=101, key=KEY)
    here.send(Record(b"\x80c", CLIENT), epoch=5, sequence=99, key=KEY)
    assert [item[0] for item in here.link.receive()] == [b"\x80a", b"\x80c"]
    assert here.link.dropped == {"replayed": 1, "old_epoch": 1}


def test_strangers_and_nonsense_are_refused_by_name(relay):
    here = relay()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"FT\x01\0" + bytes(8), here.other.getsockname())
    here.raw(b"XX\x01\0" + bytes(8))
    here.raw(b"FT")
    here.raw(b"")  # fuzzing found that an empty one was nowhere
    here.raw(trunk.build_header(Header(1, 1)) + b"\x00\xff\x00")
    assert here.link.receive() == []
    assert here.link.dropped == {"untrusted_trunk": 1, "bad_trunk": 3, "bad_record": 1}


def test_a_ping_is_answered_with_its_own_bytes(relay):
    here = relay()
    here.send(Record(trunk.build_control(Ping(b"opaque 8")), control=True))
    assert here.link.receive() == []
    _, (record,) = here.receive()
    assert record.control
    assert trunk.parse_control(record.payload) == Pong(b"opaque 8")


def test_state_and_flow_closed_are_control_records(relay):
    here = relay()
    here.link.send_state(here.end, state=2, incarnation=3, cluster=77, xcvr=4242, sessions=10, capacity=1000)
    _, (record,) = here.receive()
    assert trunk.parse_control(record.payload) == State(2, 3, 77, 4242, 10, 1000)

    here.link.send_flow_closed(here.end, 5, raw_client(CLIENT6))
    _, (record,) = here.receive()
    assert isinstance(trunk.parse_control(record.payload), FlowClosed)
    assert (record.client, record.ingress, record.control) == (CLIENT6, 5, True)


def test_misuse_is_an_error_with_what_to_do(relay):
    here = relay()
    stranger = (bytes(16), 1, 4)
    with pytest.raises(ValueError, match="add_relay"):
        here.link.send([((stranger, 0, raw_client(CLIENT)), b"\x80", False)])
    with pytest.raises(ValueError, match="16 bytes"):
        here.link.add_key(0, b"short")
    with pytest.raises(ValueError, match="key_id"):
        Link(here.other.fileno(), relays=[], key_id=9, epoch=1)


def test_datagrams_that_the_kernel_joined_are_taken_apart(relay):
    here = relay()
    payloads = [bytes([0x80, number]) * 100 for number in range(40)] + [b"\x80last"]
    segments = [trunk.build_datagram(Header(1, n), [Record(each, CLIENT)]) for n, each in enumerate(payloads)]
    run = [(socket.IPPROTO_UDP, UDP_SEGMENT, len(segments[0]).to_bytes(2, "little"))]
    here.socket.sendmsg([b"".join(segments)], run, 0, here.other.getsockname())
    assert [item[0] for item in here.link.receive()] == payloads


def test_each_relay_has_its_own_records_and_sequence(relay):
    one, two = relay(), relay()
    one.link.add_relay(two.end)
    sent = [((one.end, two.end)[number % 2], bytes([0x80, number])) for number in range(200)]
    one.link.send([((end, 0, raw_client(CLIENT)), payload, False) for end, payload in sent])
    for each in (one, two):
        found, sequences = [], []
        while len(found) < 100:
            header, records = each.receive()
            sequences.append(header.sequence)
            found += [record.payload for record in records]
        assert found == [payload for end, payload in sent if end == each.end]
        assert sequences == list(range(len(sequences)))


def test_a_kernel_that_refuses_runs_gets_every_datagram_singly(relay):
    """UDP_SEGMENT wants checksums: without them the kernel refuses the whole run (udp(7))."""
    here = relay()
    here.other.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    payloads = [bytes([0x80, number]) * 300 for number in range(20)]
    for _ in range(2):  # refused, and then remembered
        here.link.send([((here.end, 0, raw_client(CLIENT)), payload, False) for payload in payloads])
        found: list[bytes] = []
        while len(found) < len(payloads):
            found += [record.payload for record in here.receive()[1]]
        assert found == payloads


@pytest.mark.parametrize("size", [0, 2049, 70_000])
def test_a_payload_that_no_record_carries_is_refused_before_anything_leaves(relay, size):
    """An empty record would be read as the end of its datagram, a long one would not fit the buffer."""
    here = relay()
    path = (here.end, 0, raw_client(CLIENT))
    with pytest.raises(ValueError, match=rf"1\.\.2048 bytes, not {size}"):
        here.link.send([(path, b"\x80good", False), (path, bytes(size), False)])
    here.link.send([(path, b"\x80" * 2048, False)])
    assert [record.payload for record in here.receive()[1]] == [b"\x80" * 2048]


def test_an_address_is_sixteen_bytes(relay):
    here = relay()
    short = (bytes(4), 9, 4)
    with pytest.raises(ValueError, match="16 bytes"):
        here.link.send([((here.end, 0, short), b"\x80", False)])
    with pytest.raises(ValueError, match="16 bytes"):
        here.link.send_flow_closed(here.end, 0, short)
    with pytest.raises(ValueError, match="16 bytes"):
        here.link.add_relay(short)


def test_the_key_to_sign_with_must_be_one_of_the_keys(relay):
    with pytest.raises(ValueError, match="key_id 0 is none of keys"):
        relay({1: KEY})


def test_what_the_kernel_does_not_take_is_counted(relay):
    made = relay()
    path = (made.end, 0, (CLIENT.address16, CLIENT.port, 4))
    made.other.close()
    made.link.send([(path, bytes(1000), True)] * 3)
    assert made.link.dropped == {"send_failed": 3}
