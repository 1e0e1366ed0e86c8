"""The clients of a load run, checked and packed: from here on a flow is a number."""

import os
import socket as sockets_of

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastpath.linux cimport AF_INET, sockaddr_in
from fastpath.load.probe cimport PROBE_BYTES
from fastpath.load.sha1 cimport SHA1_BLOCK_BYTES, hmac_sha1, hmac_sha1_prepare
from fastpath.stun cimport crc32

DATAGRAM_BYTES_MAX = 2048
SOCKETS_MAX = 64


cdef inline void put_u16(uint8_t *out, size_t value) noexcept nogil:
    out[0] = <uint8_t>(value >> 8)
    out[1] = <uint8_t>value


cdef inline size_t put_attribute(uint8_t *out, size_t at, size_t kind, const void *value,
                                 size_t length) noexcept nogil:
    """Writes an attribute with its padding (RFC 8489 section 14) at offset `at`; where the next one goes."""
    put_u16(out + at, kind)
    put_u16(out + at + 2, length)
    memcpy(out + at + 4, value, length)
    at += 4 + length
    while at & 3:
        out[at] = 0
        at += 1
    return at


cdef size_t client_request(const clients *c, uint32_t flow, uint8_t *out) noexcept nogil:
    """Writes a flow's Binding Request as a controlling agent sends it (RFC 8445 section 7.1), at most
    CLIENT_REQUEST_BYTES: the fast twin of fastpath.load.generator.binding_request."""
    cdef uint8_t username[CLIENT_UFRAG_BYTES + 6]
    cdef uint8_t digest[20]
    cdef uint8_t fingerprint[4]
    cdef size_t ufrag_bytes = c.ufrag_offsets[flow + 1] - c.ufrag_offsets[flow], at
    cdef uint32_t crc
    memcpy(out, b"\x00\x01\x00\x00\x21\x12\xa4\x42", 8)
    client_transaction(c, flow, out + 8)
    memcpy(username, c.ufrags + c.ufrag_offsets[flow], ufrag_bytes)
    memcpy(username + ufrag_bytes, b":bench", 6)
    at = put_attribute(out, 20, 0x0006, username, ufrag_bytes + 6)
    at = put_attribute(out, at, 0x0024, b"\x6e\x7f\x1e\xff", 4)       # PRIORITY of a host candidate
    at = put_attribute(out, at, 0x802a, out + 8, 8)                     # ICE-CONTROLLING
    put_u16(out + 2, at + 24 - 20)
    hmac_sha1(&c.password, out, at, digest)
    at = put_attribute(out, at, 0x0008, digest, 20)
    put_u16(out + 2, at + 8 - 20)
    crc = <uint32_t>crc32(0, out, <unsigned int>at) ^ 0x5354554eu
    put_u16(fingerprint, crc >> 16)
    put_u16(fingerprint + 2, crc)
    return put_attribute(out, at, 0x8028, fingerprint, 4)


def check_sizes(size_bytes: int, size_spread: int) -> None:
    """Refuses probes that are too short to be probes, or longer than any buffer."""
    if not (PROBE_BYTES <= size_bytes - size_spread <= size_bytes
            and size_bytes + size_spread <= DATAGRAM_BYTES_MAX):
        spread = f" with size_spread {size_spread}" if size_spread else ""
        raise ValueError(f"size_bytes is {size_bytes}{spread}: "
                         f"choose {PROBE_BYTES}..{DATAGRAM_BYTES_MAX}, spread included")


cdef class Clients:
    """Flows and where they send to.

    ufrags         the server ufrag of each flow; their number is the number of flows
    target         (address, port), IPv4, or a list of them, one a flow
    first_source   source address of the first flow; flow i has first_source + i // sockets
    sockets        how many source ports the flows are spread over, 1..64
    size_bytes     of a probe, 32..2048; size_spread: sizes vary by up to this much either way
    turn_numbers   the TURN number of each flow (RFC 8656 section 12: 0x4000..0x7fff), when each datagram
                   travels behind a number and a length
    password       of the server, which signs the Binding Requests
    """

    def __cinit__(self, ufrags, target, *, first_source="127.1.0.1", int sockets=1, int size_bytes=172,
                  int size_spread=0, turn_numbers=None, password=b"benchmark-password-22c"):
        cdef clients *c
        cdef uint32_t flows = <uint32_t>len(ufrags)
        check_sizes(size_bytes, size_spread)
        if not 1 <= sockets <= min(SOCKETS_MAX, flows):
            raise ValueError(f"{sockets} sockets for {flows} flows: "
                             f"choose 1..{SOCKETS_MAX}, at most one a flow")
        self.state = c = <clients *>calloc(1, sizeof(clients))
        if c == NULL:
            raise MemoryError("no memory for clients")
        c.flows, c.sockets = flows, <uint32_t>sockets
        c.size_bytes, c.size_spread = <uint32_t>size_bytes, <uint32_t>size_spread
        c.first_address = int.from_bytes(sockets_of.inet_aton(first_source), "big")
        self.set_ufrags(ufrags, password)
        self.set_targets(target)
        if turn_numbers is not None:
            self.set_turn_numbers(turn_numbers)

    cdef set_ufrags(self, ufrags, password):
        cdef clients *c = self.state
        cdef uint32_t flow
        if max(map(len, ufrags)) > CLIENT_UFRAG_BYTES:
            raise ValueError(f"a ufrag of more than {CLIENT_UFRAG_BYTES} bytes")
        if len(password) > SHA1_BLOCK_BYTES:
            raise ValueError(f"a password of {len(password)} bytes: at most {SHA1_BLOCK_BYTES}")
        self.ufrags = b"".join(ufrags)
        c.ufrags = <const uint8_t *><const char *>self.ufrags
        c.ufrag_offsets = <uint32_t *>calloc(<size_t>c.flows + 1, sizeof(uint32_t))
        if c.ufrag_offsets == NULL:
            raise MemoryError(f"no memory for {c.flows} ufrags")
        for flow in range(c.flows):
            c.ufrag_offsets[flow + 1] = c.ufrag_offsets[flow] + <uint32_t>len(ufrags[flow])
        c.seed = int.from_bytes(os.urandom(8), "little")
        hmac_sha1_prepare(&c.password, <const uint8_t *><const char *>password, <size_t>len(password))

    cdef set_targets(self, target):
        cdef clients *c = self.state
        cdef sockaddr_in *name
        listed = target if isinstance(target, list) else [target]
        c.target_step = 1 if isinstance(target, list) else 0
        if c.target_step and len(listed) != c.flows:
            raise ValueError(f"{len(listed)} targets for {c.flows} flows: give one, or one a flow")
        c.targets = <sockaddr_in *>calloc(<size_t>len(listed), sizeof(sockaddr_in))
        if c.targets == NULL:
            raise MemoryError(f"no memory for {len(listed)} targets")
        for i, (host, port) in enumerate(listed):
            name = &c.targets[<size_t>i]
            name.sin_family = AF_INET
            name.sin_port = sockets_of.htons(port)
            name.sin_addr.s_addr = int.from_bytes(sockets_of.inet_aton(host), "little")

    cdef set_turn_numbers(self, numbers):
        cdef clients *c = self.state
        if len(numbers) != c.flows:
            raise ValueError(f"{len(numbers)} TURN numbers for {c.flows} flows: give one a flow")
        c.turn_numbers = <uint16_t *>calloc(c.flows, sizeof(uint16_t))
        if c.turn_numbers == NULL:
            raise MemoryError(f"no memory for {c.flows} TURN numbers")
        for i, number in enumerate(numbers):
            if not 0x4000 <= number <= 0x7FFF:
                raise ValueError(f"TURN number {number:#x} of flow {i}: choose 0x4000..0x7fff")
            c.turn_numbers[<size_t>i] = number
        c.head_bytes = TURN_HEADER_BYTES

    def source(self, uint32_t flow) -> str:
        """Source address of a flow."""
        if flow >= self.state.flows:
            raise IndexError(f"flow {flow} of {self.state.flows}")
        return sockets_of.inet_ntoa(client_source(self.state, flow).to_bytes(4, "big"))

    def request(self, uint32_t flow) -> bytes:
        """A flow's Binding Request."""
        cdef uint8_t made[CLIENT_REQUEST_BYTES]
        if flow >= self.state.flows:
            raise IndexError(f"flow {flow} of {self.state.flows}")
        return made[:<Py_ssize_t>client_request(self.state, flow, made)]

    def __dealloc__(self):
        if self.state != NULL:
            free(self.state.ufrag_offsets)
            free(self.state.targets)
            free(self.state.turn_numbers)
            free(self.state)
