"""Two DTLS engines and a network in between, in virtual time; and aiortc's DTLS as the other side."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
)
from OpenSSL import SSL

from pyfastpath.transceiver.certificate import Certificate, Fingerprint
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.dtls import (
    HANDSHAKE_S,
    MTU_BYTES,
    ApplicationData,
    Closed,
    Dtls12,
    HandshakeDone,
    HandshakeEngine,
    HandshakeEvent,
    HandshakeFailed,
    Role,
)
from pyfastpath.transceiver.keys import SrtpKeys, SrtpProfile
from pyfastpath.transceiver.records import APPLICATION_DATA, HANDSHAKE, cut

NOW_WALL_S = 1_800_000_000.0
SERVER = Certificate.generate(NOW_WALL_S)
CLIENT = Certificate.generate(NOW_WALL_S)

Fate = Callable[[int, bytes], list[float]]
"""What becomes of a datagram, by its number: after how many seconds each copy of it arrives."""


def at_once(number: int, datagram: bytes) -> list[float]:
    return [0.01]


class End:
    """An engine and what it reported."""

    def __init__(
        self, own: Certificate, role: Role, other: Fingerprint, *, profiles: str | None = None
    ) -> None:
        self.counters = Counters()
        if profiles:
            own = Certificate(own._key, own._certificate)
            own.context.set_tlsext_use_srtp(profiles.encode())
        engine = Dtls12(own, role=role, fingerprints=[other], drop=self.counters.drop)
        self.engine: HandshakeEngine = engine
        self.events: list[HandshakeEvent] = []
        self.happened = asyncio.Event()

    @property
    def keys(self) -> SrtpKeys | None:
        return next((event.keys for event in self.events if isinstance(event, HandshakeDone)), None)

    @property
    def dropped(self) -> dict[str, int]:
        return {reason: times for reason, times in self.counters.dropped.items() if times}


class Network:
    """A server, a client, datagrams under way, and a clock that only `run` moves."""

    def __init__(self, server: End, client: End, fate: Fate = at_once) -> None:
        self.ends = {"server": server, "client": client}
        self.fate = fate
        self.now = 100.0
        self.sent = 0
        self.under_way: list[tuple[float, int, str, bytes]] = []

    def collect(self) -> None:
        for name, other in (("server", "client"), ("client", "server")):
            end = self.ends[name]
            for datagram in end.engine.datagrams_to_send():
                assert len(datagram) <= MTU_BYTES
                for delay_s in self.fate(self.sent, datagram):
                    self.under_way.append((self.now + delay_s, self.sent, other, datagram))
                self.sent += 1
            while (event := end.engine.next_event()) is not None:
                end.events.append(event)

    def run(self, until: Callable[[], object], *, at_most_s: float = 60.0) -> float:
        """Seconds until it is so; the time at most when it never is."""
        start = self.now
        for end in self.ends.values():
            end.engine.start(self.now)
        self.collect()
        while not until():
            timers = [end.engine.get_timer() for end in self.ends.values()]
            due = [timer for timer in timers if timer is not None] + [entry[0] for entry in self.under_way]
            if not due or min(due) > start + at_most_s:
                self.now = start + at_most_s
                break
            self.now = max(self.now, min(due))
            self.step()
        return self.now - start

    def step(self) -> None:
        arrived = sorted(entry for entry in self.under_way if entry[0] <= self.now)
        self.under_way = [entry for entry in self.under_way if entry[0] > self.now]
        for _, _, name, datagram in arrived:
            self.ends[name].engine.receive(datagram, self.now)
            self.collect()
        for end in self.ends.values():
            end.engine.handle_timer(self.now)
        self.collect()

    @property
    def is_done(self) -> bool:
        return all(end.keys for end in self.ends.values())


def network(fate: Fate = at_once, *, server: str | None = None, client: str | None = None) -> Network:
    """`server` and `client`: the SRTP profiles each knows."""
    return Network(
        End(SERVER, "server", CLIENT.fingerprint, profiles=server),
        End(CLIENT, "client", SERVER.fingerprint, profiles=client),
        fate,
    )


def connected(**profiles: str) -> Network:
    net = network(**profiles)
    net.run(lambda: net.is_done)
    assert net.is_done
    return net


# ---- handshakes -------------------------------------------------------------------------------------


def test_a_handshake_takes_two_round_trips_and_no_timer() -> None:
    net = network()
    assert net.run(lambda: net.is_done) == pytest.approx(0.04)
    assert net.sent == 4
    assert [end.engine.get_timer() for end in net.ends.values()] == [None, None]
    assert [end.dropped for end in net.ends.values()] == [{}, {}]


@pytest.mark.parametrize("profile", SrtpProfile)
def test_both_ends_have_the_same_keys_crossed(profile: SrtpProfile) -> None:
    net = connected(client=profile.value)
    server, client = net.ends["server"].keys, net.ends["client"].keys
    assert server is not None
    assert client is not None
    assert server.profile is client.profile is profile
    assert server == client.swapped()
    assert server.local != server.remote


def test_gcm_is_preferred() -> None:
    keys = connected().ends["server"].keys
    assert keys is not None
    assert keys.profile is SrtpProfile.AEAD_AES_128_GCM


def test_no_common_srtp_profile_fails() -> None:
    net = network(server="SRTP_AEAD_AES_128_GCM", client="SRTP_AES128_CM_SHA1_80")
    net.run(lambda: net.ends["server"].events)
    [event] = net.ends["server"].events
    assert isinstance(event, HandshakeFailed)
    assert event.reason == "dtls_failed"
    assert "SRTP profile" in event.detail


@pytest.mark.parametrize("wrong", ["server", "client"])
def test_a_certificate_that_the_offer_did_not_name_ends_it(wrong: str) -> None:
    net = network()
    other = Certificate.generate(NOW_WALL_S).fingerprint
    if wrong == "client":
        net.ends["server"] = End(SERVER, "server", other)
    else:
        net.ends["client"] = End(CLIENT, "client", other)
    net.run(lambda: all(end.events for end in net.ends.values()))
    deceived, honest = ("server", "client") if wrong == "client" else ("client", "server")
    [event] = net.ends[deceived].events
    assert isinstance(event, HandshakeFailed)
    assert event.reason == "fingerprint_mismatch"
    [event] = net.ends[honest].events  # an alert told it
    assert isinstance(event, HandshakeFailed)
    assert event.reason == "dtls_failed"


def test_the_fingerprint_decides_even_if_openssl_was_satisfied() -> None:
    own = Certificate(SERVER._key, SERVER._certificate)
    own.context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    net = network()
    net.ends["server"] = End(own, "server", ("sha-256", bytes(32)))
    net.run(lambda: net.ends["server"].events)
    [event] = net.ends["server"].events
    assert isinstance(event, HandshakeFailed)
    assert event.reason == "fingerprint_mismatch"


def test_without_any_fingerprint_nobody_is_believed() -> None:
    net = network()
    engine = Dtls12(SERVER, role="server", fingerprints=[], drop=Counters().drop)
    net.ends["server"].engine = engine
    net.run(lambda: net.ends["server"].events)
    assert isinstance(net.ends["server"].events[0], HandshakeFailed)


def test_a_client_without_a_certificate_is_refused() -> None:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    bare = SSL.Connection(context, None)
    bare.set_connect_state()
    server = End(SERVER, "server", CLIENT.fingerprint)
    for _ in range(4):
        with pytest.raises(SSL.Error):
            bare.do_handshake()
        server.engine.receive(bare.bio_read(4096), 0.0)
        for datagram in server.engine.datagrams_to_send():
            bare.bio_write(datagram)
        event = server.engine.next_event()
        if event:
            break
    assert isinstance(event, HandshakeFailed)
    assert event.reason == "dtls_failed"


def test_a_client_begins_once_and_a_server_not_at_all() -> None:
    client, server = End(CLIENT, "client", SERVER.fingerprint), End(SERVER, "server", CLIENT.fingerprint)
    for end in (client, server):
        end.engine.start(0.0)
        end.engine.start(0.0)
    assert (client.engine.role, server.engine.role) == ("client", "server")
    assert len(client.engine.datagrams_to_send()) == 1
    assert server.engine.datagrams_to_send() == []
    assert server.engine.get_timer() is None


# ---- loss, reordering, duplicates -------------------------------------------------------------------


@pytest.mark.parametrize("lost", range(4))
def test_any_one_lost_datagram_costs_a_quarter_of_a_second(lost: int) -> None:
    net = network(lambda number, _: [] if number == lost else [0.01])
    duration_s = net.run(lambda: net.is_done)
    assert net.is_done
    assert duration_s < 0.35


@pytest.mark.parametrize("seed", range(12))
def test_a_third_of_all_datagrams_lost_late_or_doubled(seed: int) -> None:
    random = Random(seed)

    def fate(number: int, datagram: bytes) -> list[float]:
        if random.random() < 0.33:
            return []
        return [random.uniform(0.01, 0.3) for _ in range(random.choice([1, 1, 2]))]

    net = network(fate)
    net.run(lambda: net.is_done)
    assert net.is_done
    server, client = net.ends["server"].keys, net.ends["client"].keys
    assert server is not None
    assert client is not None
    assert server == client.swapped()


def test_every_record_in_a_datagram_of_its_own_and_in_reverse() -> None:
    """OpenSSL drops the client's ChangeCipherSpec that came too early, and any copy of it: this takes its own
    retransmission, after one second of real time."""
    net = network()
    server, client = net.ends["server"].engine, net.ends["client"].engine
    client.start(time.monotonic())
    for wait_s in (0.0, 0.0, 1.05, 0.0):
        time.sleep(wait_s)
        client.handle_timer(time.monotonic())
        for source, sink in ((client, server), (server, client)):
            pieces = [piece.data for datagram in source.datagrams_to_send() for piece in cut(datagram)]
            for piece in reversed(pieces):
                sink.receive(piece, time.monotonic())
    net.collect()
    assert net.is_done


def test_a_repeated_question_is_answered_at_once_but_not_always() -> None:
    net = network()
    server, client = net.ends["server"].engine, net.ends["client"].engine
    client.start(0.0)
    [hello] = client.datagrams_to_send()
    server.receive(hello, 0.0)
    flight = server.datagrams_to_send()
    server.receive(hello, 0.01)
    assert server.datagrams_to_send() == []
    server.receive(hello, 0.06)
    assert server.datagrams_to_send() == flight
    server.receive(hello, 0.07)
    assert server.datagrams_to_send() == []


def test_the_flight_is_repeated_ever_more_rarely_until_it_fails() -> None:
    """Nobody answers the client."""
    net = network(lambda number, _: [])
    times: list[float] = []
    net.fate = lambda number, _: times.append(net.now - 100) or []  # type: ignore[func-returns-value]
    net.run(lambda: net.ends["client"].events)
    assert times == [pytest.approx(at) for at in (0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75)]
    [event] = net.ends["client"].events
    assert isinstance(event, HandshakeFailed)
    assert event.reason == "no_handshake"
    assert net.now - 100 == HANDSHAKE_S
    assert net.ends["client"].engine.get_timer() is None


def test_openssls_own_retransmission_is_let_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In real time: after a second it repeats the flight with record numbers of its own."""
    end = End(CLIENT, "client", SERVER.fingerprint)
    end.engine.start(0.0)
    [hello] = end.engine.datagrams_to_send()
    time.sleep(1.05)
    end.engine.handle_timer(1.05)
    [again] = end.engine.datagrams_to_send()
    assert again != hello
    assert again[5:11] > hello[5:11]  # record sequence number
    assert again[13:] == hello[13:]


# ---- data, and the end ------------------------------------------------------------------------------


def test_application_data_goes_both_ways_in_order() -> None:
    net = connected()
    for name, other in (("server", "client"), ("client", "server")):
        messages = [f"{number} from {name}".encode() for number in range(3)] + [bytes(1150)]
        for message in messages:
            net.ends[name].engine.send_data(message)
        net.collect()
        net.run(lambda: False, at_most_s=0.1)
        received = [e.data for e in net.ends[other].events if isinstance(e, ApplicationData)]
        assert received == messages


def test_data_sent_together_with_the_end_of_the_handshake_arrives() -> None:
    """The client speaks at once; its Finished and its data come in the wrong order."""
    net = network(lambda number, datagram: [0.05 if number == 2 else 0.01])
    client = net.ends["client"]
    net.run(lambda: client.keys)
    client.engine.send_data(b"early")
    net.run(lambda: net.ends["server"].events[-1:] == [ApplicationData(b"early")], at_most_s=5)
    assert net.ends["server"].events[-1] == ApplicationData(b"early")


def test_data_before_the_handshake_is_lost_without_harm() -> None:
    end = End(SERVER, "server", CLIENT.fingerprint)
    end.engine.send_data(b"too early")
    assert end.engine.datagrams_to_send() == []


def test_a_goodbye_is_heard_and_everything_after_it_dropped() -> None:
    net = connected()
    client = net.ends["client"]
    client.engine.send_data(b"late")
    [late] = client.engine.datagrams_to_send()
    net.ends["server"].engine.close()
    net.run(lambda: Closed() in client.events, at_most_s=1)
    assert client.events[-1] == Closed()
    net.ends["server"].engine.receive(late, net.now)
    client.engine.receive(late, net.now)
    assert net.ends["server"].dropped == {"session_over": 1}
    assert client.dropped == {"session_over": 1}
    client.engine.send_data(b"nobody there")
    client.engine.close()
    net.collect()
    assert client.events.count(Closed()) == 1


def test_closing_before_anything_came_is_quiet() -> None:
    end = End(SERVER, "server", CLIENT.fingerprint)
    end.engine.close()
    end.engine.close()
    end.engine.start(0.0)
    assert (end.engine.datagrams_to_send(), end.engine.next_event(), end.engine.get_timer()) == (
        [],
        None,
        None,
    )


def test_after_a_failure_datagrams_are_dropped_under_its_name() -> None:
    net = network()
    net.ends["server"] = End(SERVER, "server", ("sha-256", bytes(32)))
    net.run(lambda: net.ends["server"].events)
    net.ends["server"].engine.receive(b"\x16" + bytes(30), net.now)
    assert net.ends["server"].dropped["dtls_failed"] == 1


# ---- what is no DTLS --------------------------------------------------------------------------------


def hello() -> bytes:
    end = End(CLIENT, "client", SERVER.fingerprint)
    end.engine.start(0.0)
    [datagram] = end.engine.datagrams_to_send()
    return datagram


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x16",
        b"\x16\xfe\xfd" + bytes(100),  # an empty record, then none
        b"\x17\xfe\xfd\0\0" + bytes(6) + b"\0\4data",  # data in the clear
        b"\x14\xfe\xfd\0\0" + bytes(6) + b"\0\1\1",
        b"\x15\xfe\xfd\0\0" + bytes(6) + b"\0\2\2\x28",
        hello()[:-1],
        hello().replace(b"\x16\xfe\xff", b"\x16\3\3", 1),
        hello()[:13] + b"\2" + hello()[14:],  # a ServerHello
    ],
)
def test_nothing_is_built_before_a_client_hello(garbage: bytes) -> None:
    end = End(SERVER, "server", CLIENT.fingerprint)
    end.engine.receive(garbage, 0.0)
    assert end.dropped == {"dtls_malformed": 1}
    assert end.engine.get_timer() is None
    assert end.engine._connection is None


def test_a_client_waits_for_its_path_whatever_comes() -> None:
    end = End(CLIENT, "client", SERVER.fingerprint)
    end.engine.receive(hello(), 0.0)
    assert end.dropped == {"dtls_malformed": 1}
    assert end.engine._connection is None


def test_a_truncated_record_behind_a_whole_one_is_cut_off() -> None:
    end = End(SERVER, "server", CLIENT.fingerprint)
    end.engine.receive(hello() + b"\x16\xfe\xfd\0\0\0\0\0\0\0\1\1\0cut", 0.0)
    assert len(end.engine.datagrams_to_send()) == 1
    assert end.dropped == {}


def test_data_in_the_clear_does_not_disturb_a_handshake() -> None:
    net = network()
    forged = b"\x17\xfe\xfd\0\0\0\0\0\0\0\5\0\4evil"
    net.run(lambda: net.sent >= 2)
    net.ends["server"].engine.receive(forged, net.now)
    net.run(lambda: net.is_done)
    assert net.is_done
    assert net.ends["server"].dropped == {"dtls_malformed": 1}


def test_forged_and_replayed_data_is_dropped_by_name_and_the_call_goes_on() -> None:
    net = connected()
    server, client = net.ends["server"], net.ends["client"]
    client.engine.send_data(b"once")
    [datagram] = client.engine.datagrams_to_send()
    server.engine.receive(datagram, net.now)
    server.engine.receive(datagram, net.now)
    forged = bytearray(datagram)
    forged[-1] ^= 1
    forged[10] += 9  # another sequence number: not a replay
    server.engine.receive(bytes(forged), net.now)
    net.collect()
    assert [e for e in server.events if isinstance(e, ApplicationData)] == [ApplicationData(b"once")]
    assert server.dropped == {"dtls_malformed": 2}
    client.engine.send_data(b"twice")
    net.collect()
    net.run(lambda: server.events[-1] == ApplicationData(b"twice"), at_most_s=1)
    assert server.events[-1] == ApplicationData(b"twice")


def test_ten_thousand_garbage_datagrams_leave_a_connection_alone() -> None:
    net = connected()
    server, client = net.ends["server"], net.ends["client"]
    random = Random(3)
    for number in range(10_000):
        kind = random.choice([20, 21, 22, 23, 23, 23, 24, 63])
        epoch = random.choice([0, 0, 1, 1, 2])
        body = random.randbytes(random.randrange(60))
        length = len(body) if number % 4 else random.randrange(65536)
        header = bytes([kind, 0xFE, random.choice([0xFD, 0xFF])]) + epoch.to_bytes(2, "big")
        header += random.randbytes(6) + length.to_bytes(2, "big")
        server.engine.receive(header + body, net.now + number / 1000)
        assert len(b"".join(server.engine.datagrams_to_send())) <= 300
    assert server.engine.next_event() is None
    client.engine.send_data(b"still here")
    net.collect()
    net.run(lambda: server.events[-1] == ApplicationData(b"still here"), at_most_s=1)
    assert server.events[-1] == ApplicationData(b"still here")


# ---- memory -----------------------------------------------------------------------------------------


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_thousand_handshakes_never_finished() -> None:
    """Each costs next to nothing before the hello and what OpenSSL needs (66 KB) after it. A failed one gives
    that back, though its owner still holds it: rounds of a thousand come to a plateau."""
    greeting, drop = hello(), Counters().drop
    resident = [resident_bytes()]
    for _ in range(6):
        engines = [
            Dtls12(SERVER, role="server", fingerprints=[CLIENT.fingerprint], drop=drop) for _ in range(1000)
        ]
        if len(resident) == 1:
            assert (resident_bytes() - resident[0]) / 1000 < 3_000
        for engine in engines:
            engine.receive(greeting, 0.0)
            engine.datagrams_to_send()
        resident.append(resident_bytes())
        for engine in engines:
            engine.handle_timer(HANDSHAKE_S)
            assert isinstance(engine.next_event(), HandshakeFailed)
    assert (resident[1] - resident[0]) / 1000 < 90_000
    assert (resident[6] - resident[5]) / 1000 < 3_000


# ---- aiortc as the other side -----------------------------------------------------------------------


class Wire:
    """What RTCDtlsTransport wants of an ICE transport: its role and two coroutines."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.towards_aiortc: asyncio.Queue[bytes] = asyncio.Queue()
        self.from_aiortc: asyncio.Queue[bytes] = asyncio.Queue()

    async def _recv(self) -> bytes:
        return await self.towards_aiortc.get()

    async def _send(self, data: bytes) -> None:
        self.from_aiortc.put_nowait(data)


async def until(end: End, event: HandshakeEvent) -> None:
    """The test's own timeout ends it if it never comes."""
    while event not in end.events:
        await asyncio.wait_for(end.happened.wait(), 10)
        end.happened.clear()


async def serve(end: End, wire: Wire) -> None:
    """Pump an engine in real time until it is cancelled."""
    loop = asyncio.get_running_loop()
    end.engine.start(loop.time())
    while True:
        for datagram in end.engine.datagrams_to_send():
            wire.towards_aiortc.put_nowait(datagram)
        while (event := end.engine.next_event()) is not None:
            end.events.append(event)
            end.happened.set()
        due = end.engine.get_timer()
        try:
            wait_s = None if due is None else max(0.0, due - loop.time())
            datagram = await asyncio.wait_for(wire.from_aiortc.get(), wait_s)
        except TimeoutError:
            end.engine.handle_timer(loop.time())
        else:
            if 20 <= datagram[0] <= 63:
                end.engine.receive(datagram, loop.time())


@pytest.mark.parametrize("profile", [SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80])
@pytest.mark.parametrize("role", ["server", "client"])
async def test_aiortc_shakes_hands_and_has_the_same_keys(role: Role, profile: SRTPProtectionProfile) -> None:
    certificate = RTCCertificate.generateCertificate()
    [theirs, *_] = certificate.getFingerprints()
    end = End(SERVER, role, (theirs.algorithm, bytes.fromhex(theirs.value.replace(":", ""))))
    wire = Wire("controlling")
    transport = RTCDtlsTransport(wire, [certificate])
    transport._srtp_profiles = [profile]
    transport._set_role("client" if role == "server" else "server")
    received: asyncio.Queue[bytes] = asyncio.Queue()
    transport._register_data_receiver(SimpleNamespace(_handle_data=received.put))
    pump = asyncio.create_task(serve(end, wire))
    name, digest = SERVER.fingerprint
    parameters = RTCDtlsParameters([RTCDtlsFingerprint(name, digest.hex(":").upper())])
    await transport.start(parameters)
    assert transport.state == "connected"
    await transport._send_data(b"from aiortc")
    await transport._send_data(b"again")
    await until(end, ApplicationData(b"again"))
    keys = end.keys
    assert keys is not None
    assert keys.profile.value == profile.openssl_profile.decode()
    protected = transport._tx_srtp.protect(b"\x80\x6f\0\1" + bytes(8) + b"hello")
    assert unprotect(keys, protected)[12:] == b"hello"
    end.engine.send_data(b"to aiortc")
    wire.towards_aiortc.put_nowait(end.engine.datagrams_to_send()[0])
    assert await received.get() == b"to aiortc"
    await transport.stop()
    await until(end, Closed())
    pump.cancel()


def unprotect(keys: SrtpKeys, packet: bytes) -> bytes:
    from pylibsrtp import Policy, Session

    number = {
        SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
        SrtpProfile.AES128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    }[keys.profile]
    policy = Policy(key=keys.remote, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=number)
    return Session(policy).unprotect(packet)


def test_flights_hold_no_application_data() -> None:
    """What is repeated is handshake only: data is never sent twice by the engine."""
    net = connected()
    server = net.ends["server"]
    server.engine.send_data(b"x")
    server.engine.datagrams_to_send()
    finished = b"\x16\xfe\xfd\0\1" + (5).to_bytes(6, "big") + b"\0\x28" + bytes(40)
    server.engine.receive(finished, net.now + 1)
    repeated = [record.type for datagram in server.engine.datagrams_to_send() for record in cut(datagram)]
    assert HANDSHAKE in repeated
    assert APPLICATION_DATA not in repeated
