"""What a transceiver says of itself, to registries and on the trunk."""

import asyncio
import socket
import time

import pytest

from pyfastpath.transceiver.member import Member
from pyfastpath.transceiver.requests import CreateSession
from pyfastpath.transceiver.sockets import TrunkSocket
from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk as wire
from tests.support.rtc_client import RtcClient
from tests.support.transceiver import LOOPBACK, open_endpoint


def member() -> Member:
    return Member("t1", 5, 7, 3, "unix:/run/t1.sock")


async def test_the_record_follows_the_endpoint() -> None:
    one = member()
    async with open_endpoint(capacity=4) as endpoint:
        record = one.record(endpoint)
        assert (record.id, record.cluster, record.xcvr, record.incarnation) == ("t1", 5, 7, 3)
        assert (record.state, record.sessions, record.capacity) == ("up", 0, 4)
        endpoint.create(CreateSession(1, "rtc_1", "ufrag1", RtcClient().offer(), ()))
        assert one.record(endpoint).sessions == 1
        endpoint.is_draining = True
        assert one.record(endpoint).state == "draining"
        one.is_stopping = True
        assert one.record(endpoint).state == "stopping"


@pytest.mark.parametrize(("draining", "stopping", "number"), [(0, 0, 1), (1, 0, 2), (0, 1, 3), (1, 1, 3)])
async def test_relays_get_it_as_a_state_record(draining: bool, stopping: bool, number: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(5)
        where = Endpoint.parse(f"127.0.0.1:{relay.getsockname()[1]}")
        trunk = TrunkSocket(LOOPBACK, [where], keys={}, key_id=0, epoch=9, mtu_bytes=1400)
        async with open_endpoint(capacity=4, trunk=trunk) as endpoint:
            one = member()
            endpoint.is_draining, one.is_stopping = bool(draining), bool(stopping)
            one.tell_relays(endpoint)
            await asyncio.sleep(0)
            datagram = relay.recv(2048)
    (record,) = wire.parse_records(datagram)
    assert isinstance(record, wire.Record)
    assert record.control
    assert wire.parse_control(record.payload) == wire.State(number, 3, 5, 7, 0, 4)
    assert wire.parse_header(datagram).epoch == 9


async def test_without_a_trunk_nobody_is_told() -> None:
    async with open_endpoint() as endpoint:
        before = time.monotonic()
        member().tell_relays(endpoint)
        assert time.monotonic() >= before
