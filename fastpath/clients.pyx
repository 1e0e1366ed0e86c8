"""The clients of a load run, checked and packed: from here on a flow is a number."""

import socket as sockets_of

from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport calloc, free

from fastpath.linux cimport AF_INET, sockaddr_in
from fastpath.probe cimport PROBE_BYTES

DATAGRAM_BYTES_MAX = 2048
SOCKETS_MAX = 64


cdef class Clients:
    """`flows` flows and where they send to.

    target         (address, port), IPv4, or a list of them, one a flow
    first_source   source address of the first flow; flow i has first_source + i // sockets
    sockets        how many source ports the flows are spread over, 1..64
    size_bytes     of a probe, 32..2048; size_spread: sizes vary by up to this much either way
    turn_numbers   the TURN number of each flow (RFC 8656 section 12: 0x4000..0x7fff), when each datagram
                   travels behind a number and a length
    """

    def __cinit__(self, uint32_t flows, target, *, first_source="127.1.0.1", int sockets=1,
                  int size_bytes=172, int size_spread=0, turn_numbers=None):
        cdef clients *c
        if not (PROBE_BYTES <= size_bytes - size_spread <= size_bytes
                and size_bytes + size_spread <= DATAGRAM_BYTES_MAX):
            spread = f" with size_spread {size_spread}" if size_spread else ""
            raise ValueError(
                f"size_bytes is {size_bytes}{spread}: choose {PROBE_BYTES}..{DATAGRAM_BYTES_MAX}, spread included")
        if not 1 <= sockets <= min(SOCKETS_MAX, flows):
            raise ValueError(f"{sockets} sockets for {flows} flows: choose 1..{SOCKETS_MAX}, at most one a flow")
        self.state = c = <clients *>calloc(1, sizeof(clients))
        if c == NULL:
            raise MemoryError("no memory for clients")
        c.flows, c.sockets = flows, <uint32_t>sockets
        c.size_bytes, c.size_spread = <uint32_t>size_bytes, <uint32_t>size_spread
        c.first_address = int.from_bytes(sockets_of.inet_aton(first_source), "big")
        self.set_targets(target)
        if turn_numbers is not None:
            self.set_turn_numbers(turn_numbers)

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

    def __dealloc__(self):
        if self.state != NULL:
            free(self.state.targets)
            free(self.state.turn_numbers)
            free(self.state)
