"""The player: both sides of recorded calls through a relay, N sessions, one thread, every datagram judged.

    from fastpath.load.player import Finding, PlainEnd, Player, TrunkEnd
    ends = [PlainEnd(("127.0.0.1", 0)), TrunkEnd(("127.0.0.1", 0), key=key)]     # bound: see their .address
    player = Player(relay=("127.0.0.1", 3478), ends=ends, sessions=2, speed=0)
    player.assign(0, call=7, end=0)                      # before the call's first feed
    player.assign(1, call=7, end=1, phase_ns=3_000_000)
    while datagrams:
        if not player.feed(7, upstream, time_ns, payload, patches):
            player.run()                                 # the ring is full: play until it wants more
    player.finish()
    assert player.run() == "done"
    player.counters(), player.findings(), player.timing_ns(0.99)

Words
    call      what a capture holds of one client address and one server address: an ordered list of datagrams.
    session   one playing of one call: a client of its own to the relay, with a source address of its own
              (first_source + session // sockets; 127/8 needs no set-up), and the end that plays its server.
              Two calls that belong together (ICE restart, a changed address) are two sessions.
    end       one backend of the relay: PlainEnd (a UDP socket) or TrunkEnd (FT1). It sends what the recorded
              server sent and answers nothing by itself but trunk pings and the relay's bare liveness probes.

Order. A side sends a datagram when everything the other side had sent before in this call has come out of the
relay, or has been given up (give_up_ms). With speed > 0 it is sent not before start + phase + (time - first
time fed) / speed; one that had to wait for the other side, for room or for being fed is counted held_back or
starved and its timing error is not noted. With speed 0 everything goes as early as order and `window` let it.
A session has at most 64 datagrams of one direction on the way.

Verdict. Each session and direction has a list of what is expected; an arrival is compared byte by byte:
    delivered   came out at its place, once, unchanged; `reordered` counts those after a later one of their
                session and direction; `late` those that had been given up before
    duplicates  came out once more
    corrupted   came out at its place but differs; the expected datagram it resembles is settled by it
    misrouted   came out at another end, another client or back at its sender; misrouted_copies of them came
                out at their place too
    lost        never came out within give_up_ms
    strangers   resembles nothing that was sent
always sent == delivered + lost + corrupted + misrouted - misrouted_copies + in_flight, for each direction.
An arrival belongs to a session: at a client by its destination address, at a trunk end by the record's client
address, at a plain end by the relay's upstream port, which is learned from the first datagram that comes from
it (a Binding Request: its transaction id must be the session's own, see `patches`).

Threads. `run` holds no GIL. feed, assign and finish may be called by one other thread meanwhile (that keeps
timing when a long capture streams in: run(until_fed=False) in one thread, feed in the other, which sleeps a
millisecond when feed says False); counters, quantiles and stop by any thread; findings only while no run.
"""

import collections
import os
import socket as sockets_of
import threading

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastpath.load.agenda cimport agenda_entry
from fastpath.load.arrivals cimport histogram_list
from fastpath.batch cimport batch_attach_datagrams
from fastpath.load.ends cimport END_SOCKETS, End
from fastpath.load.histogram cimport HISTOGRAM_BUCKETS, histogram_quantile
from fastpath.load.judge cimport DOWN, SESSION_FREE, SESSION_IDLE, UP, judge_close, judge_open, session_state
from fastpath.layout cimport FP_NONE, fp_datagram_area
from fastpath.linux cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, IP_PKTINFO, close, epoll_create1, epoll_ctl, epoll_event,
    monotonic_ns,
)
from fastpath.load.playing cimport (
    PLAY_FAILED, PLAY_STOPPED, PLAY_TIME, PLAYER_ENDS, attend, client_outlet, play,
)
from fastpath.load.script cimport (
    SCRIPT_CALLS, SCRIPT_DATAGRAM_BYTES, script_call, script_close, script_finish, script_finished,
    script_line, script_open, script_patch, script_patch_of, script_publish, script_reserve, script_used,
)

import fastpath.load.ends as ends_of
from fastpath.load.inbox import widen_buffer

cdef enum:
    SIGNALS_NS = 250_000_000             # how often the main thread looks whether Ctrl-C was pressed

PlainEnd, TrunkEnd = ends_of.PlainEnd, ends_of.TrunkEnd
KINDS = (
    "lost", "duplicate", "reordered", "corrupted", "misrouted", "stranger", "late", "moved", "unroutable",
)
OUTCOMES = ("done", "hungry", "time", "stopped")

Finding = collections.namedtuple("Finding", (
    "kind", "session", "call", "upstream", "index", "at_ns", "expected_end", "actual_end", "actual_session",
    "detail",
))
Finding.__doc__ = """One datagram that did not come out as it should (a named tuple).

kind          "lost", "duplicate", "reordered", "corrupted", "misrouted", "stranger", "late", "moved"
              (a session's upstream port changed) or "unroutable" (the server's turn, but its end never
              heard of the session: the datagram was not sent)
session call  whose datagram it is; -1: of a stranger
upstream      client -> server; of a stranger: it came out at an end
index         `index` given to feed (frame number or offset in the capture); -1: of a stranger
at_ns         since the start of play: of the arrival; of a lost one: when it was sent
expected_end  the end of its session; -1: of a stranger
actual_end    the end where it came out; -1: at a client, or nowhere
actual_session  the session at whose client or flow it came out; -1: nobody's
detail        one sentence in English: what differs, where it came out
"""


cdef class Player:
    """Plays calls through one relay.

    relay         (host, port) where clients send; IPv4
    ends          1..64 PlainEnd and TrunkEnd; the player closes them
    sessions      1..65,000; 5 KiB of memory for each that plays
    speed         1.0: as recorded, 10.0: ten times faster, 0: as fast as the window lets
    first_source  source address of session 0, the others follow
    sockets       1..64 client sockets (source ports) the sessions are spread over
    window        datagrams on the way at once over all sessions, 1..8192 (a relay's and our own buffers
                  must hold them: 512 is lossless)
    ring_bytes    memory for datagrams fed and not yet settled by all sessions of their call
    give_up_ms    how long a datagram may take before it is lost
    findings_max  how many findings are kept; the counts go on

    Raises ValueError for what is out of range, OSError for what the kernel refuses.
    """

    def __cinit__(self):
        self.state = <player_state *>calloc(1, sizeof(player_state))
        if self.state == NULL:
            raise MemoryError("no memory for a player")
        self.state.epoll = -1
        self.ends, self.sockets = [], []

    def __init__(self, relay, ends, *, int sessions, double speed=1.0, first_source="127.2.0.1",
                 int sockets=1, uint64_t window=512, uint64_t ring_bytes=64 << 20, uint64_t give_up_ms=1000,
                 uint32_t findings_max=100):
        cdef player_state *p = self.state
        for name, value, least, most in (
            ("sessions", sessions, 1, 65_000), ("ends", len(ends), 1, PLAYER_ENDS),
            ("sockets", sockets, 1, END_SOCKETS), ("window", window, 1, 8192),
            ("ring_bytes", ring_bytes, 1 << 16, 1 << 40), ("give_up_ms", give_up_ms, 1, 600_000),
            ("findings_max", findings_max, 0, 1_000_000),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}: choose {least}..{most}")
        if not 0 <= speed <= 1_000_000:
            raise ValueError(f"speed is {speed}: choose 0 (as fast as the window lets) or up to 1,000,000")
        p.speed, p.window, p.judge.give_up_ns = speed, window, give_up_ms * 1_000_000
        p.clients.first_address = int.from_bytes(sockets_of.inet_aton(first_source), "big")
        p.clients.sockets = <uint32_t>sockets
        packed = sockets_of.inet_aton(relay[0])
        memcpy(p.relay.address, <const char *><bytes>packed, 4)
        p.relay.port, p.relay.family = relay[1], 4
        self.open_memory(ring_bytes & ~<uint64_t>63, <uint32_t>sessions, findings_max)
        self.take_ends(ends)
        self.open_sockets()

    cdef open_memory(self, uint64_t ring_bytes, uint32_t sessions, uint32_t findings_max):
        cdef player_state *p = self.state
        cdef bint enough = judge_open(&p.judge, sessions, findings_max)
        enough = script_open(&p.script, ring_bytes) and enough
        p.agenda.entries = <agenda_entry *>calloc(sessions, sizeof(agenda_entry))
        p.outlets = <client_outlet *>calloc(p.clients.sockets, sizeof(client_outlet))
        p.area = <fp_datagram_area *>calloc(1, sizeof(fp_datagram_area))
        if not enough or p.agenda.entries == NULL or p.outlets == NULL or p.area == NULL:
            raise MemoryError(f"no memory for {sessions} sessions and a ring of {ring_bytes} bytes")
        batch_attach_datagrams(&p.incoming, p.area)

    cdef take_ends(self, ends):
        cdef player_state *p = self.state
        cdef End end
        for end in ends:
            end.start(p.ends_count, &p.judge, &p.clients)
            p.ends[p.ends_count] = end.state
            p.ends_count += 1
            self.ends.append(end)

    cdef open_sockets(self):
        cdef player_state *p = self.state
        cdef uint32_t k
        p.epoll = epoll_create1(EPOLL_CLOEXEC)
        if p.epoll < 0:
            raise OSError("the kernel gives no epoll descriptor")
        for k in range(p.clients.sockets):
            sock = sockets_of.socket(sockets_of.AF_INET, sockets_of.SOCK_DGRAM)
            self.sockets.append(sock)
            widen_buffer(sock)
            sock.setsockopt(sockets_of.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("0.0.0.0", 0))
            p.outlets[k].fd = sock.fileno()
            p.clients.ports[k] = sock.getsockname()[1]
            self.watch(p.outlets[k].fd, k)
        for k in range(p.ends_count):
            self.watch(p.ends[k].fd, END_SOCKETS + k)

    cdef watch(self, int fd, uint32_t number):
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u32 = number
        if epoll_ctl(self.state.epoll, EPOLL_CTL_ADD, fd, &event) != 0:
            raise OSError("the kernel does not watch a socket")

    def assign(self, uint32_t session, uint32_t call, uint32_t end, int64_t phase_ns=0) -> None:
        """Session `session` (0..sessions-1, once) plays call `call` (0..65,535), served by ends[end].

        phase_ns shifts all its due times (speed > 0). Before the first feed of the call: ValueError after
        it, also for a session assigned twice. The order of these calls is the order of `patches`.
        """
        cdef player_state *p = self.state
        cdef script_call *played
        self.check_open()
        if session >= p.judge.count or call >= SCRIPT_CALLS or end >= p.ends_count:
            raise ValueError(
                f"session {session} of {p.judge.count}, call {call} of {SCRIPT_CALLS} or end {end} of "
                f"{p.ends_count}: no such one")
        if p.judge.sessions[session].state != SESSION_FREE:
            raise ValueError(f"session {session} plays call {p.judge.sessions[session].call} already")
        played = &p.script.calls[call]
        if played.fed:
            raise ValueError(f"call {call} has begun: assign its sessions before its first datagram")
        p.judge.sessions[session].call, p.judge.sessions[session].end = call, end
        p.judge.sessions[session].phase_ns, p.judge.sessions[session].ordinal = phase_ns, played.sessions
        p.judge.sessions[session].next_of_call = FP_NONE
        if played.sessions:
            p.judge.sessions[played.last_session].next_of_call = session
        else:
            played.first_session = session
        played.last_session = session
        played.sessions += 1
        p.judge.sessions[session].state = SESSION_IDLE
        self.assigned += 1

    def feed(self, uint32_t call, bint upstream, uint64_t time_ns, bytes payload not None, patches=None, *,
             bint mark=False, index=None) -> bool:
        """Append the next datagram of a capture; False, and nothing is taken, while the ring is full.

        call       one with sessions (ValueError otherwise)
        upstream   client -> server
        time_ns    capture time, any epoch; due times count from the first datagram fed
        payload    1..2,048 bytes; more does not pass a relay: ValueError
        patches    None: every session sends `payload`; else one bytes (or None: `payload`) for each session
                   of the call in the order of assign, of any length 1..2,048
        mark       make the datagram this session's own: its last 4 bytes are XORed with the session number
                   (big endian; session 0 sends it as it is; payloads under 16 bytes are left alone). For
                   media and DTLS, which a relay does not read into: without it all sessions of a call send
                   equal datagrams, and one that comes out at the wrong session counts as a duplicate there
                   and lost here, instead of misrouted. Not together with patches: ValueError.
        index      handed back in findings (frame number, offset); None: how many were fed before
        A datagram that with all its patches is larger than half the ring: ValueError.
        """
        cdef player_state *p = self.state
        cdef script_line *line
        cdef uint64_t length
        self.check_open()
        if call >= SCRIPT_CALLS or p.script.calls[call].sessions == 0:
            raise ValueError(f"call {call} has no session: assign one first")
        if self.finished:
            raise ValueError("nothing can be fed after finish()")
        length = self.line_bytes(call, payload, patches, mark)
        line = script_reserve(&p.script, length)
        if line == NULL:
            return False
        line.bytes, line.call, line.left = <uint32_t>length, call, p.script.calls[call].sessions
        line.time_ns, line.upstream, line.mark, line.padding = time_ns, upstream, mark, False
        line.index = <int64_t>self.lines_fed if index is None else index
        write_texts(line, payload, patches)
        p.script.calls[call].fed = True
        self.lines_fed += 1
        script_publish(&p.script, line)
        return True

    cdef uint64_t line_bytes(self, uint32_t call, bytes payload, patches, bint mark) except 0:
        """What a line takes in the ring; ValueError for what cannot be played."""
        cdef uint64_t length = sizeof(script_line) + <uint64_t>len(payload)
        cdef uint64_t half = self.state.script.ring_bytes // 2
        texts = [payload]
        if patches is not None:
            if len(patches) != self.state.script.calls[call].sessions:
                raise ValueError(f"{len(patches)} patches for the sessions of call {call}: one for each of "
                                 f"its {self.state.script.calls[call].sessions}")
            if mark:
                raise ValueError("a datagram with patches is its sessions' own already: mark=False")
            texts += [patch for patch in patches if patch is not None]
            length += sizeof(script_patch) * <uint64_t>len(patches) + sum(map(len, texts[1:]))
        if not 1 <= min(map(len, texts)) <= max(map(len, texts)) <= SCRIPT_DATAGRAM_BYTES:
            raise ValueError(
                f"a relay carries 1..{SCRIPT_DATAGRAM_BYTES} bytes a datagram: leave this one out")
        length = (length + 7) & ~<uint64_t>7
        if length > half:
            raise ValueError(f"a datagram with its patches takes {length} bytes, half the ring is {half}: a "
                             "larger ring_bytes, or fewer sessions a call")
        return length

    def finish(self) -> None:
        """Nothing more will be fed."""
        self.check_open()
        self.finished = True
        script_finish(&self.state.script)

    def run(self, *, bint until_fed=True, duration_ms=None) -> str:
        """Play. Returns why it ended:

        "done"    finish was called, everything fed was played and settled
        "hungry"  (until_fed only) less than half of the ring is taken, or no session has anything to do
        "time"    after duration_ms
        "stopped" by stop()
        May be called again after each but "done". In the main thread Ctrl-C ends it by KeyboardInterrupt.
        OSError: the kernel refused to send.
        """
        cdef player_state *p = self.state
        cdef uint64_t begin_ns = monotonic_ns(), end_ns = <uint64_t>-1, slice_ns = <uint64_t>-1
        cdef int why = PLAY_TIME
        self.check_open()
        if duration_ms is not None:
            end_ns = begin_ns + <uint64_t>(duration_ms * 1_000_000)
        p.until_fed, p.was_full = until_fed, 2 * script_used(&p.script) >= p.script.ring_bytes
        in_main = threading.current_thread() is threading.main_thread()
        while why == PLAY_TIME:
            slice_ns = min(end_ns, monotonic_ns() + SIGNALS_NS) if in_main else end_ns
            with nogil:
                why = play(p, slice_ns)
            PyErr_CheckSignals()
            if slice_ns == end_ns:
                break
        if why == PLAY_FAILED:
            failure, p.failure = p.failure, 0
            raise OSError(failure, f"the kernel refused a datagram: {os.strerror(failure)}")
        if why == PLAY_STOPPED:
            p.stop = 0
        return OUTCOMES[why]

    def serve(self, uint64_t duration_ms) -> None:
        """Answer trunk pings and liveness probes for this long, play nothing: until the relay holds its
        trunk backends for up. Not while run goes on."""
        self.check_open()
        with nogil:
            attend(self.state, monotonic_ns() + duration_ms * 1_000_000)
        self.state.stop = 0

    def stop(self) -> None:
        """End a run of another thread within 50 ms."""
        self.state.stop = 1

    def client(self, uint32_t session) -> tuple:
        """(address, port) of a session as the relay sees it."""
        cdef player_state *p = self.state
        if session >= p.judge.count:
            raise ValueError(f"session {session} of {p.judge.count}: no such one")
        address = p.clients.first_address + session // p.clients.sockets
        port = p.clients.ports[session % p.clients.sockets]
        return (sockets_of.inet_ntoa(address.to_bytes(4, "big")), port)

    def counters(self) -> dict:
        """Live totals.

        up, down: dicts of sent, delivered, lost, late, duplicates, reordered, corrupted, misrouted,
            misrouted_copies, strangers, in_flight
        fed, unroutable, moved, held_back, starved, sessions (assigned), sessions_done, pings, probes,
        timed (datagrams whose timing error was noted), bad_trunk (FT1 datagrams or records refused),
        send_calls, receive_calls, blocked (a full send buffer)
        """
        cdef player_state *p = self.state
        cdef uint32_t k
        out = {
            "up": p.judge.ways[UP], "down": p.judge.ways[DOWN], "fed": self.lines_fed,
            "unroutable": p.judge.unroutable, "moved": p.judge.moved, "held_back": p.held_back,
            "starved": p.starved, "timed": p.timed, "sessions": self.assigned,
            "sessions_done": self.sessions_done(), "pings": 0, "probes": 0, "bad_trunk": 0,
            "send_calls": p.send_calls, "receive_calls": p.receive_calls, "blocked": p.blocked,
        }
        for k in range(p.ends_count):
            out["pings"] += p.ends[k].pings
            out["probes"] += p.ends[k].probes
            out["bad_trunk"] += p.ends[k].bad
            out["send_calls"] += p.ends[k].send_calls
            out["receive_calls"] += p.ends[k].receive_calls
            out["blocked"] += p.ends[k].blocked
        return out

    cdef uint32_t sessions_done(self):
        """Sessions whose whole call has been played and settled; before finish nobody knows."""
        cdef player_state *p = self.state
        cdef uint32_t who, found = 0
        cdef const session_state *s
        if p.judge.sessions == NULL or not script_finished(&p.script):
            return 0
        for who in range(p.judge.count):
            s = &p.judge.sessions[who]
            if s.state == SESSION_IDLE and s.ways[UP].pending == 0 and s.ways[DOWN].pending == 0:
                found += 1
        return found

    def findings(self) -> list:
        """The first findings_max findings, in the order they were made."""
        cdef uint32_t n
        return [self.told(&self.state.judge.findings[n]) for n in range(self.state.judge.findings_count)]

    cdef told(self, const finding *f):
        return Finding(
            KINDS[f.kind], number(f.session), number(f.call), bool(f.upstream), f.index, f.at_ns,
            number(f.expected_end), number(f.actual_end), number(f.actual_session), detail(f))

    def timing_ns(self, double quantile) -> int:
        """How much later than due datagrams left (0..1), right within 3.2 %; 0 with speed 0."""
        return histogram_quantile(self.state.timing, quantile)

    def latency_ns(self, double quantile, upstream=None) -> int:
        """From send to arrival, up, down or (None) both."""
        cdef uint64_t counts[HISTOGRAM_BUCKETS]
        self.latencies(upstream, counts)
        return histogram_quantile(counts, quantile)

    def timing_histogram(self) -> list:
        """[(value_ns, count)], ascending, without empty buckets."""
        return histogram_list(self.state.timing)

    def latency_histogram(self, upstream=None) -> list:
        """As timing_histogram."""
        cdef uint64_t counts[HISTOGRAM_BUCKETS]
        self.latencies(upstream, counts)
        return histogram_list(counts)

    cdef latencies(self, upstream, uint64_t *out):
        cdef player_state *p = self.state
        cdef int bucket
        for bucket in range(HISTOGRAM_BUCKETS):
            out[bucket] = 0
            if upstream is None or upstream:
                out[bucket] += p.judge.latency[UP][bucket]
            if not upstream:
                out[bucket] += p.judge.latency[DOWN][bucket]

    cdef check_open(self):
        if self.state.epoll < 0:
            raise ValueError("this player is closed")

    def close(self) -> None:
        """Close all sockets, the ends' too."""
        for end in self.ends:
            end.close()
        for sock in self.sockets:
            sock.close()
        if self.state.epoll >= 0:
            close(self.state.epoll)
            self.state.epoll = -1

    def __dealloc__(self):
        cdef player_state *p = self.state
        if p == NULL:
            return
        if p.epoll >= 0:
            close(p.epoll)
        judge_close(&p.judge)
        script_close(&p.script)
        free(p.agenda.entries)
        free(p.outlets)
        free(p.area)
        free(p)


cdef write_texts(script_line *line, bytes payload, patches):
    """Payload, patches and their texts behind the head of a line that has room for them."""
    cdef uint32_t k, at
    cdef script_patch *patch
    cdef uint8_t *base = <uint8_t *>line
    line.patches = 0 if patches is None else <uint32_t>len(patches)
    line.length = <uint16_t>len(payload)
    at = <uint32_t>(sizeof(script_line) + line.patches * sizeof(script_patch))
    memcpy(base + at, <const char *>payload, line.length)
    at += line.length
    for k in range(line.patches):
        patch = script_patch_of(line, k)
        patch.length, patch.offset = 0, at
        if patches[k] is not None:
            patch.length = <uint32_t>len(patches[k])
            memcpy(base + at, <const char *><bytes>patches[k], patch.length)
            at += patch.length


cdef number(uint32_t value):
    return -1 if value == FP_NONE else value


cdef where(const finding *f):
    """Where an arrival came out, in words."""
    if f.actual_end != FP_NONE:
        other = f.actual_session != FP_NONE and f.actual_session != f.session
        return f"at end {f.actual_end}" + (f", as session {f.actual_session}'s" if other else "")
    if f.actual_session == FP_NONE:
        return "at a client address of no session"
    if f.actual_session == f.session:
        return "at its session's client"
    return f"at the client of session {f.actual_session}"


cdef detail(const finding *f):
    kind = KINDS[f.kind]
    if kind == "lost":
        return "never came out in time"
    if kind == "unroutable":
        return "not sent: its end had never heard of the session"
    if kind == "moved":
        return f"the session came to end {f.actual_end} from another upstream port than before"
    if kind == "stranger":
        return f"{f.actual_bytes} bytes that nobody sent came out {where(f)}"
    if kind == "corrupted" and f.actual_bytes != f.expected_bytes:
        return (f"{f.actual_bytes} bytes came out instead of {f.expected_bytes}, the first {f.differs_at} "
                "as they were sent")
    if kind == "corrupted":
        return (f"byte {f.differs_at} of {f.expected_bytes} came out as 0x{f.actual_byte:02x}, sent was "
                f"0x{f.expected_byte:02x}")
    return {
        "duplicate": "came out once more ", "reordered": "came out after a later one ",
        "late": "came out after it had been given up ", "misrouted": "came out ",
    }[kind] + where(f)
