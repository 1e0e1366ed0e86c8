"""What a keeper and its engines say to each other, one message a datagram of a SOCK_SEQPACKET pair.

An engine of another version than its keeper's may be at the other end (upgrade), so messages are JSON, fields
that one does not know are ignored, and so are whole messages. Descriptors travel beside a message
(SCM_RIGHTS).
"""

import os
import socket
from array import array
from collections.abc import Iterable
from typing import Final, TypeAlias, TypeVar

import msgspec

DESCRIPTORS_MAX: Final = 128  # beside one message: the regions of 64 shards, and some
MESSAGE_BYTES_MAX: Final = 65_536


class Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower):
    """The base of all of them; `type` is the name of the class in lower case."""


# ---- from an engine -------------------------------------------------------------------------------


class Ready(Message, frozen=True):
    """Everything is imported; it waits for Go. layout: of the tables it works on."""

    layout: int
    version: str


class Started(Message, frozen=True):
    """It forwards. With descriptors: the shared region and every shard's, which it made from an export."""


class Released(Message, frozen=True):
    """Its workers have stopped, nothing is in hand, and it touches nothing any more.

    With a descriptor: the export of its tables that was asked for.
    """


class Alive(Message, frozen=True):
    """Every worker has gone round since the last time. text: what they do, in words, for an operator."""

    text: str


class Reloaded(Message, frozen=True):
    """It has followed the file, or refused to: the SIGHUP it was told of is dealt with."""


class Upgrade(Message, frozen=True):
    """An operator wants the version that is installed now."""


# ---- from the keeper ------------------------------------------------------------------------------


class Go(Message, frozen=True):
    """Take over. With a descriptor: make new tables from this export."""


class Signalled(Message, frozen=True):
    """The keeper got this signal."""

    number: int


class Release(Message, frozen=True):
    """Stop and let another engine go on. export: leave the tables in a form that other layouts can read."""

    export: bool


class Upgraded(Message, frozen=True):
    """How the last upgrade ended."""

    done: bool
    text: str


News: TypeAlias = Ready | Started | Released | Alive | Reloaded | Upgrade
Order: TypeAlias = Go | Signalled | Release | Upgraded

Heard = TypeVar("Heard", News, Order)

_news: "msgspec.json.Decoder[News]" = msgspec.json.Decoder(News)
_orders: "msgspec.json.Decoder[Order]" = msgspec.json.Decoder(Order)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends, (keeper's, engine's)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> bool:
    """Say something; False when it will not be heard.

    Whoever is gone hears nothing: the next receive tells. Nor does whoever has not listened for so long that
    the kernel takes no more: neither side may hang because the other one does.
    """
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
    try:
        end.sendmsg([msgspec.json.encode(message)], beside, socket.MSG_DONTWAIT)  # send_fds drops its flags
    except OSError:
        return False
    return True


def receive_news(end: socket.socket) -> tuple[News | None, list[int]] | None:
    """What an engine says, with its descriptors (the caller's from now on); None when it is gone."""
    return _receive(end, _news)


def receive_order(end: socket.socket) -> tuple[Order | None, list[int]] | None:
    """What the keeper says; None when it is gone, or wants no more of this engine."""
    return _receive(end, _orders)


def _receive(
    end: socket.socket, decoder: "msgspec.json.Decoder[Heard]"
) -> tuple[Heard | None, list[int]] | None:
    try:
        data, descriptors, _, _ = socket.recv_fds(end, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
    except ConnectionResetError:
        return None
    for fd in descriptors:
        os.set_inheritable(fd, False)  # recv_fds of Python 3.11 drops the flag that would do it
    if not data:
        return None
    try:
        return decoder.decode(data), descriptors
    except (msgspec.DecodeError, RecursionError):  # of a version that knows more, or is broken
        close_all(descriptors)
        return None, []


def close_all(descriptors: Iterable[int]) -> None:
    """Nobody wants what came beside a message."""
    for fd in descriptors:
        os.close(fd)
