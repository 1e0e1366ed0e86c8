"""Backends: the few that are configured (indices below FP_BACKENDS) and the many address:port targets
that routes name inside a configured backend's `allow` networks (servers with a port per session).

Workers read entries by index without a lock: `state` is written last when an entry appears, and an
index is used again only long after nothing has named it.
"""
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from fastpath.address cimport endpoint_equal
from fastpath.atomic cimport load_acquire_u32, store_release_u32
from fastpath.layout cimport (
    FP_BACKEND_down, FP_BACKEND_draining, FP_BACKEND_free, FP_BACKEND_gone, FP_BACKEND_up, FP_BACKENDS,
    FP_NONE, FP_PLAIN, FP_TRUNK, fp_backend, fp_endpoint)
from fastpath.siphash cimport siphash

UP, DRAINING, DOWN = FP_BACKEND_up, FP_BACKEND_draining, FP_BACKEND_down
TRUNK, PLAIN = FP_TRUNK, FP_PLAIN
BACKENDS = FP_BACKENDS
STATES = {
    FP_BACKEND_up: "up", FP_BACKEND_draining: "draining", FP_BACKEND_down: "down", FP_BACKEND_gone: "gone"}


cdef uint8_t[16] NO_KEY          # zeros


cdef uint32_t backends_by_token(const backend_table *table, uint16_t cluster, uint16_t xcvr,
                                uint8_t incarnation) noexcept nogil:
    """The registered transceiver a token names; FP_NONE when it, or this incarnation, is not here."""
    cdef uint32_t index
    cdef const fp_backend *entry
    for index in range(FP_BACKENDS):
        entry = &table.entries[index]
        if entry.xcvr == xcvr and entry.cluster == cluster and entry.has_xcvr:
            if (entry.incarnation == incarnation
                    and FP_BACKEND_free < load_acquire_u32(&entry.state) < FP_BACKEND_gone):
                return index
    return FP_NONE


cdef uint32_t backends_by_address(const backend_table *table, const fp_endpoint *address) noexcept nogil:
    """The configured trunk backend at this address:port; FP_NONE for a stranger."""
    cdef uint32_t index
    cdef const fp_backend *entry
    for index in range(FP_BACKENDS):
        entry = &table.entries[index]
        if entry.mode == FP_TRUNK and endpoint_equal(&entry.address, address):
            if FP_BACKEND_free < load_acquire_u32(&entry.state) < FP_BACKEND_gone:
                return index
    return FP_NONE


cdef uint32_t backends_by_hash(const backend_table *table, const uint8_t *ufrag,
                               size_t length) noexcept nogil:
    """Rendezvous hashing over the configured backends that are up: the highest weight wins, so one that
    comes or goes moves only the ufrags it wins or loses. The key is zero, so that all relays agree."""
    cdef uint64_t pair[2]
    cdef uint64_t weight, best = 0
    cdef uint32_t index, winner = FP_NONE
    pair[1] = siphash(NO_KEY, ufrag, length)
    for index in range(FP_BACKENDS):
        if load_acquire_u32(&table.entries[index].state) == FP_BACKEND_up:
            pair[0] = table.entries[index].name_hash
            weight = siphash(NO_KEY, <const uint8_t *>pair, sizeof(pair))
            if winner == FP_NONE or weight > best:
                best = weight
                winner = index
    return winner


cdef class Backends:
    """The control plane's handle. Addresses are 16 bytes (IPv4: 4 and twelve zeros), family 4 or 6."""

    cdef fp_endpoint endpoint(self, bytes address16, uint16_t port, uint8_t family) except *:
        cdef fp_endpoint address
        if len(address16) != 16 or family not in (4, 6):
            raise ValueError("an address is 16 bytes with family 4 or 6")
        memset(&address, 0, sizeof(address))
        memcpy(address.address, <const char *>address16, 16)
        address.port = port
        address.family = family
        return address

    def publish(self, uint32_t index, bytes address16, uint16_t port, uint8_t family, uint8_t mode,
                uint64_t name_hash, *, uint16_t cluster=0, uint16_t xcvr=0, uint8_t incarnation=0,
                bint has_xcvr=False, bint keyed=False, uint32_t state=FP_BACKEND_up):
        """Enter a configured backend at `index` (below BACKENDS), which must be free or removed."""
        cdef fp_backend *entry
        if index >= FP_BACKENDS:
            raise ValueError(f"configured backends have indices 0..{FP_BACKENDS - 1}")
        entry = &self.table.entries[index]
        store_release_u32(&entry.state, FP_BACKEND_free)
        entry.parent = index
        entry.born += 1
        entry.address = self.endpoint(address16, port, family)
        entry.cluster, entry.xcvr, entry.incarnation = cluster, xcvr, incarnation
        entry.has_xcvr, entry.keyed = <uint8_t>has_xcvr, <uint8_t>keyed
        entry.mode, entry.name_hash = mode, name_hash
        store_release_u32(&entry.state, state)

    def set_state(self, uint32_t index, uint32_t state):
        """UP, DRAINING or DOWN; established flows are never moved by it."""
        store_release_u32(&self.table.entries[index].state, state)

    def set_identity(self, uint32_t index, uint16_t cluster, uint16_t xcvr, uint8_t incarnation):
        """What tokens must name; a restarted transceiver comes back with a new incarnation."""
        cdef fp_backend *entry = &self.table.entries[index]
        entry.cluster, entry.xcvr, entry.incarnation = cluster, xcvr, incarnation
        entry.has_xcvr = 1

    def remove(self, uint32_t index):
        """No new flows and no records from it; live flows keep forwarding until they expire."""
        store_release_u32(&self.table.entries[index].state, FP_BACKEND_gone)

    def target(self, uint32_t parent, bytes address16, uint16_t port, uint8_t family, uint32_t now_s):
        """Index of the address:port target under a configured plain backend; -1: targets_max are in use."""
        cdef fp_endpoint address = self.endpoint(address16, port, family)
        cdef fp_backend *entry
        cdef uint32_t index
        key = (address16, port, family)
        if key in self.targets:
            self.table.entries[<uint32_t>self.targets[key]].touched_s = now_s
            return self.targets[key]
        if self.free:
            index = self.free.pop(0)
        elif self.used < self.table.capacity:
            index = self.used
            self.used += 1
        else:
            return -1
        entry = &self.table.entries[index]
        memset(entry, 0, sizeof(fp_backend))
        entry.parent = parent
        entry.address = address
        entry.mode = FP_PLAIN
        entry.touched_s = now_s
        store_release_u32(&entry.state, FP_BACKEND_up)
        self.targets[key] = index
        return index

    def touch(self, uint32_t index, uint32_t now_s):
        self.table.entries[index].touched_s = now_s

    def sweep(self, uint32_t now_s, uint32_t idle_s):
        """Free targets that nothing has named for `idle_s`; gives how many."""
        cdef int released = 0
        cdef fp_backend *entry
        for key, index in list(self.targets.items()):
            entry = &self.table.entries[<uint32_t>index]
            if <int32_t>(now_s - entry.touched_s) >= <int32_t>idle_s:
                store_release_u32(&entry.state, FP_BACKEND_free)
                del self.targets[key]
                self.free.append(index)
                released += 1
        return released

    def adopt(self):
        """Find the targets that an engine before this one had made."""
        cdef uint32_t index
        cdef fp_backend *entry
        self.targets, self.free, self.used = {}, [], FP_BACKENDS
        for index in range(FP_BACKENDS, self.table.capacity):
            entry = &self.table.entries[index]
            if entry.state != FP_BACKEND_free:
                self.targets[entry.address.address[:16], entry.address.port, entry.address.family] = index
                self.used = index + 1
        taken = set(self.targets.values())
        self.free = [index for index in range(FP_BACKENDS, self.used) if index not in taken]

    def rows(self):
        """Every entry in use: index, parent, state, mode, address16, port, family, cluster, xcvr,
        incarnation and has_xcvr."""
        cdef uint32_t index
        cdef const fp_backend *entry
        rows = []
        for index in range(self.used):
            entry = &self.table.entries[index]
            if entry.state != FP_BACKEND_free:
                rows.append(dict(
                    index=index, parent=entry.parent, state=STATES[entry.state],
                    mode="trunk" if entry.mode == FP_TRUNK else "plain",
                    address16=entry.address.address[:16],
                    port=entry.address.port, family=entry.address.family,
                    cluster=entry.cluster, xcvr=entry.xcvr, incarnation=entry.incarnation,
                    has_xcvr=bool(entry.has_xcvr)))
        return rows
