"""The two sockets: records of the trunk as paths, plain datagrams as paths, errors that say what to do."""

import socket

import pytest

from pyfastpath.errors import SocketError
from pyfastpath.transceiver.path import client_of
from pyfastpath.transceiver.sockets import PlainSocket, TrunkSocket
from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk
from pyfastpath.wire.trunk import FlowClosed, Header, Record, State

LOOPBACK = Endpoint.parse("127.0.0.1:0")
KEY = bytes(range(16))
CLIENT = Endpoint.parse("203.0.113.9:54321")


@pytest.fixture
def relay():
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind(("127.0.0.1", 0))
    end.settimeout(5)
    yield end
    end.close()


@pytest.fixture
def ours(relay):
    port = relay.getsockname()[1]
    made = TrunkSocket(
        LOOPBACK, [Endpoint.parse(f"127.0.0.1:{port}")], keys={0: KEY}, key_id=0, epoch=7, mtu_bytes=1400
    )
    yield made
    made.close()


def up(relay, ours, *records, sequence=1, key=KEY):
    tagged = trunk.direction_key(key, "up")
    datagram = trunk.build_datagram(Header(1, sequence, True, 0), records, tagged)
    relay.sendto(datagram, (str(ours.address.address), ours.address.port))


def down(relay):
    datagram = relay.recv(2048)
    assert trunk.tag_holds(trunk.direction_key(KEY, "down"), datagram)
    return list(trunk.parse_records(datagram[: -trunk.TAG_BYTES]))


def test_a_record_is_a_datagram_with_its_path_and_goes_back_on_it(relay, ours):
    up(relay, ours, Record(client=CLIENT, ingress=3, payload=b"hello"))
    ((data, path, _),) = ours.receive()
    assert (data, client_of(path), path[1]) == (b"hello", CLIENT, 3)
    assert str(Endpoint.from_address16(*path[0])) == f"127.0.0.1:{relay.getsockname()[1]}"
    ours.send([(path, b"there", True), (path, b"again", False)])
    first, second = down(relay)
    assert (first.payload, first.client, first.ingress, first.confirmed) == (b"there", CLIENT, 3, True)
    assert (second.payload, second.confirmed) == (b"again", False)


def test_what_a_relay_is_told(relay, ours):
    ours.send_state(state=2, incarnation=5, cluster=1, xcvr=9, sessions=3, capacity=8)
    (record,) = down(relay)
    assert trunk.parse_control(record.payload) == State(2, 5, 1, 9, 3, 8)
    ours.send_flow_closed((ours.relays[0], 3, (CLIENT.address16, CLIENT.port, 4)))
    (record,) = down(relay)
    assert isinstance(trunk.parse_control(record.payload), FlowClosed)
    assert (record.client, record.ingress) == (CLIENT, 3)


def test_a_strangers_trunk_is_not_believed(relay, ours):
    up(relay, ours, Record(client=CLIENT, ingress=0, payload=b"forged"), key=bytes(16))
    assert ours.receive() == []
    assert ours.dropped == {"bad_tag": 1}


def test_plain_datagrams_have_a_path_without_relay():
    ours = PlainSocket(LOOPBACK)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(5)
        client.sendto(b"hello", (str(ours.address.address), ours.address.port))
        ((data, path, _),) = ours.receive()
        assert (data, path[0], client_of(path).port) == (b"hello", None, client.getsockname()[1])
        ours.send([(path, b"there", True), (path, bytes(70_000), True)])
        assert client.recv(2048) == b"there"
    assert ours.dropped == {"send_failed": 1}
    assert ours.receive() == []
    ours.close()


def test_a_taken_port_is_said_with_its_address():
    ours = PlainSocket(LOOPBACK)
    with pytest.raises(SocketError, match=f"cannot bind UDP {ours.address}"):
        PlainSocket(ours.address)
    ours.close()
