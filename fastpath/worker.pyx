"""The loop: wait, receive, forward each, send; look a little after the tables; nap when there is time.

Adaptive coalescing: after a turn whose batches were all short, wait `coalesce_us` before the next receive,
so that the next batches are fuller; after a full one go on at once. Voice frames are 20 ms apart: 0.2 ms is
free, and it halves the cost of a datagram. `spin` never waits.

Where full batches do not end, the worker is overloaded: it looks at the kernel's queues now and then, and the
level of its pressure says what its shards shed (fastpath.pressure).
"""
import os
import threading

from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.atomic cimport load_acquire_u32, store_relaxed_u32
from fastpath.batch cimport (
    batch_attach_datagrams, batch_attach_trunk, batch_owed, batch_queue, wait_ready)
from fastpath.counters cimport counters_publish
from fastpath.downstream cimport forward_plain, forward_trunk, receive_plain, serve_trunk
from fastpath.layout cimport (
    FP_BACKEND_free, FP_BACKEND_gone, FP_BACKENDS, FP_BATCH, FP_INGRESS, FP_LISTENERS, FP_POOL, FP_TRUNK,
    FP_TRUNK_BATCH, FP_UP, fp_backend, fp_endpoint)
from fastpath.lane cimport link_to
from fastpath.lifecycle cimport expire_slice
from fastpath.linux cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, close, epoll_create1, epoll_ctl,
    epoll_event, eventfd, monotonic_ns, write)
from fastpath.links cimport link_build_ping
from fastpath.pressure cimport SHED_NOTHING, pressure_evidence, pressure_look, pressure_turn
from fastpath.settings cimport settings_refresh
from fastpath.shard cimport Shard, shard_state
from fastpath.upstream cimport forward_clients, send_control, serve_clients

cdef enum:
    IDLE_NS = 50000000              # longest wait: expiry and pings are due even when nothing comes
    FAILED_NAP_NS = 200000          # after a receive that failed: a socket may stay readable and give nothing
    PING_MS = 1000
    SOURCE_STOP = 0                 # kinds of a socket in an epoll event
    SOURCE_CLIENT = 1
    SOURCE_TRUNK = 2
    SOURCE_PLAIN = 3


cdef void run(worker_state *worker) noexcept nogil:
    cdef epoll_event events[EVENTS]
    cdef int64_t wait_ns = 0
    cdef int ready, i
    cdef uint32_t received
    cdef bint stopping = False, full, failed
    begin_without_pressure(worker)
    for i in range(<int>worker.lanes):
        finish_owed(worker, worker.lane[i])
    while not stopping:
        ready = wait_ready(worker.epoll, events, EVENTS, wait_ns)
        worker.lane[0].shard.counters.blocks += ready == 0
        look_after(worker)
        full = failed = worker.crowded = False
        received = 0
        for i in range(ready):
            received += serve(worker, events[i].data.u64, &full, &failed, &stopping)
        for i in range(<int>worker.lanes):
            worker.lane[i].shard.counters.loops += 1
            if worker.lane[i].from_plain.count:
                forward_plain(worker.lane[i], worker.now_ms)
        if worker.crowded or worker.pressure.standing or worker.pressure.level != SHED_NOTHING:
            weigh(worker)
        if full or worker.settings.policy.spin:
            wait_ns = 0
        else:
            wait_ns = IDLE_NS
            if failed:
                wait_ready(worker.nap, events, 1, FAILED_NAP_NS)
            elif received and worker.settings.policy.coalesce_us and not stopping:
                worker.lane[0].shard.counters.naps += 1
                wait_ready(worker.nap, events, 1, <int64_t>worker.settings.policy.coalesce_us * 1000)


cdef inline uint64_t tag_of(uint32_t lane, uint32_t kind, uint32_t index) noexcept nogil:
    """What an epoll event carries: whose socket is readable."""
    return (<uint64_t>lane << 32) | (kind << 24) | index


cdef inline uint32_t serve(worker_state *worker, uint64_t tag, bint *full, bint *failed,
                           bint *stopping) noexcept nogil:
    """Receive from one readable socket; plain ports collect into one batch, the others are forwarded here."""
    cdef lane_state *lane = worker.lane[tag >> 32]
    cdef uint32_t kind = <uint32_t>(tag >> 24) & 0xff
    cdef uint16_t index = <uint16_t>tag
    cdef uint32_t received = 0
    cdef int error = 0
    if kind == SOURCE_CLIENT:
        received = serve_clients(lane, index, worker.now_ms)
        error = lane.from_clients.error
        worker.crowded |= received == FP_BATCH
        full[0] |= worker.crowded
    elif kind == SOURCE_TRUNK:
        received = serve_trunk(lane, worker.now_ms)
        error = lane.from_trunk.error
        full[0] |= received == FP_TRUNK_BATCH
    elif kind == SOURCE_PLAIN:
        received = receive_plain(lane, index)
        error = lane.from_plain.error
        if lane.from_plain.count == FP_BATCH:
            forward_plain(lane, worker.now_ms)
            full[0] = True
    else:
        stopping[0] = True
    if error:
        lane.shard.counters.receive_errors += 1
        failed[0] = True
    return received


cdef inline void look_after(worker_state *worker) noexcept nogil:
    """New settings at once; each millisecond the clock and a slice of expiry; each second pings and the
    counters of a worker that is idle."""
    cdef uint32_t now_ms = <uint32_t>(monotonic_ns() // 1000000)
    cdef shard_state *shard
    cdef uint32_t i
    settings_refresh(&worker.settings, worker.shared, worker.wall_s)
    if now_ms == worker.now_ms:
        return
    worker.now_ms = now_ms
    for i in range(worker.lanes):
        expire_slice(worker.lane[i].shard, now_ms, now_ms - worker.expired_ms)
    worker.expired_ms = now_ms
    if now_ms - worker.pinged_ms >= PING_MS:
        worker.pinged_ms = now_ms
        for i in range(worker.lanes):
            ping(worker.lane[i])
            shard = worker.lane[i].shard
            counters_publish(shard.header, shard.published, &shard.counters)


# ---- pressure -------------------------------------------------------------------------------------

cdef void weigh(worker_state *worker) noexcept nogil:
    """Is it too much? A new level holds for every shard this worker serves."""
    cdef uint32_t before = worker.pressure.level
    cdef pressure_evidence seen
    cdef uint32_t i
    if pressure_turn(&worker.pressure, worker.now_ms, worker.crowded):
        look_at_queues(worker, &seen)
        pressure_look(&worker.pressure, worker.now_ms, &seen)
    if worker.pressure.level != before:
        for i in range(worker.lanes):
            store_relaxed_u32(&worker.lane[i].shard.pressure, worker.pressure.level)


cdef void look_at_queues(worker_state *worker, pressure_evidence *seen) noexcept nogil:
    """What waits, what the kernel dropped, and how much of what came was forwarded, since the last look."""
    cdef lane_state *lane
    cdef uint64_t received = 0, forwarded = 0
    cdef uint32_t waiting_bytes, dropped, i, k
    memset(seen, 0, sizeof(pressure_evidence))
    for i in range(worker.lanes):
        lane = worker.lane[i]
        for k in range(lane.listeners):
            batch_queue(lane.client_fds[k], &waiting_bytes, &dropped)
            seen.waiting_bytes += waiting_bytes
            seen.dropped += dropped - lane.kernel_drops[k]
            lane.kernel_drops[k] = dropped
        received += lane.shard.counters.received[FP_UP]
        forwarded += lane.shard.counters.forwarded[FP_UP]
    seen.received, seen.forwarded = received - worker.received, forwarded - worker.forwarded
    worker.received, worker.forwarded = received, forwarded


cdef void begin_without_pressure(worker_state *worker) noexcept nogil:
    """What the kernel dropped before this worker began is not its doing."""
    cdef pressure_evidence past
    cdef uint32_t i
    memset(&worker.pressure, 0, sizeof(worker.pressure))
    look_at_queues(worker, &past)
    for i in range(worker.lanes):
        store_relaxed_u32(&worker.lane[i].shard.pressure, SHED_NOTHING)


cdef void ping(lane_state *lane) noexcept nogil:
    """Ask every registered trunk backend how far it is; its answers, or their absence, are its liveness."""
    cdef uint8_t payload[12]
    cdef const fp_backend *entry
    cdef uint32_t backend
    cdef size_t length
    if lane.trunk_fd < 0:
        return
    for backend in range(FP_BACKENDS):
        entry = &lane.shard.backends.entries[backend]
        if FP_BACKEND_free < load_acquire_u32(&entry.state) < FP_BACKEND_gone and entry.mode == FP_TRUNK:
            length = link_build_ping(link_to(lane, backend), payload, monotonic_ns())
            send_control(lane, backend, payload, <uint16_t>length)


cdef void finish_owed(worker_state *worker, lane_state *lane) noexcept nogil:
    """What an engine that died had received but not sent is still here: bring it to its end first."""
    cdef uint32_t owed = (batch_owed(&lane.from_clients) + batch_owed(&lane.from_plain)
                          + batch_owed(&lane.from_trunk))
    if owed == 0:
        return
    lane.recovering = True
    lane.shard.counters.recovered += owed
    if lane.shard.header.sending:
        lane.shard.counters.duplicated += owed      # at most: the send may or may not have happened
        counters_publish(lane.shard.header, lane.shard.published, &lane.shard.counters)
        lane.shard.header.sending = 0               # the books first: this engine may be killed too
    if lane.from_clients.count:
        forward_clients(lane, worker.now_ms)
    if lane.from_plain.count:
        forward_plain(lane, worker.now_ms)
    if lane.from_trunk.count:
        forward_trunk(lane, worker.now_ms)
    lane.recovering = False


cdef class Worker:
    """A worker over `shards`, with the sockets of each: dict(clients=[fd per listener], trunk=fd or -1,
    plain={pool index: fd}, siblings={pool index: fd} of all other shards). `cpu` pins the thread that runs
    it; None leaves it free.

    run() blocks, with the GIL released, until stop() is called from another thread.
    """

    def __init__(self, Settings settings not None, list shards not None, list sockets not None, cpu=None):
        cdef Shard shard
        cdef uint32_t i
        memset(&self.state, 0, sizeof(worker_state))
        self.state.epoll = self.state.nap = self.state.stop = -1
        self.settings, self.shards, self.cpu = settings, list(shards), -1 if cpu is None else cpu
        self.running = threading.Lock()
        self.state.shared, self.state.wall_s = &settings.shared, &settings.wall_s
        if len(shards) != len(sockets) or not shards:
            raise ValueError("a worker needs at least one shard, and the sockets of each")
        self.state.lane = <lane_state **>calloc(<size_t>len(shards), sizeof(lane_state *))
        self.state.epoll, self.state.nap = epoll_create1(EPOLL_CLOEXEC), epoll_create1(EPOLL_CLOEXEC)
        self.state.stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if min(self.state.epoll, self.state.nap, self.state.stop) < 0 or not self.state.lane:
            raise OSError("no file descriptors left for a worker: raise RLIMIT_NOFILE")
        self.watch(self.state.stop, 0, SOURCE_STOP, 0)
        for i, shard in enumerate(shards):
            self.add_lane(i, shard, sockets[i])

    cdef int watch(self, int fd, uint32_t lane, uint32_t kind, uint32_t index) except -1:
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = tag_of(lane, kind, index)
        if epoll_ctl(self.state.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(f"cannot watch file descriptor {fd}")
        if kind == SOURCE_STOP and epoll_ctl(self.state.nap, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(f"cannot watch file descriptor {fd}")
        return 0

    cdef int add_lane(self, uint32_t i, Shard shard, dict sockets) except -1:
        cdef lane_state *lane = <lane_state *>calloc(1, sizeof(lane_state))
        if not lane:
            raise MemoryError("no memory for a worker's batches")
        self.state.lane[i] = lane
        self.state.lanes = i + 1
        lane.shard = &shard.state
        shard.state.settings = &self.state.settings
        if len(sockets["clients"]) > FP_LISTENERS:
            raise ValueError(f"a shard has at most {FP_LISTENERS} listeners")
        lane.listeners, lane.trunk_fd = <uint32_t>len(sockets["clients"]), sockets["trunk"]
        for listener, fd in enumerate(sockets["clients"]):
            lane.client_fds[<int>listener] = fd
            lane.only_ingress[<int>listener] = only_ingress(lane, listener)
            self.watch(fd, i, SOURCE_CLIENT, listener)
        if lane.trunk_fd >= 0:
            self.watch(lane.trunk_fd, i, SOURCE_TRUNK, 0)
        lane.plain_fds = <int *>calloc(FP_POOL, sizeof(int))
        lane.connected = <fp_endpoint *>calloc(FP_POOL, sizeof(fp_endpoint))
        if not lane.plain_fds or not lane.connected:
            raise MemoryError("no memory for a worker's ports")
        memset(lane.plain_fds, 0xff, FP_POOL * sizeof(int))     # -1: descriptor 0 is somebody else's
        for port, fd in sockets.get("siblings", {}).items():
            lane.plain_fds[<int>port] = fd
        for port, fd in sockets["plain"].items():
            lane.plain_fds[<int>port] = fd
            self.watch(fd, i, SOURCE_PLAIN, port)
        batch_attach_datagrams(&lane.from_clients, &lane.shard.batch.client)
        batch_attach_datagrams(&lane.from_plain, &lane.shard.batch.plain)
        batch_attach_trunk(&lane.from_trunk, &lane.shard.batch.trunk)
        return 0

    def run(self):
        """Serve until stop(); call it in a thread of its own."""
        if not self.running.acquire(blocking=False):
            raise RuntimeError("this worker runs already")
        try:
            if self.cpu >= 0:
                os.sched_setaffinity(0, {self.cpu})
            settings_refresh(&self.state.settings, self.state.shared, self.state.wall_s)
            self.state.now_ms = self.state.expired_ms = <uint32_t>(monotonic_ns() // 1000000)
            self.state.pinged_ms = self.state.now_ms - PING_MS
            with nogil:
                run(&self.state)
        finally:
            self.running.release()

    def stop(self):
        """Make run() return after the turn in hand; from any thread, also before run()."""
        cdef uint64_t one = 1
        write(self.state.stop, &one, sizeof(one))

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.state.lanes):
            free(self.state.lane[i].plain_fds)
            free(self.state.lane[i].connected)
            free(self.state.lane[i])
        free(self.state.lane)
        for fd in (self.state.epoll, self.state.nap, self.state.stop):
            if fd >= 0:
                close(fd)


cdef int only_ingress(const lane_state *lane, int listener) noexcept:
    """The ingress of a listener bound to one address; -1 for a wildcard, whose datagrams name theirs."""
    cdef int id
    for id in range(FP_INGRESS):
        if lane.shard.shared.ingress[id].used and lane.shard.shared.ingress[id].listener == listener:
            return -1 if lane.shard.shared.ingress[id].wildcard else id
    return -1
