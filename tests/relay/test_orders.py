"""Keeper and engine understand each other, also across versions."""

import os
import socket

import msgspec
import pytest

from pyfastpath.relay import orders


@pytest.mark.parametrize(
    "message",
    [orders.Ready(layout=3, version="1.2"), orders.Started(), orders.Released(), orders.Upgrade()],
)
def test_news_arrive(message: orders.News) -> None:
    keeper, engine = orders.pair()
    with keeper, engine:
        orders.send(engine, message)
        assert orders.receive_news(keeper) == (message, [])


@pytest.mark.parametrize(
    "message",
    [orders.Go(), orders.Signalled(15), orders.Release(export=True), orders.Upgraded(False, "why")],
)
def test_orders_arrive(message: orders.Order) -> None:
    keeper, engine = orders.pair()
    with keeper, engine:
        orders.send(keeper, message)
        assert orders.receive_order(engine) == (message, [])


def test_descriptors_come_along() -> None:
    keeper, engine = orders.pair()
    read_fd, write_fd = os.pipe()
    with keeper, engine:
        orders.send(keeper, orders.Go(), (write_fd,))
        os.close(write_fd)
        heard = orders.receive_order(engine)
        assert heard is not None
        (theirs,) = heard[1]
        assert not os.get_inheritable(theirs)
        os.write(theirs, b"x")
        os.close(theirs)
        assert os.read(read_fd, 2) == b"x"
    os.close(read_fd)


def test_what_another_version_says_beside_is_ignored() -> None:
    keeper, engine = orders.pair()
    with keeper, engine:
        engine.send(msgspec.json.encode({"type": "ready", "layout": 1, "version": "9", "mood": "good"}))
        engine.send(msgspec.json.encode({"type": "song", "text": "la"}))
        assert orders.receive_news(keeper) == (orders.Ready(1, "9"), [])
        assert orders.receive_news(keeper) == (None, [])


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff\0", b"{}", b"[]", b'"\xff"', b'{"type":"ready"', b'{"type":"ready","x":' + b"[" * 50_000],
)
def test_nonsense_ends_nobody_and_leaves_nothing_open(nonsense: bytes) -> None:
    keeper, engine = orders.pair()
    read_fd, write_fd = os.pipe()
    with keeper, engine:
        socket.send_fds(engine, [nonsense], [write_fd])
        os.close(write_fd)
        assert orders.receive_news(keeper) == (None, [])
        assert os.read(read_fd, 1) == b""  # nobody holds the other end any more
    os.close(read_fd)


def test_nobody_hangs_because_the_other_one_does() -> None:
    keeper, engine = orders.pair()
    with keeper, engine:
        said = 0
        while orders.send(keeper, orders.Signalled(1)):
            said += 1
            assert said < 10_000
        assert said > 10
        for _ in range(said):
            assert orders.receive_order(engine) == (orders.Signalled(1), [])
        assert orders.send(keeper, orders.Go())


def test_whoever_is_gone_hears_nothing_and_says_nothing() -> None:
    keeper, engine = orders.pair()
    with keeper:
        engine.close()
        orders.send(keeper, orders.Go())
        assert orders.receive_news(keeper) is None


def test_one_that_died_with_orders_unread_is_gone_too() -> None:
    keeper, engine = orders.pair()
    with keeper:
        orders.send(keeper, orders.Go())
        engine.close()
        assert orders.receive_news(keeper) is None
    assert isinstance(keeper, socket.socket)
