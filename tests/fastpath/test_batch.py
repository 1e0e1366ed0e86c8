"""Batches over real sockets: what comes with a datagram, what goes with it, and what the kernel refuses."""

import errno
import os
import socket
from typing import Any

import pytest
from fastpath._testing.batches import ReceiveBatch, SendBatch

from tests.support.rig import DEFAULT_TOS, address16, udp, until

FAMILIES = pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
BATCH, BUFFER_BYTES, NAME_BYTES, CONTROL_BYTES = 64, 2048, 32, 128
SO_TIMESTAMPNS = 35
IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
LEVELS = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}


def name(sock: socket.socket) -> tuple[bytes, int, int]:
    ip, port = sock.getsockname()[:2]
    return address16(ip), port, 6 if ":" in ip else 4


def arrived(batch: ReceiveBatch, sock: socket.socket, wanted: int) -> list[dict[str, Any]]:
    """Receive until so many messages are in hand."""

    def enough() -> bool:
        batch.receive(sock.fileno(), 7)
        return len(batch.messages()) >= wanted

    until(enough, f"{wanted} messages")
    return batch.messages()


# ---- receive ----------------------------------------------------------------------------------------------


@FAMILIES
def test_a_message_comes_with_all_that_is_known_of_it(ip: str) -> None:
    here, there = udp(ip), udp(ip)
    here.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    if ":" in ip:
        here.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    else:
        here.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    there.setsockopt(*LEVELS[name(there)[2]], 46 << 2 | 3)
    there.sendto(b"hello", here.getsockname())
    (message,) = arrived(ReceiveBatch(), here, 1)
    assert message.pop("stamp_ns") > 1_700_000_000_000_000_000
    assert message == {
        "data": b"hello",
        "source": 7,
        "ecn": 3,
        "truncated": False,
        "segment_bytes": 0,
        "local": (address16(ip), 6 if ":" in ip else 4),
        "sender": name(there),
    }


def test_a_batch_fills_over_several_receives_and_keeps_who_sent_what() -> None:
    four, six, there4, there6 = udp("127.0.0.1"), udp("::1"), udp("127.0.0.1"), udp("::1")
    batch = ReceiveBatch()
    for turn in range(3):
        there4.sendto(b"four%d" % turn, four.getsockname())
        there6.sendto(b"six%d" % turn, six.getsockname())
        arrived(batch, four, 2 * turn + 1)
        arrived(batch, six, 2 * turn + 2)
    came = [message["data"] for message in batch.messages()]
    assert came == [b"four0", b"six0", b"four1", b"six1", b"four2", b"six2"]
    assert {message["sender"] for message in batch.messages()[::2]} == {name(there4)}
    assert {message["sender"] for message in batch.messages()[1::2]} == {name(there6)}


def test_a_full_batch_takes_no_more_and_the_rest_waits() -> None:
    here, there = udp("127.0.0.1"), udp("127.0.0.1")
    for number in range(BATCH + 6):
        there.sendto(bytes([number]), here.getsockname())
    batch = ReceiveBatch()
    assert len(arrived(batch, here, BATCH)) == BATCH
    assert batch.receive(here.fileno()) == 0
    batch.settle()
    assert [message["data"][0] for message in arrived(batch, here, 6)] == list(range(BATCH, BATCH + 6))


@pytest.mark.parametrize("size", [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1])
def test_what_is_longer_than_a_buffer_says_so(size: int) -> None:
    here, there = udp("127.0.0.1"), udp("127.0.0.1")
    there.sendto(os.urandom(size), here.getsockname())
    (message,) = arrived(ReceiveBatch(), here, 1)
    assert (len(message["data"]), message["truncated"]) == (min(size, BUFFER_BYTES), size > BUFFER_BYTES)


def test_an_empty_queue_gives_nothing_at_once() -> None:
    assert ReceiveBatch().receive(udp("127.0.0.1").fileno()) == 0


def test_the_kernel_joins_datagrams_and_says_of_what_size_they_were() -> None:
    here, there = udp("127.0.0.1", gro=True), udp("127.0.0.1")
    out = SendBatch()
    out.compose(b"x" * 1250, name(here), segment_bytes=500)
    assert out.send(there.fileno()) == [0]
    (message,) = arrived(ReceiveBatch(trunk=True), here, 1)
    assert (len(message["data"]), message["segment_bytes"]) == (1250, 500)


# ---- what the next engine finds -----------------------------------------------------------------------


def test_what_is_received_and_not_done_is_owed_and_every_other_slot_is_ready() -> None:
    here, there = udp("127.0.0.1"), udp("127.0.0.1")
    for number in range(6):
        there.sendto(bytes([number]) * 10, here.getsockname())
    batch = ReceiveBatch()
    arrived(batch, here, 6)
    for index, done in {0: 10, 1: 9, 3: 10, 4: 10, 5: 10}.items():
        batch.note_done(index, done)
    assert batch.attach_again() == (2, 3), "two are owed, in the first three slots"
    owed = [message["data"] for message in batch.messages()]
    assert owed == [b"", bytes([1]) * 10, bytes([2]) * 10]
    ready = (0, NAME_BYTES, CONTROL_BYTES, 0)
    assert [room == ready for room in batch.room()] == [True, False, False] + [True] * (BATCH - 3)
    batch.settle()
    assert set(batch.room()) == {ready}
    assert batch.attach_again() == (0, 0)


# ---- send -------------------------------------------------------------------------------------------------


@FAMILIES
def test_a_message_leaves_with_its_marks_and_its_source(ip: str) -> None:
    here, there = udp(ip), udp("::" if ":" in ip else "0.0.0.0")
    family = 6 if ":" in ip else 4
    other = (address16("::1" if family == 6 else "127.0.0.5"), 0, family)
    out = SendBatch()
    out.compose(b"plain", name(here), local=other)
    out.compose(b"marked", (*name(here), 3), tos=10 << 2 | 1, local=other)
    assert out.send(there.fileno()) == [0, 0]
    seen = []
    for _ in range(2):
        data, control, _, source = here.recvmsg(100, 200)
        marks = [value[0] for level, kind, value in control if (level, kind) == LEVELS[family]]
        seen.append((data, marks, address16(source[0])))
    assert seen == [(b"plain", [DEFAULT_TOS], other[0]), (b"marked", [10 << 2 | 1], other[0])]


def test_what_the_kernel_refuses_is_passed_over_and_named() -> None:
    here, there = udp("127.0.0.1"), udp("127.0.0.1")
    out = SendBatch()
    out.compose(b"first", name(here))
    out.compose(b"x" * 65_508, name(here))  # longer than any UDP datagram
    out.compose(b"six", (address16("::1"), 9, 6))  # not this socket's family
    out.compose(b"last", name(here))
    outcome = out.send(there.fileno())
    assert outcome[0] == outcome[3] == 0
    assert outcome[1] == errno.EMSGSIZE
    assert outcome[2] in {errno.EAFNOSUPPORT, errno.EINVAL}
    assert [here.recv(100), here.recv(100)] == [b"first", b"last"]
    assert out.send(there.fileno()) == [], "the batch is empty again"


def test_a_closed_socket_refuses_every_message() -> None:
    out = SendBatch()
    for _ in range(3):
        out.compose(b"x", (address16("127.0.0.1"), 9, 4))
    assert out.send(-1) == [errno.EBADF] * 3


def test_a_run_is_cut_into_equal_segments_the_last_may_be_shorter() -> None:
    here, there = udp("127.0.0.1"), udp("127.0.0.1")
    out = SendBatch()
    out.compose(b"abcdefgh", name(here), segment_bytes=3)
    assert out.send(there.fileno()) == [0]
    assert [here.recv(100) for _ in range(3)] == [b"abc", b"def", b"gh"]
