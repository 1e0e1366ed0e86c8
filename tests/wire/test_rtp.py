"""RTP: read as aiortc and scapy read it, built as they build it, and nothing but WireError for the rest."""

from pathlib import Path

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap, pack_header_extensions, unpack_header_extensions
from aiortc.rtp import RtpPacket as AiortcPacket
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.rtp import RTP

from pyfastpath.errors import WireError
from pyfastpath.wire import rtp
from tests.support.pcap import read_capture

U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
FIELDS = st.tuples(st.integers(0, 127), st.booleans(), U16, U32, U32, st.binary(max_size=40))
ONE_BYTE = st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=5)
TWO_BYTE = st.dictionaries(st.integers(1, 255), st.binary(max_size=30), max_size=5)
CSRCS = st.lists(U32, max_size=15)

URIS = {
    1: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    3: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    4: "urn:ietf:params:rtp-hdrext:sdes:mid",
}


def extensions_map() -> HeaderExtensionsMap:
    ids = HeaderExtensionsMap()
    wanted = [RTCRtpHeaderExtensionParameters(id=number, uri=uri) for number, uri in URIS.items()]
    ids.configure(RTCRtpParameters(headerExtensions=wanted))
    return ids


@given(FIELDS, ONE_BYTE | TWO_BYTE, CSRCS, st.integers(0, 255))
def test_what_is_built_is_read_back(
    fields: tuple[int, bool, int, int, int, bytes],
    extensions: dict[int, bytes],
    csrcs: list[int],
    padding: int,
) -> None:
    data = rtp.build_packet(*fields, extensions=extensions, csrcs=csrcs, padding_bytes=padding)
    packet = rtp.parse_packet(data)
    read = (
        packet.payload_type,
        packet.marker,
        packet.sequence,
        packet.timestamp,
        packet.ssrc,
        packet.payload,
    )
    assert read == fields
    assert packet.extensions == extensions
    assert packet.csrcs == tuple(csrcs)


@given(FIELDS, CSRCS, st.integers(0, 255))
def test_aiortc_and_scapy_read_what_is_built(
    fields: tuple[int, bool, int, int, int, bytes], csrcs: list[int], padding: int
) -> None:
    data = rtp.build_packet(*fields, csrcs=csrcs, padding_bytes=padding)
    other = AiortcPacket.parse(data)
    read = (other.payload_type, bool(other.marker), other.sequence_number, other.timestamp, other.ssrc)
    assert (*read, other.payload) == fields
    assert (other.csrc, other.padding_size) == (csrcs, padding)
    third = RTP(data)
    assert (third.payload_type, bool(third.marker), third.sequence, third.timestamp, third.sourcesync) == read
    assert third.sync == csrcs


@given(FIELDS, st.booleans(), st.integers(0, 127), U16, st.text("abc01", min_size=1, max_size=9))
def test_what_aiortc_builds_is_read(
    fields: tuple[int, bool, int, int, int, bytes], voice: bool, level: int, number: int, mid: str
) -> None:
    payload_type, marker, sequence, timestamp, ssrc, payload = fields
    other = AiortcPacket(payload_type, int(marker), sequence, timestamp, ssrc, payload)
    other.extensions = HeaderExtensions(audio_level=(voice, level), transport_sequence_number=number, mid=mid)
    packet = rtp.parse_packet(other.serialize(extensions_map()))
    assert (packet.payload_type, packet.marker, packet.sequence) == (payload_type, marker, sequence)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (timestamp, ssrc, payload)
    found = packet.extensions
    assert rtp.audio_level(found[1]) == (voice, -level)
    assert int.from_bytes(found[3], "big") == number
    assert found[4] == mid.encode()


@given(ONE_BYTE | TWO_BYTE)
def test_extensions_are_aiortcs_both_ways(extensions: dict[int, bytes]) -> None:
    profile, value = pack_header_extensions(list(extensions.items()))
    assert rtp.parse_extensions(profile, value) == extensions
    packet = rtp.parse_packet(rtp.build_packet(0, False, 0, 0, 0, b"", extensions=extensions))
    read = unpack_header_extensions(packet.extension_profile, packet.extension_data)
    assert dict(read) == extensions


@given(FIELDS)
def test_the_short_header_is_the_one_of_a_whole_packet(
    fields: tuple[int, bool, int, int, int, bytes],
) -> None:
    assert rtp.build_header(*fields[:5]) + fields[5] == rtp.build_packet(*fields)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"\xbf" + tail))
@example(b"\xb0" + bytes(11) + b"\xbe\xde\x00\x01\x1f\x00\x00\x04")
def test_random_bytes_are_a_packet_or_a_wire_error(data: bytes) -> None:
    try:
        packet = rtp.parse_packet(data)
    except WireError:
        return
    assert len(packet.payload) <= len(data) - rtp.HEADER_BYTES
    assert all(1 <= number <= 255 for number in packet.extensions)


HEADER = bytes([111]) + bytes(10)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "at least 12"),
        (b"\x80" + HEADER[:-1], "at least 12"),
        (b"\x40" + HEADER, "version is 1"),
        (b"\xc0" + HEADER, "version is 3"),
        (b"\x81" + HEADER, "do not fit"),  # a CSRC that is not there
        (b"\x90" + HEADER + b"\xbe\xde", "before its extension"),
        (b"\x90" + HEADER + b"\xbe\xde\x00\x02" + bytes(4), "do not fit"),
        (b"\xa0" + HEADER + b"\x00", "do not fit"),  # padding of no bytes
        (b"\xa0" + HEADER + b"\x01\x02\x04", "do not fit"),  # padding into the header
    ],
)
def test_what_does_not_fit_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        rtp.parse_packet(data)


@pytest.mark.parametrize(
    ("profile", "data", "found"),
    [
        (0xBEDE, "10aa 00 00 21bbcc 00", {1: b"\xaa", 2: b"\xbb\xcc"}),  # padding between elements
        (0xBEDE, "10aa 10bb", {1: b"\xaa"}),  # the first of an id counts
        (0xBEDE, "10aa f0bb 30cc", {1: b"\xaa"}),  # id 15 ends it
        (0xBEDE, "10aa 3f0102", {1: b"\xaa"}),  # longer than what is left
        (0xBEDE, "02 aabbcc 10dd", {1: b"\xdd"}),  # id 0 with a length: skipped
        (0x1000, "0101aa 00 0f00 10020102", {1: b"\xaa", 15: b"", 16: b"\1\2"}),
        (0x100F, "0101aa", {1: b"\xaa"}),  # application bits
        (0x1000, "0101aa 05", {1: b"\xaa"}),
        (0x1000, "0101aa 0503aa", {1: b"\xaa"}),
        (0x1234, "0101aa", {}),
    ],
)
def test_elements_up_to_the_first_that_does_not_fit(profile: int, data: str, found: dict[int, bytes]) -> None:
    raw = bytes.fromhex(data)
    assert rtp.parse_extensions(profile, raw) == found
    packet = rtp.RtpPacket(0, False, 0, 0, 0, b"", profile, raw)
    assert {
        number: packet.extension(number) for number in range(20) if packet.extension(number) is not None
    } == found


@given(st.sampled_from([0xBEDE, 0x1000]), st.binary(max_size=40), st.integers(0, 20))
def test_one_element_is_the_one_of_all(profile: int, data: bytes, number: int) -> None:
    packet = rtp.RtpPacket(0, False, 0, 0, 0, b"", profile, data)
    assert packet.extension(number) == packet.extensions.get(number)
    assert packet.extension(None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"extensions": {0: b"a"}},
        {"extensions": {256: b"a"}},
        {"extensions": {1: bytes(256)}},
        {"csrcs": range(16)},
        {"padding_bytes": 256},
    ],
)
def test_what_no_packet_can_carry_is_not_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        rtp.build_packet(0, False, 0, 0, 0, b"", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("second", "expected"), [(191, False), (192, True), (200, True), (223, True), (224, False)]
)
def test_rtp_and_rtcp_share_a_port(second: int, expected: bool) -> None:
    assert rtp.is_rtcp(bytes([0x80, second])) is expected
    assert not rtp.is_rtcp(b"\x80")


def test_audio_levels() -> None:
    assert rtp.audio_level(b"\x00") == (False, 0)
    assert rtp.audio_level(b"\xff") == (True, -127)
    assert rtp.audio_level(b"\x9e\x00") == (True, -30)  # padded, RFC 6464, section 3
    assert rtp.audio_level(b"") == (False, -127)
    assert rtp.audio_level(b"\x80\x80\x80") == (False, -127)
    assert rtp.audio_level(rtp.build_audio_level(True, -42)) == (True, -42)


@pytest.mark.parametrize("name", ["chromium-dtls12", "chromium-dtls13-sped"])
def test_what_chromium_sends(name: str) -> None:
    """SRTP leaves headers and extensions in the clear: of ten seconds of a real call."""
    capture = read_capture(Path(__file__).parents[1] / "pcaps" / f"{name}.pcap", 40_000)
    media = [each.payload for each in capture.datagrams if each.upstream and each.payload[0] >> 6 == 2]
    packets = [rtp.parse_packet(data) for data in media if not rtp.is_rtcp(data)]
    assert len(packets) > 400
    assert {(packet.payload_type, packet.ssrc) for packet in packets} == {(111, packets[0].ssrc)}
    numbers = [int.from_bytes(packet.extension(3) or b"", "big") for packet in packets]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    sequences = [packet.sequence for packet in packets]
    assert sequences == [sequences[0] + place & 0xFFFF for place in range(len(sequences))]
    levels = {rtp.audio_level(packet.extension(1) or b"")[1] for packet in packets}
    assert min(levels) == -127
    assert max(levels) > -40
