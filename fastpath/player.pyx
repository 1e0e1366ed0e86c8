"""The player: both sides of recorded calls through a relay, N sessions with one thread, every datagram judged.

    ends = [PlainEnd(("127.0.0.1", 0)), TrunkEnd(("127.0.0.1", 0), key=key)]     # bound: .address for the relay
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
    call      what the capture holds of one client address and one server address: an ordered list of datagrams.
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
    duplicates  came out again, or after it had come out at a wrong place
    corrupted   came out at its place but differs; the expected datagram it resembles is settled by it
    misrouted   came out at another end, another client or back at its sender; misrouted_copies of them came
                out at their place before
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


class PlainEnd:
    """A backend in plain mode: an ordinary UDP socket, bound at once.

    address: (host, port), IPv4 or IPv6 literal; port 0: `address` tells which. Close it by Player.close().
    """


class TrunkEnd:
    """A backend on a trunk: FT1 with the relay's shards, answers pings, says every second that it is up.

    address     (host, port) to bind, as PlainEnd
    key         the link's 16-byte trunk key as the relay is given it, or None; key_id 0..3
    mtu_bytes   of a trunk datagram
    identity    (cluster, xcvr, incarnation) of its state records
    """


class Finding:
    """One datagram that did not come out as it should (a named tuple).

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


class Player:
    """Plays calls through one relay.

    relay         (host, port) where clients send; IPv4
    ends          1..64 PlainEnd and TrunkEnd; the player closes them
    sessions      1..65,000
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

    def assign(self, session, call, end, phase_ns=0) -> None:
        """Session `session` (0..sessions-1, once) plays call `call` (0..65,535), served by ends[end].

        phase_ns shifts all its due times (speed > 0). Before the first feed of the call: ValueError after
        it, also for a session assigned twice. The order of these calls is the order of `patches`.
        """

    def feed(self, call, upstream, time_ns, payload, patches=None, *, mark=False, index=None) -> bool:
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

    def finish(self) -> None:
        """Nothing more will be fed."""

    def run(self, *, until_fed=True, duration_ms=None) -> str:
        """Play. Returns why it ended:

        "done"    finish was called, everything fed was played and settled
        "hungry"  (until_fed only) less than half of the ring is taken, or no session has anything to do
        "time"    after duration_ms
        "stopped" by stop()
        May be called again after each but "done". In the main thread Ctrl-C ends it by KeyboardInterrupt.
        OSError: the kernel refused to send.
        """

    def serve(self, duration_ms) -> None:
        """Answer trunk pings and liveness probes for this long, play nothing: until the relay holds its
        trunk backends for up. Not while run goes on."""

    def stop(self) -> None:
        """End a run of another thread within 50 ms."""

    def client(self, session) -> tuple:
        """(address, port) of a session as the relay sees it."""

    def counters(self) -> dict:
        """Live totals.

        up, down: dicts of sent, delivered, lost, late, duplicates, reordered, corrupted, misrouted,
            misrouted_copies, strangers, in_flight
        fed, unroutable, moved, held_back, starved, sessions (assigned), sessions_done, pings, probes,
        timed (datagrams whose timing error was noted), bad_trunk (FT1 datagrams or records refused),
        send_calls, receive_calls, blocked (a full send buffer)
        """

    def findings(self) -> list:
        """The first findings_max findings, in the order they were made."""

    def timing_ns(self, quantile) -> int:
        """How much later than due datagrams left (0..1), right within 3.2 %; 0 with speed 0."""

    def latency_ns(self, quantile, upstream=None) -> int:
        """From send to arrival, up, down or (None) both."""

    def timing_histogram(self) -> list:
        """[(value_ns, count)], ascending, without empty buckets."""

    def latency_histogram(self, upstream=None) -> list:
        """As timing_histogram."""

    def close(self) -> None:
        """Close all sockets, the ends' too."""
