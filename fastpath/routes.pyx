"""Session routes: the keyed 128-bit hash of a ufrag -> a backend.

Installed by the control thread while workers look up. A slot is published by its `backend` word,
written last; a reader that finds the word changed under it looks again. Slots never move; a changed
route is published in a new slot before the old one becomes a tombstone. No ufrag is stored: the hash
is 128 bits under a random key.
"""
from libc.stdint cimport int32_t

from fastpath.atomic cimport (
    fence_acquire, fence_release, load_acquire_u32, load_relaxed_u32, load_relaxed_u64, store_relaxed_u32,
    store_relaxed_u64, store_release_u32)
from fastpath.crash cimport FP_AT_route_doubled, FP_AT_route_filled, crash_point
from fastpath.layout cimport FP_NONE, FP_ROUTE_EMPTY, FP_ROUTE_TOMBSTONE, fp_route

cdef enum:
    PROBES = 256

INSTALLED, REFRESHED, CONFLICT, FULL = ROUTE_INSTALLED, ROUTE_REFRESHED, ROUTE_CONFLICT, ROUTE_FULL


cdef uint32_t routes_lookup(const route_table *table, const uint64_t *hash, uint32_t now_s,
                            uint32_t *backend) noexcept nogil:
    """Any thread: slot and backend of a live route; FP_NONE when there is none or its time is over."""
    cdef uint32_t slot = <uint32_t>hash[0] & table.mask
    cdef uint32_t stored
    cdef int _probe
    cdef const fp_route *route
    for _probe in range(PROBES):
        route = &table.slots[slot]
        stored = load_acquire_u32(&route.backend)
        if stored == FP_ROUTE_EMPTY:
            return FP_NONE
        if (stored != FP_ROUTE_TOMBSTONE and load_relaxed_u64(&route.hash[0]) == hash[0]
                and load_relaxed_u64(&route.hash[1]) == hash[1]):
            fence_acquire()
            if load_relaxed_u32(&route.backend) == stored and (
                    load_relaxed_u32(&route.used_s) != 0
                    or <int32_t>(load_relaxed_u32(&route.expires_s) - now_s) > 0):
                backend[0] = stored - 2
                return slot
        slot = (slot + 1) & table.mask
    return FP_NONE


cdef inline uint32_t find(const route_table *table, const uint64_t *hash) noexcept nogil:
    """The writer's own look-up, expired ones included."""
    cdef uint32_t slot = <uint32_t>hash[0] & table.mask
    cdef int _probe
    cdef const fp_route *route
    for _probe in range(PROBES):
        route = &table.slots[slot]
        if route.backend == FP_ROUTE_EMPTY:
            return FP_NONE
        if route.backend != FP_ROUTE_TOMBSTONE and route.hash[0] == hash[0] and route.hash[1] == hash[1]:
            return slot
        slot = (slot + 1) & table.mask
    return FP_NONE


cdef int publish(route_table *table, const uint64_t *hash, uint32_t backend, uint32_t expires_s,
                 uint32_t session) noexcept nogil:
    cdef uint32_t slot = <uint32_t>hash[0] & table.mask
    cdef int _probe
    cdef fp_route *route
    if table.header.routes_count >= table.header.routes_max:
        return ROUTE_FULL
    for _probe in range(PROBES):
        route = &table.slots[slot]
        if route.backend <= FP_ROUTE_TOMBSTONE:
            fence_release()         # whoever sees a new hash here sees that the slot had become free
            store_relaxed_u64(&route.hash[0], hash[0])
            store_relaxed_u64(&route.hash[1], hash[1])
            store_relaxed_u32(&route.expires_s, expires_s)
            route.session = session
            store_relaxed_u32(&route.used_s, 0)
            crash_point(FP_AT_route_filled)
            store_release_u32(&route.backend, backend + 2)
            table.header.routes_count += 1
            return ROUTE_INSTALLED
        slot = (slot + 1) & table.mask
    return ROUTE_FULL


cdef void withdraw(route_table *table, uint32_t slot) noexcept nogil:
    store_release_u32(&table.slots[slot].backend, FP_ROUTE_TOMBSTONE)
    table.header.routes_count -= 1
    if table.slots[(slot + 1) & table.mask].backend != FP_ROUTE_EMPTY:
        return
    while table.slots[slot].backend == FP_ROUTE_TOMBSTONE:
        store_release_u32(&table.slots[slot].backend, FP_ROUTE_EMPTY)
        slot = (slot - 1) & table.mask


cdef int install(route_table *table, const uint64_t *hash, uint32_t backend, uint32_t expires_s,
                 uint32_t session, bint replace) noexcept nogil:
    """Same target again: its time begins anew. Another target: refuse unless `replace`."""
    cdef uint32_t old = find(table, hash)
    cdef int code
    if old == FP_NONE:
        return publish(table, hash, backend, expires_s, session)
    if table.slots[old].backend == backend + 2:
        store_relaxed_u32(&table.slots[old].expires_s, expires_s)
        store_relaxed_u32(&table.slots[old].session, session)
        store_relaxed_u32(&table.slots[old].used_s, 0)      # an earlier flow's end must not end this route
        return ROUTE_REFRESHED
    if not replace:
        return ROUTE_CONFLICT
    table.header.routes_count -= 1          # the old one goes in the same breath: a full table takes it too
    code = publish(table, hash, backend, expires_s, session)
    table.header.routes_count += 1
    if code == ROUTE_INSTALLED:
        crash_point(FP_AT_route_doubled)
        withdraw(table, old)
    return code


cdef int routes_restore(route_table *table, const fp_route *route, uint32_t *slot) noexcept nogil:
    """A route of another engine's table, as it was there; `slot` is where it is here."""
    cdef int code = publish(table, route.hash, route.backend - 2, route.expires_s, route.session)
    if code == ROUTE_INSTALLED:
        slot[0] = find(table, route.hash)
        table.slots[slot[0]].used_s = route.used_s
    return code


cdef uint32_t routes_sweep(route_table *table, uint32_t now_s, uint32_t pass_began_s) noexcept nogil:
    """Release routes whose last flow ended before this pass began, and unused ones past their time. Count the
    others anew: a writer killed between a route and its count left that wrong."""
    cdef uint32_t slot, released = 0, kept = 0
    cdef fp_route *route
    cdef bint over
    for slot in range(table.mask + 1):
        route = &table.slots[slot]
        if route.backend <= FP_ROUTE_TOMBSTONE:
            continue
        if route.used_s:
            over = <int32_t>(route.used_s - pass_began_s) < 0
        else:
            over = <int32_t>(route.expires_s - now_s) <= 0
        if over:
            withdraw(table, slot)
            released += 1
        else:
            kept += 1
    table.header.routes_count = kept
    return released


cdef class Routes:
    """The control plane's handle. Ufrags are bytes; times are CLOCK_MONOTONIC seconds."""

    cdef void hash_ufrag(self, bytes ufrag, uint64_t *out):
        ufrag_hash(self.table.header.seed, <const uint8_t *><const char *>ufrag, <size_t>len(ufrag), out)

    def install(self, bytes ufrag not None, uint32_t backend, uint32_t expires_s, uint32_t session=0,
                bint replace=False):
        """Install one route; gives INSTALLED, REFRESHED, CONFLICT (another target is there) or FULL."""
        cdef uint64_t hash[2]
        self.hash_ufrag(ufrag, hash)
        return install(&self.table, hash, backend, expires_s, session, replace)

    def install_many(self, list ufrags not None, backends, uint32_t expires_s, uint32_t session=0,
                     bint replace=False):
        """Install many; `backends` is one index or a list as long as `ufrags`.

        Gives one code a route, as bytes.
        """
        cdef bytearray codes = bytearray(len(ufrags))
        cdef bint each = isinstance(backends, list)
        cdef uint32_t backend = 0 if each else backends
        cdef uint64_t hash[2]
        cdef Py_ssize_t i
        cdef int code
        if each and len(<list>backends) != len(ufrags):
            raise ValueError(
                f"{len(ufrags)} ufrags but {len(backends)} backends: give one index for all, or one each")
        for i in range(len(ufrags)):
            if each:
                backend = (<list>backends)[i]
            self.hash_ufrag(ufrags[i], hash)
            code = install(&self.table, hash, backend, expires_s, session, replace)
            codes[i] = code         # in two steps: Cython's bytearray store evaluates its right side twice
        return bytes(codes)

    def remove(self, bytes ufrag not None):
        """Withdraw a route; False when there was none. Live flows go on."""
        cdef uint64_t hash[2]
        cdef uint32_t slot
        self.hash_ufrag(ufrag, hash)
        slot = find(&self.table, hash)
        if slot == FP_NONE:
            return False
        withdraw(&self.table, slot)
        return True

    def lookup(self, bytes ufrag not None):
        """(backend, expires_s, session) of an installed route, or None."""
        cdef uint64_t hash[2]
        cdef uint32_t slot
        cdef const fp_route *route
        self.hash_ufrag(ufrag, hash)
        slot = find(&self.table, hash)
        if slot == FP_NONE:
            return None
        route = &self.table.slots[slot]
        return route.backend - 2, route.expires_s, route.session

    def __len__(self):
        return self.table.header.routes_count
