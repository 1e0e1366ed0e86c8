"""Every link, every IP header, every reason for no datagram: scapy builds them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether
from scapy.packet import Raw

from pyfastpath.errors import PcapError
from pyfastpath.types import Endpoint
from pyfastpath.wire.frames import (
    LINK_COOKED,
    LINK_COOKED2,
    LINK_ETHERNET,
    LINK_IPV4,
    LINK_IPV6,
    LINK_LOOP,
    LINK_NULL,
    LINK_RAW,
    LINKS,
    Datagram,
    Datagrams,
    Frame,
    Skip,
    dissect,
)

PAYLOAD = b"\x80hello"
V4, V6 = "203.0.113.9:5000", "[2001:db8::5]:5000"


def udp4(payload=PAYLOAD, **fields):
    return IP(src="203.0.113.9", dst="192.0.2.1", **fields) / UDP(sport=5000, dport=3478) / Raw(payload)


def udp6(*extensions):
    packet = IPv6(src="2001:db8::5", dst="2001:db8::1")
    for extension in extensions:
        packet /= extension
    return packet / UDP(sport=5000, dport=3478) / Raw(PAYLOAD)


def mapped():
    return IPv6(src="::ffff:203.0.113.9", dst="2001:db8::1") / UDP(sport=5000, dport=3478) / Raw(PAYLOAD)


def frame(packet, link=LINK_RAW, *, kept=None, original=None):
    data = bytes(packet)
    wire_bytes = len(data) if original is None else original
    return Frame(7, link, data[:kept], wire_bytes, 24, 0)


def family(number, order):
    return Raw(struct.pack(order + "I", number))


@pytest.mark.parametrize(
    ("link", "packet", "source"),
    [
        pytest.param(LINK_ETHERNET, Ether() / udp4(), V4, id="ethernet-4"),
        pytest.param(LINK_ETHERNET, Ether() / udp6(), V6, id="ethernet-6"),
        pytest.param(LINK_ETHERNET, Ether() / mapped(), V4, id="ethernet-mapped"),
        pytest.param(LINK_ETHERNET, Raw(bytes(Ether() / udp4()) + bytes(9)), V4, id="ethernet-padding"),
        pytest.param(LINK_ETHERNET, Ether() / Dot1Q(vlan=7) / udp4(), V4, id="vlan"),
        pytest.param(LINK_ETHERNET, Ether(type=0x88A8) / Dot1Q() / Dot1Q() / udp6(), V6, id="qinq"),
        pytest.param(LINK_ETHERNET, Ether(type=0x9100) / Dot1Q() / Dot1Q() / udp4(), V4, id="qinq-old"),
        pytest.param(LINK_RAW, udp4(), V4, id="raw-4"),
        pytest.param(LINK_RAW, udp6(), V6, id="raw-6"),
        pytest.param(12, udp4(), V4, id="raw-bsd"),
        pytest.param(14, udp6(), V6, id="raw-openbsd"),
        pytest.param(LINK_IPV4, udp4(), V4, id="ipv4"),
        pytest.param(LINK_IPV6, udp6(), V6, id="ipv6"),
        pytest.param(LINK_COOKED, CookedLinux(proto=0x0800) / udp4(), V4, id="cooked"),
        pytest.param(LINK_COOKED, CookedLinux(proto=0x8100) / Dot1Q() / udp4(), V4, id="cooked-vlan"),
        pytest.param(LINK_COOKED2, Raw(b"\x08\0" + bytes(18)) / udp4(), V4, id="cooked2"),
        pytest.param(LINK_COOKED2, Raw(b"\x86\xdd" + bytes(18)) / udp6(), V6, id="cooked2-6"),
        pytest.param(LINK_NULL, family(2, "<") / udp4(), V4, id="null-little"),
        pytest.param(LINK_NULL, family(2, ">") / udp4(), V4, id="null-big"),
        pytest.param(LINK_NULL, family(30, "<") / udp6(), V6, id="null-macos-6"),
        pytest.param(LINK_NULL, family(24, ">") / udp6(), V6, id="null-netbsd-6"),
        pytest.param(LINK_LOOP, family(2, ">") / udp4(), V4, id="loop"),
        pytest.param(LINK_LOOP, family(24, ">") / udp6(), V6, id="loop-6"),
    ],
)
def test_every_link_gives_the_datagram(link, packet, source):
    found = dissect(frame(packet, link))
    assert isinstance(found, Datagram)
    assert (str(found.source), found.target.port, found.payload) == (source, 3478, PAYLOAD)
    assert (found.time_ns, found.original_bytes, found.offset) == (7, len(PAYLOAD), 24)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(udp4(options=[IPOption_Router_Alert()]), id="ipv4-options"),
        pytest.param(udp6(IPv6ExtHdrHopByHop()), id="hop-by-hop"),
        pytest.param(udp6(IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(30))])), id="destination-options"),
        pytest.param(udp6(IPv6ExtHdrRouting(addresses=["2001:db8::9", "2001:db8::a"])), id="routing"),
        pytest.param(udp6(IPv6ExtHdrFragment(nh=17)), id="fragment-that-is-whole"),
        pytest.param(
            udp6(IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(addresses=["::1"]), IPv6ExtHdrDestOpt()), id="three"
        ),
        pytest.param(
            IPv6(src="2001:db8::5", dst="2001:db8::1", nh=51)
            / Raw(b"\x11\x04" + bytes(22))
            / UDP(sport=5000, dport=3478)
            / Raw(PAYLOAD),
            id="authentication",
        ),
        pytest.param(udp4(b""), id="empty-payload"),
    ],
)
def test_options_and_extension_headers_are_passed_over(packet):
    found = dissect(frame(packet))
    assert isinstance(found, Datagram)
    assert found.payload == bytes(packet[UDP].payload if packet.haslayer(UDP) else PAYLOAD)
    assert found.source.port == 5000


@pytest.mark.parametrize(
    ("packet", "link", "reason"),
    [
        pytest.param(Ether(type=0x0806) / Raw(bytes(28)), LINK_ETHERNET, Skip.NOT_IP, id="arp"),
        pytest.param(Raw(b"\x50" + bytes(60)), LINK_RAW, Skip.NOT_IP, id="version-5"),
        pytest.param(family(7, "<") / udp4(), LINK_NULL, Skip.NOT_IP, id="another-family"),
        pytest.param(
            Ether() / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / udp4(), 1, Skip.NOT_IP, id="five-tags"
        ),
        pytest.param(IP() / TCP(), LINK_RAW, Skip.NOT_UDP, id="tcp"),
        pytest.param(IPv6() / TCP(), LINK_RAW, Skip.NOT_UDP, id="tcp-6"),
        pytest.param(IPv6(nh=50) / Raw(bytes(40)), LINK_RAW, Skip.NOT_UDP, id="encrypted"),
        pytest.param(udp6(*[IPv6ExtHdrDestOpt()] * 17), LINK_RAW, Skip.NOT_UDP, id="seventeen-extensions"),
        pytest.param(udp4(flags="MF"), LINK_RAW, Skip.FRAGMENT, id="first-fragment"),
        pytest.param(IP(frag=10, proto=17) / Raw(PAYLOAD), LINK_RAW, Skip.FRAGMENT, id="later-fragment"),
        pytest.param(udp6(IPv6ExtHdrFragment(m=1)), LINK_RAW, Skip.FRAGMENT, id="first-fragment-6"),
        pytest.param(udp6(IPv6ExtHdrFragment(offset=9)), LINK_RAW, Skip.FRAGMENT, id="later-fragment-6"),
        pytest.param(Raw(b""), LINK_ETHERNET, Skip.DAMAGED, id="empty"),
        pytest.param(Raw(b""), LINK_RAW, Skip.DAMAGED, id="empty-raw"),
        pytest.param(Ether(type=0x86DD) / bytes(udp4()), LINK_ETHERNET, Skip.DAMAGED, id="4-as-6"),
        pytest.param(udp4(ihl=4), LINK_RAW, Skip.DAMAGED, id="short-ihl"),
        pytest.param(udp4(len=19), LINK_RAW, Skip.DAMAGED, id="short-total"),
        pytest.param(udp4(len=27), LINK_RAW, Skip.DAMAGED, id="no-room-for-udp"),
        pytest.param(IP() / UDP(len=7) / Raw(PAYLOAD), LINK_RAW, Skip.DAMAGED, id="udp-length-7"),
        pytest.param(IP() / UDP(len=99) / Raw(PAYLOAD), LINK_RAW, Skip.DAMAGED, id="udp-length-99"),
        pytest.param(IP(len=99) / UDP(len=79) / Raw(PAYLOAD), LINK_RAW, Skip.DAMAGED, id="both-lengths-99"),
        pytest.param(udp4(), 105, Skip.LINK_TYPE, id="wifi"),
    ],
)
def test_what_holds_no_datagram_says_why(packet, link, reason):
    assert dissect(frame(packet, link)) is reason


@pytest.mark.parametrize("kept", range(60))
@pytest.mark.parametrize("packet", [udp4(), udp6(), udp6(IPv6ExtHdrHopByHop())], ids=["4", "6", "hop"])
def test_a_frame_cut_by_a_snap_length_gives_what_is_left(packet, kept):
    """Down to the UDP header: then the length on the wire is known."""
    headers_bytes = len(packet) - len(PAYLOAD)
    cut, whole = frame(packet, kept=kept, original=len(packet)), dissect(frame(packet))
    if kept < headers_bytes:
        assert dissect(cut) is Skip.CUT
    else:
        payload = PAYLOAD[: kept - headers_bytes]
        assert dissect(cut) == whole._replace(payload=payload)
        assert whole.original_bytes == len(PAYLOAD)


def test_a_frame_that_ends_although_nobody_cut_it_is_damaged():
    packet = bytes(udp4())
    for length in range(len(packet)):
        assert dissect(frame(packet[:length])) is Skip.DAMAGED


def test_the_count_of_a_stream():
    frames = [frame(udp4()), frame(IP() / TCP()), frame(udp4(), 105), frame(IP() / TCP()), frame(udp6())]
    datagrams = Datagrams(frames)
    seen = [(datagrams.frames, str(item.source)) for item in datagrams]
    assert seen == [(1, V4), (5, V6)]
    assert (datagrams.frames, datagrams.datagrams) == (5, 2)
    assert datagrams.skipped == {Skip.NOT_UDP: 2, Skip.LINK_TYPE: 1}


def test_a_capture_of_which_no_link_can_be_read_is_an_error():
    with pytest.raises(PcapError, match="type 105") as caught:
        list(Datagrams([frame(udp4(), 105)] * 3))
    assert caught.value.offset == 24
    assert list(Datagrams([])) == []


@given(
    link=st.sampled_from(sorted(LINKS)),
    data=st.binary(max_size=120),
    more=st.integers(0, 70_000),
    packet=st.sampled_from([b"", bytes(udp4()), bytes(udp6(IPv6ExtHdrHopByHop()))]),
)
def test_any_bytes_are_a_datagram_or_a_reason(link, data, more, packet):
    found = dissect(Frame(0, link, packet + data, len(packet + data) + more, 0, 0))
    if isinstance(found, Datagram):
        assert len(found.payload) <= found.original_bytes <= 65527
        assert isinstance(found.source, Endpoint)
    else:
        assert isinstance(found, Skip)
