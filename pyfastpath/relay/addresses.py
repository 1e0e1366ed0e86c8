"""The machine's own IP addresses, asked from the kernel (rtnetlink(7)): what a wildcard listener serves."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from pyfastpath.types import IPAddress

# Linux numbers (uapi/linux/{rtnetlink,if_addr}.h).
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_REQUEST_DUMP: Final = 0x301
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_UNUSABLE: Final = 0x08 | 0x40  # duplicate address detection failed, or has not ended
_HEADER: Final = struct.Struct("=IHHII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")


def machine_addresses(family: int) -> list[IPAddress]:
    """Every usable address of the family (4 or 6), in the kernel's order, without IPv6 link-local ones.

    Link-local addresses are left out because a candidate cannot carry the zone they need.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        number = socket.AF_INET if family == 4 else socket.AF_INET6
        length = _HEADER.size + _ADDRESS.size
        sock.send(
            _HEADER.pack(length, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + _ADDRESS.pack(number, 0, 0, 0, 0)
        )
        found = list(_dump(sock))
    return [address for address in found if not (address.version == 6 and address.is_link_local)]


def _dump(sock: socket.socket) -> Iterator[IPAddress]:
    while True:
        data = sock.recv(1 << 16)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, offset)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                return
            if kind == _RTM_NEWADDR:
                yield from _address(data[offset + _HEADER.size : offset + length])
            offset += (length + 3) & ~3


def _address(message: bytes) -> Iterator[IPAddress]:
    family, _, flags, _, _ = _ADDRESS.unpack_from(message)
    if flags & _UNUSABLE:
        return
    attributes: dict[int, bytes] = {}
    offset = _ADDRESS.size
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < _ATTRIBUTE.size:
            break
        attributes[kind] = message[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    # On a point-to-point link IFA_ADDRESS is the other end's; IFA_LOCAL, where there is one, is ours.
    raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
    if raw is not None:
        yield IPv4Address(raw) if family == socket.AF_INET else IPv6Address(raw)
