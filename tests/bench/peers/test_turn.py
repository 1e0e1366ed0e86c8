"""TURN as far as the benchmark speaks it, against RFC 8656 and what a server may say or not say."""

import struct

from bench.peers.coturn.turn import ALLOCATE, CHANNEL, CHANNEL_BIND, IN_FLIGHT, RETRY_S, Opening, answered
from pyfastpath.wire.stun import parse_message

BACKEND = ("192.0.2.1", 32853)


def success(request, kind=0x0100):
    method = struct.unpack("!H", request[:2])[0]
    return struct.pack("!HHI", method | kind, 0, 0x2112A442) + request[8:20]


def attributes(request):
    return dict(parse_message(request).attributes)


def test_a_flow_allocates_then_binds_its_channel_then_is_open():
    opening = Opening(1, BACKEND)
    [(flow, request)] = opening.due(0.0)
    assert flow == 0
    assert struct.unpack("!H", request[:2])[0] == ALLOCATE
    opening.take(success(request))
    [(_, bind)] = opening.due(0.0)
    assert struct.unpack("!H", bind[:2])[0] == CHANNEL_BIND
    assert opening.opened == 0
    opening.take(success(bind))
    assert opening.opened == 1
    assert opening.due(10.0) == []


def test_requests_are_stun_messages_with_what_the_rfc_asks_for():
    opening = Opening(1, BACKEND)
    [(_, request)] = opening.due(0.0)
    assert attributes(request)[0x0019] == b"\x11\0\0\0"  # REQUESTED-TRANSPORT: UDP
    opening.take(success(request))
    [(_, bind)] = opening.due(0.0)
    assert attributes(bind)[0x000C] == struct.pack("!HH", CHANNEL, 0)
    # XOR-PEER-ADDRESS of 192.0.2.1:32853, the address of RFC 5769 section 2.2
    assert attributes(bind)[0x0012] == bytes.fromhex("0001a147e112a643")


def test_what_is_not_answered_is_asked_again_with_the_same_transaction():
    opening = Opening(1, BACKEND)
    first = opening.due(0.0)
    assert opening.due(RETRY_S / 2) == []
    assert opening.due(RETRY_S) == first


def test_only_so_many_are_in_flight():
    opening = Opening(IN_FLIGHT + 1, BACKEND)
    asked = opening.due(0.0)
    assert len(asked) == IN_FLIGHT
    opening.take(success(asked[0][1]))
    [(_, bind)] = opening.due(0.0)
    opening.take(success(bind))
    assert [flow for flow, _ in opening.due(0.0)] == [IN_FLIGHT]


def test_an_answer_counts_once_and_only_to_what_was_asked():
    opening = Opening(2, BACKEND)
    (_, mine), (_, other) = opening.due(0.0)
    opening.take(success(mine, kind=0x0110))  # an error response
    opening.take(b"\x40\x00\x00\x04abcd")  # ChannelData
    opening.take(success(mine[:12] + b"else" + mine[16:]))  # somebody else's salt
    assert opening.due(0.0) == []
    opening.take(success(mine))
    opening.take(success(mine))
    assert [flow for flow, _ in opening.due(0.0)] == [0]
    assert answered(success(other)) == (ALLOCATE, other[8:20])
