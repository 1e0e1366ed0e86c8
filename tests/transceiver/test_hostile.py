"""What strangers and bad clients send to the socket: every refusal has a name, memory a bound, others go on.

Each test runs beside a call that goes on talking (`Bystander`), and ends with every datagram accounted for
(`World.close`).
"""

import asyncio
import random
import time
import warnings
from collections.abc import AsyncIterator
from hashlib import sha256
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from pyfastpath.transceiver import ice
from pyfastpath.transceiver import session as session_module
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.tone import Tone
from pyfastpath.transceiver.certificate import Certificate
from pyfastpath.transceiver.dtls import Dtls12
from pyfastpath.transceiver.requests import SessionError
from pyfastpath.wire import rtp, stun
from tests.support.rtc_call import Call
from tests.support.rtc_client import RtcClient, certificate
from tests.support.rtc_pair import path_of
from tests.support.rtc_world import Bystander, Caller, World, new_socket, rss_bytes

MB = 1 << 20
THOUSAND = 1000
ATTACKER = "127.0.0.2"  # ports of this address are the tests' own: none comes twice


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Echo, capacity=2 * THOUSAND)
    async with Bystander(made):
        yield made
    await made.close()


# ---- who has not the right keys -----------------------------------------------------------------------


async def test_a_wrong_fingerprint_ends_the_call_by_name_before_any_key(world: World) -> None:
    caller = world.call(offer={"fingerprint": ":".join(["00"] * 32)})
    caller.send(caller.client.check())
    await caller.until(lambda: caller.client.successes)
    caller.send(*caller.client.start_dtls(time.monotonic()))
    await caller.until(lambda: caller.client.failed)
    assert world.closed == {"fingerprint_mismatch": 1}
    assert caller.client.srtp is None
    caller.send(b"\x80\x6f" + bytes(40))
    await world.until(lambda: world.dropped == {"unknown_path": 1})


def _bent(before: bytes, after: bytes) -> tuple[SSL.Context, bytes]:
    """A context that shows a certificate with these bytes replaced, and its DER form."""
    good = Certificate.generate(1_800_000_000)
    der = good._certificate.public_bytes(Encoding.DER)
    assert der.count(before) >= 1
    der = der.replace(before, after, 1)
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.set_tlsext_use_srtp(b"SRTP_AEAD_AES_128_GCM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
    context.use_privatekey(good._key)
    return context, der


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09"),  # version 10
        (b"\x17\x0d2", b"\x17\x0dX"),  # a date that is none
    ],
)
async def test_a_certificate_that_cannot_be_read_is_a_mismatch_and_no_fault(
    world: World, before: bytes, after: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenSSL takes it, and its fingerprint is the one of the offer."""
    context, der = _bent(before, after)
    caller = world.call(offer={"fingerprint": sha256(der).digest().hex(":").upper()})
    client = caller.client

    client.dtls = Dtls12(
        SimpleNamespace(context=context),  # type: ignore[arg-type]
        role="client",
        fingerprints=(certificate().fingerprint,),
        drop=lambda reason: None,
    )
    caller.send(client.check())
    await caller.until(lambda: client.successes)
    caller.send(*client.start_dtls(time.monotonic()))
    await caller.until(lambda: client.failed)
    assert world.closed == {"fingerprint_mismatch": 1}
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_wrong_password_is_answered_401_and_opens_nothing(world: World) -> None:
    caller = world.call()
    before = world.counters.sent
    for _ in range(100):
        caller.send(caller.client.check(key="x" * 24))
    await caller.until(lambda: len(caller.client.errors) == 100)
    assert set(caller.client.errors) == {401}
    assert world.dropped == {"stun_bad_integrity": 100}
    caller.send(*caller.client.start_dtls(time.monotonic()))
    await world.until(lambda: world.counters.dropped["unknown_path"])
    assert world.endpoint.session(caller.sid).state == "created"
    assert world.counters.sent - before < 200, "nothing but the refusals, and the bystander's echo"


async def test_what_is_replayed_is_dropped_by_name(world: World) -> None:
    caller = await world.live()
    await caller.hears(b"\x78once")
    words = [caller.client.audio(b"\x78%d" % number) for number in range(10)]
    caller.send(*words, *words * 20)
    caller.send(*[caller.client.srtp.protect_rtcp(b"\x80\xc9\0\1\0\0\0\1")] * 11)
    await world.until(lambda: world.dropped == {"srtp_replayed": 210})
    await caller.until(lambda: caller.client.received[-1].payload == b"\x789")
    said = [packet.payload for packet in caller.client.received]
    assert said[-10:] == [b"\x78%d" % number for number in range(10)]


async def test_every_single_byte_of_a_packet_is_protected(world: World) -> None:
    caller = await world.live()
    await caller.hears(b"\x78before")
    good = caller.client.audio(b"\x78good" * 4)
    bent = [
        good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
        for at in range(len(good))
        for flip in (0x01, 0x10, 0x80, 0xFF)
    ]
    bent += [good[:length] for length in range(1, len(good))] + [good + b"\0"]
    # The first byte may make STUN or DTLS of it, the third and fourth another sequence number.
    assert await world.flood(bent, caller.socket) == sum(world.dropped.values())
    assert world.counters.dropped["srtp_auth_failed"] > 0.8 * len(bent)
    assert set(world.dropped) <= {
        "srtp_auth_failed",
        "srtp_malformed",
        "srtp_replayed",
        "stun_malformed",
        "not_webrtc",
        "dtls_malformed",
    }
    caller.send(good)
    await caller.until(lambda: caller.client.received[-1].payload == b"\x78good" * 4)


OFFERS = {
    "too_large": lambda sdp: sdp + "a=x:" + "y" * 70_000 + "\r\n",
    "no_audio": lambda sdp: sdp[: sdp.index("m=audio")] + sdp[sdp.index("m=application") :],
    "no_audio video": lambda sdp: sdp.replace("m=audio", "m=video"),
    "no_bundle": lambda sdp: sdp.replace("a=group:BUNDLE 0 1\r\n", ""),
    "no_rtcp_mux": lambda sdp: sdp.replace("a=rtcp-mux\r\n", ""),
    "no_opus": lambda sdp: sdp.replace("opus/48000/2", "PCMU/8000"),
    "bad_fingerprint": lambda sdp: sdp.replace("a=fingerprint:sha-256", "a=fingerprint:md5"),
    "bad_ice": lambda sdp: sdp.replace("a=ice-pwd:", "a=ice-pwd:short\r\na=x:"),
    "bad_sdp": lambda sdp: sdp.replace("m=audio 9", "m=audio x"),
    "bad_sdp empty": lambda sdp: "",
    "bad_sdp random": lambda sdp: random.Random(1).randbytes(500).decode("latin-1"),
}


@pytest.mark.parametrize("name", OFFERS)
async def test_an_offer_that_cannot_be_is_refused_by_name_and_leaves_nothing(world: World, name: str) -> None:
    opened = world.counters.opened
    for _ in range(50):
        with pytest.raises(SessionError) as caught:
            world.endpoint.create(world.request(OFFERS[name](RtcClient().offer()), {}))
        assert caught.value.code == name.partition(" ")[0]
        assert caught.value.message
    del caught  # its traceback holds the last one
    assert (len(world.endpoint), world.counters.opened) == (1, opened)
    assert await world.seats() == 1


# ---- garbage ------------------------------------------------------------------------------------------


def _garbage(real: list[bytes], count: int) -> list[bytes]:
    """Random bytes of every kind of first byte, and real datagrams bent, cut, doubled and joined."""
    draw = random.Random(7)
    found = [draw.randbytes(draw.choice((1, 4, 13, 20, 28, 60, 200, 1200, 1500))) for _ in range(count // 2)]
    while len(found) < count:
        datagram = bytearray(draw.choice(real))
        kind = draw.randrange(4)
        if kind == 0:
            for _ in range(draw.randint(1, 8)):
                datagram[draw.randrange(len(datagram))] = draw.randrange(256)
        elif kind == 1:
            del datagram[draw.randrange(1, len(datagram)) :]
        elif kind == 2:
            datagram += draw.choice(real)
        else:
            datagram[draw.randrange(len(datagram)) :] = draw.randbytes(draw.randint(1, 300))
        found.append(bytes(datagram))
    draw.shuffle(found)
    return found


async def test_ten_thousand_garbage_datagrams(world: World) -> None:
    """From an address nobody knows, and from a live call's own: that one lives on, too."""
    caller = await world.live()
    for number in range(20):
        await caller.hears(b"\x78%d" % number)
    caller.send(caller.client.srtp.protect_rtcp(b"\x80\xc9\0\1\0\0\0\1"))
    real, used = list(caller.sent), sum(world.counters.used.values())
    with new_socket() as stranger:
        before = rss_bytes()
        count = await world.flood(_garbage(real, 5000), stranger)
        count += await world.flood(_garbage(real, 5000), caller.socket)
        assert count == 10_000
        assert rss_bytes() - before < 16 * MB
    dropped = sum(world.dropped.values())
    assert dropped > 0.8 * count  # what was joined behind a whole record or doubled may be of use
    assert world.counters.received == sum(world.counters.used.values()) + dropped
    assert sum(world.counters.used.values()) - used < 0.2 * count + 1000
    caller.client.received.clear()
    await caller.hears(b"\x78still here")
    assert world.closed == {}


async def test_ten_thousand_garbage_datagrams_in_the_middle_of_a_handshake(world: World) -> None:
    model = await world.live()
    real = [datagram for datagram in model.sent if 20 <= datagram[0] <= 63]
    caller = world.call()
    caller.send(caller.client.check())
    await caller.until(lambda: caller.client.successes)
    before = rss_bytes()
    await world.flood(random.Random(3).sample(_garbage(real, 10_000), 10_000), caller.socket)
    assert rss_bytes() - before < 16 * MB
    info = world.endpoint.session(caller.sid) if len(world.endpoint) == 3 else None
    assert info is not None or world.closed in ({"dtls_failed": 1}, {"fingerprint_mismatch": 1})


# ---- half open ----------------------------------------------------------------------------------------


def _client_hello() -> bytes:
    """The first flight of somebody: it is bound to no session."""
    client = RtcClient()
    client.remote = {"a=setup": "passive", "a=fingerprint": "sha-256 " + ":".join(["00"] * 32)}
    client.accept("")
    (hello,) = client.start_dtls(0.0)
    return hello


async def _half_open(world: World, port: int) -> None:
    """Checks, says hello to DTLS, and is gone."""
    caller = world.call()
    caller.socket.close()
    with new_socket((ATTACKER, port)) as once:
        once.sendto(caller.client.check(), world.server)
        once.sendto(_HELLO, world.server)
    world.clients.remove(caller)


_HELLO = _client_hello()


async def test_a_thousand_handshakes_never_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "SETUP_S", 3.0)
    start, peaks, so_far = rss_bytes(), [], 0
    for count in (THOUSAND, 300):
        begun = world.counters.used["dtls"]
        for number in range(count):
            await _half_open(world, 20_000 + number)
            if number % 20 == 19:
                await asyncio.sleep(0)
        await world.until(lambda: world.counters.used["dtls"] >= begun + count)  # noqa: B023
        peaks.append(rss_bytes() - start)
        so_far += count
        await world.until(lambda: world.closed == {"no_handshake": so_far})  # noqa: B023
        assert len(world.endpoint) == 1
    assert peaks[0] < 150 * MB, "what OpenSSL holds for a handshake is 70 KB"
    assert peaks[1] < peaks[0] + 20 * MB, "those after the first thousand take what it gave back"


async def test_messages_announced_in_pieces_that_never_come_take_no_memory(world: World) -> None:
    """OpenSSL keeps room for ten messages of 100 KB each, at a word."""
    before = rss_bytes()
    for number in range(50):
        await _half_open(world, 20_000 + number)
        with new_socket((ATTACKER, 20_000 + number)) as again:
            for at in range(11):
                piece = b"\x0b" + (100_000).to_bytes(3, "big") + bytes([0, 1 + at, 0, 0, 0, 0, 0, 1, 0])
                again.sendto(b"\x16\xfe\xfd" + bytes(7) + bytes([9 + at, 0, 13]) + piece, world.server)
        await asyncio.sleep(0.01)
    await world.until(lambda: world.dropped == {"dtls_malformed": 550})
    assert rss_bytes() - before < 50 * 200_000


async def test_a_thousand_answered_offers_of_which_nothing_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "SETUP_S", 1.0)
    before = rss_bytes()
    for number in range(THOUSAND):
        world.endpoint.create(world.request(RtcClient().offer(), {}))
        if number % 20 == 19:
            await asyncio.sleep(0)
    assert rss_bytes() - before < 60 * MB
    await world.until(lambda: world.closed == {"no_check": THOUSAND})
    assert await world.seats() == 1


async def test_many_hellos_on_one_session_disturb_no_handshake_and_pay_no_flood(world: World) -> None:
    """Whoever can write a client's address sends hellos of his own behind the genuine one."""
    caller = world.call()
    caller.send(caller.client.check())
    await caller.until(lambda: caller.client.checks_received)
    caller.send(*caller.client.start_dtls(time.monotonic()))
    hellos = [_client_hello() for _ in range(300)]
    before, sent = rss_bytes(), world.counters.sent_bytes
    await world.flood(hellos, caller.socket)
    assert rss_bytes() - before < 8 * MB
    assert world.counters.sent_bytes - sent < 2 * sum(map(len, hellos))
    await caller.until(lambda: caller.client.srtp)
    await caller.hears(b"\x78genuine")
    await world.flood(hellos, caller.socket)
    caller.client.received.clear()
    await caller.hears(b"\x78still here")


async def test_alerts_in_the_clear_end_no_call(world: World) -> None:
    caller = await world.live()
    for level, what in ((2, 40), (1, 0), (2, 10)):
        caller.send(b"\x15\xfe\xfd" + bytes(8) + b"\0\2" + bytes([level, what]))
    await caller.hears(b"\x78still here")


# ---- paths --------------------------------------------------------------------------------------------


async def test_a_flood_of_checks_from_many_addresses_is_answered_within_bounds(world: World) -> None:
    caller = await world.live()
    connection = world.endpoint._roster.of_sid(caller.sid).session.connection
    before, known = rss_bytes(), len(world.endpoint._roster.by_identity)
    for number in range(2 * THOUSAND):
        with new_socket((ATTACKER, 20_000 + number)) as once:
            once.sendto(caller.client.check(), world.server)
        if number % 32 == 31:
            await asyncio.sleep(0)
            assert len(connection._ice.paths) <= ice.PATHS_MAX
            assert len(world.endpoint._roster.by_identity) <= known + ice.PATHS_MAX
    assert rss_bytes() - before < 8 * MB
    await caller.hears(b"\x78on the first path still")
    assert world.dropped == {}


async def test_a_check_replayed_from_elsewhere_gets_no_answer_and_no_path(world: World) -> None:
    caller = await world.live()
    known = len(world.endpoint._roster.by_identity)
    sockets = [new_socket() for _ in range(100)]
    for one in sockets:
        one.sendto(caller.sent[0], world.server)
    await world.until(lambda: world.dropped == {"stun_replayed_transaction": 100})
    assert len(world.endpoint._roster.by_identity) == known
    for one in sockets:
        with pytest.raises(BlockingIOError):
            one.recv(2048)
        one.close()
    await caller.hears(b"\x78still here")


def _ignorant(caller: Caller, *, of_stun: bool = True) -> None:
    """Take what waits, without a look at other sessions' STUN."""
    while True:
        try:
            datagram = caller.socket.recv(2048)
        except BlockingIOError:
            return
        if datagram[0] > 3 or not of_stun:
            caller.client.receive(datagram, time.monotonic(), None)  # type: ignore[arg-type]


async def test_nobody_takes_a_live_calls_path_by_writing_its_address(world: World) -> None:
    """A thief with a session of his own sends its checks from the victim's address. He cannot answer ours."""
    victim = await world.live()
    await victim.hears(b"\x78mine")
    thief = world.call()
    for number in range(50):
        victim.socket.sendto(thief.client.check(), world.server)
        victim.send(victim.client.audio(b"\x78%d" % number))
    await asyncio.sleep(0.1)
    _ignorant(victim)
    assert [packet.payload for packet in victim.client.received][-50:] == [b"\x78%d" % n for n in range(50)]
    assert world.dropped == {}
    world.endpoint.close_session(thief.sid)
    victim.client.received.clear()
    victim.send(victim.client.audio(b"\x78still mine"))
    await asyncio.sleep(0.05)
    _ignorant(victim)
    assert [packet.payload for packet in victim.client.received] == [b"\x78still mine"]


async def test_a_path_taken_before_it_was_proven_comes_back_with_the_next_check(world: World) -> None:
    victim, thief = world.call(), world.call()
    victim.client.answers_checks = False
    victim.send(victim.client.check())
    await victim.until(lambda: victim.client.successes)
    victim.socket.sendto(thief.client.check(), world.server)
    await asyncio.sleep(0.05)
    _ignorant(victim)
    victim.client.answers_checks = True
    victim.client.successes.clear()
    victim.send(victim.client.check(), *victim.client.start_dtls(time.monotonic()))
    deadline = time.monotonic() + 5
    while victim.client.srtp is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
        try:
            victim.receive()
        except AssertionError:  # the thief's STUN: signed with what the victim does not know
            continue
    await asyncio.sleep(0.3)
    _ignorant(victim)


async def test_a_new_call_from_an_old_ones_address_gets_it_when_the_old_one_is_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that forgot its call begins another one on the same socket."""
    monkeypatch.setattr(ice, "HOLD_S", 0.3)
    old = await world.live()
    await asyncio.sleep(0.4)
    new = world.call()
    new.socket.close()
    new.socket = old.socket
    await new.connect()
    await new.hears(b"\x78new")


def test_a_nominated_address_that_never_answers_gets_no_media_ever() -> None:
    """An owner of a session who aims its audio at somebody: minutes of trying, in virtual time."""
    call = Call(Tone())
    call.connect()
    call.run(1)
    victim = path_of(9, host=66)
    call.deaf.add(victim)
    call.down.clear()
    up_bytes = 0
    for _ in range(200):
        for _ in range(3):
            check = call.client.check(nominate=True)
            up_bytes += len(check)
            call.up(check, path=victim)
        call.up(call.client.check(nominate=False))
        call.run(1)
        if call.state == "closed":
            break
    there = [datagram for path, datagram, _ in call.down if path == victim]
    assert {datagram[0] >> 6 for datagram in there} == {0}, "STUN and nothing else"
    assert all(stun.parse_message(datagram) for datagram in there)
    assert sum(map(len, there)) <= 3 * up_bytes
    media = [path for path, datagram, _ in call.down if datagram[0] >> 6 == 2]
    assert len(media) > 9_000
    assert set(media) == {call.path}


async def test_consent_that_is_not_renewed_ends_the_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await world.live()
    monkeypatch.setattr(ice, "CONSENT_S", 0.5)
    caller.send(caller.client.check(nominate=False))
    await caller.until(lambda: len(caller.client.successes) == 2)
    began = time.monotonic()
    while len(world.endpoint) == 2:  # its media renews nothing
        caller.send(caller.client.audio(b"\x78"))
        assert time.monotonic() < began + 5
        await asyncio.sleep(0.01)
    assert world.closed == {"consent_expired": 1}
    _ignorant(caller)
    caller.send(caller.client.audio(b"\x78"))
    before = world.counters.dropped["unknown_path"]
    await world.until(lambda: world.counters.dropped["unknown_path"] > before - 1)
    await asyncio.sleep(0.1)
    with pytest.raises(BlockingIOError):
        caller.socket.recv(2048)


async def test_what_has_ended_is_not_kept_by_its_timers(world: World) -> None:
    for _ in range(30):
        caller = await world.live()
        await caller.hears(b"\x78word")
        caller.hang_up()
        await caller.until(lambda: len(world.endpoint) == 1)
        world.clients.remove(caller)
        caller.socket.close()
    del caller
    assert await world.seats() == 1


async def test_an_oversized_payload_is_not_echoed_and_ends_nothing(world: World) -> None:
    """A client whose packets are longer than ours can be."""
    caller = await world.live()
    header = rtp.build_header(111, False, 900, 4000, caller.client.ssrc)
    caller.send(caller.client.srtp.protect(header + b"\x78" + bytes(1450)))
    await caller.hears(b"\x78still here")
    assert world.closed == {}
    assert max(len(packet.payload) for packet in caller.client.received) < 100
