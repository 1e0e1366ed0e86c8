"""SRTP both ways between two sessions and against libsrtp's own vectors; every refusal has its name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfastpath.transceiver.counters import DROP_REASONS
from pyfastpath.transceiver.keys import SrtpKeys, SrtpProfile
from pyfastpath.transceiver.srtp import REPLAY_WINDOW, SSRCS_MAX, SrtpError, SrtpSession
from pyfastpath.wire import rtcp, rtp

SSRC = 0xCAFEBABE
PROFILES = pytest.mark.parametrize("profile", SrtpProfile, ids=lambda profile: profile.name)


def keys_of(profile: SrtpProfile, seed: int = 1) -> SrtpKeys:
    size = profile.key_bytes + profile.salt_bytes
    return SrtpKeys(profile, bytes([seed]) * size, bytes([seed + 1]) * size)


def pair(profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM) -> tuple[SrtpSession, SrtpSession]:
    keys = keys_of(profile)
    return SrtpSession(keys), SrtpSession(keys.swapped())


def packet(sequence: int, ssrc: int = SSRC) -> bytes:
    return rtp.build_packet(111, False, sequence & 0xFFFF, 960 * sequence & 0xFFFFFFFF, ssrc, b"opus" * 20)


def reason_of(session: SrtpSession, data: bytes, *, is_rtcp: bool = False) -> str:
    with pytest.raises(SrtpError) as caught:
        (session.unprotect_rtcp if is_rtcp else session.unprotect)(data)
    assert caught.value.reason in dict(DROP_REASONS)
    return caught.value.reason


REPORT = rtcp.build_compound([rtcp.ReceiverReport(SSRC), rtcp.Bye((SSRC,))])

# Of libsrtp's test/srtp_driver.c: the packet 800f1234 decafbad cafebabe, 16 times ab.
LIBSRTP = {
    SrtpProfile.AES128_CM_SHA1_80: (
        "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
        "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
    ),
    SrtpProfile.AEAD_AES_128_GCM: (
        "000102030405060708090a0b0c0d0e0fa0a1a2a3a4a5a6a7a8a9aaab",
        "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
    ),
}


@PROFILES
def test_the_vectors_of_libsrtp(profile: SrtpProfile) -> None:
    key, protected = (bytes.fromhex(text) for text in LIBSRTP[profile])
    session = SrtpSession(SrtpKeys(profile, key, key))
    plain = bytes.fromhex("800f1234decafbadcafebabe" + "ab" * 16)
    assert session.protect(plain) == protected
    assert session.unprotect(protected) == plain


@PROFILES
def test_both_ways(profile: SrtpProfile) -> None:
    one, other = pair(profile)
    for sequence in range(5):
        for sender, receiver in ((one, other), (other, one)):
            assert receiver.unprotect(sender.protect(packet(sequence))) == packet(sequence)
            assert receiver.unprotect_rtcp(sender.protect_rtcp(REPORT)) == REPORT


@PROFILES
def test_sequence_numbers_wrap(profile: SrtpProfile) -> None:
    one, other = pair(profile)
    for sequence in range(65_530, 65_545):
        assert other.unprotect(one.protect(packet(sequence))) == packet(sequence)


@PROFILES
def test_a_replay_is_named(profile: SrtpProfile) -> None:
    one, other = pair(profile)
    protected, report = one.protect(packet(1)), one.protect_rtcp(REPORT)
    other.unprotect(protected)
    other.unprotect_rtcp(report)
    assert reason_of(other, protected) == "srtp_replayed"
    assert reason_of(other, report, is_rtcp=True) == "srtp_replayed"


def test_the_replay_window_is_wide() -> None:
    """What is late by less is heard, once; what is later could be a replay."""
    one, other = pair()
    protected = [one.protect(packet(sequence)) for sequence in range(REPLAY_WINDOW + 2)]
    other.unprotect(protected[-1])
    assert other.unprotect(protected[2]) == packet(2)
    assert reason_of(other, protected[2]) == "srtp_replayed"
    assert reason_of(other, protected[1]) == "srtp_too_old"


@PROFILES
@pytest.mark.parametrize("at", [12, -1], ids=["payload", "tag"])
def test_corruption_is_named_and_leaves_no_trace(profile: SrtpProfile, at: int) -> None:
    one, other = pair(profile)
    other.unprotect(one.protect(packet(0)))
    good = one.protect(packet(1))
    bad = bytearray(good)
    bad[at] ^= 1
    assert reason_of(other, bytes(bad)) == "srtp_auth_failed"
    assert other.unprotect(good) == packet(1)


@PROFILES
def test_another_key_is_named(profile: SrtpProfile) -> None:
    stranger = SrtpSession(keys_of(profile, seed=7))
    _, other = pair(profile)
    assert reason_of(other, stranger.protect(packet(1))) == "srtp_auth_failed"
    assert reason_of(other, stranger.protect_rtcp(REPORT), is_rtcp=True) == "srtp_auth_failed"


@PROFILES
@pytest.mark.parametrize("size", [0, 1, 11, 12, 20])
def test_a_truncated_packet_is_refused(profile: SrtpProfile, size: int) -> None:
    one, other = pair(profile)
    assert reason_of(other, one.protect(packet(1))[:size]) in {"srtp_malformed", "srtp_auth_failed"}
    assert reason_of(other, one.protect_rtcp(REPORT)[:size], is_rtcp=True).startswith("srtp_")


def test_what_no_packet_can_be_is_malformed() -> None:
    one, other = pair()
    other.unprotect(one.protect(packet(1)))
    assert reason_of(other, packet(2) + bytes(1500)) == "srtp_malformed"
    with pytest.raises(ValueError, match="too long"):
        one.protect(packet(2) + bytes(1500))


@PROFILES
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=100) | st.binary(max_size=100).map(lambda tail: b"\x90\x6f" + tail))
def test_random_bytes_are_srtp_errors(profile: SrtpProfile, data: bytes) -> None:
    _, other = pair(profile)
    reason_of(other, data)
    reason_of(other, data, is_rtcp=True)


def test_sources_are_bounded_and_a_forger_takes_no_place() -> None:
    one, other = pair()
    stranger = SrtpSession(keys_of(SrtpProfile.AEAD_AES_128_GCM, seed=7))
    for ssrc in range(100, 200):
        assert reason_of(other, stranger.protect(packet(0, ssrc))) == "srtp_auth_failed"
    for ssrc in range(SSRCS_MAX):
        other.unprotect(one.protect(packet(0, ssrc)))
    assert reason_of(other, one.protect(packet(0, SSRCS_MAX))) == "srtp_too_many_ssrcs"
    assert other.unprotect(one.protect(packet(1, 0))) == packet(1, 0)
    assert other.unprotect_rtcp(one.protect_rtcp(rtcp.build_compound([rtcp.ReceiverReport(3)])))
