"""The reader against scapy's writer, and against every way a file can be damaged."""

import struct
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.all import IP, TCP, UDP, CookedLinux, Dot1Q, Ether, IPv6, Raw, wrpcap

from pyfastpath.errors import WireError
from pyfastpath.tools.pcap import read_pcap

PCAPS = Path(__file__).parent.parent / "pcaps"
PAYLOAD = b"\x80hello"


def udp4(payload=PAYLOAD):
    return IP(src="203.0.113.9", dst="192.0.2.1") / UDP(sport=5000, dport=3478) / Raw(payload)


def udp6():
    return IPv6(src="2001:db8::5", dst="2001:db8::1") / UDP(sport=5000, dport=3478) / Raw(PAYLOAD)


def mapped():
    return IPv6(src="::ffff:203.0.113.9", dst="2001:db8::1") / UDP(sport=5000, dport=3478) / Raw(PAYLOAD)


@pytest.mark.parametrize(
    ("packet", "link", "source"),
    [
        (Ether() / udp4(), 1, "203.0.113.9:5000"),
        (Ether() / udp6(), 1, "[2001:db8::5]:5000"),
        (Ether() / mapped(), 1, "203.0.113.9:5000"),
        (Ether() / Dot1Q(vlan=7) / udp4(), 1, "203.0.113.9:5000"),
        (Ether(type=0x88A8) / Dot1Q(vlan=7) / udp6(), 1, "[2001:db8::5]:5000"),
        (udp4(), 101, "203.0.113.9:5000"),
        (udp6(), 101, "[2001:db8::5]:5000"),
        (CookedLinux(proto=0x0800) / udp4(), 113, "203.0.113.9:5000"),
        (Raw(b"\x02\0\0\0") / udp4(), 0, "203.0.113.9:5000"),
        (Raw(b"\x08\0" + bytes(18)) / udp4(), 276, "203.0.113.9:5000"),
    ],
)
def test_every_link_gives_the_datagram(tmp_path, packet, link, source):
    file = tmp_path / "one.pcap"
    frame = bytes(packet)
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    file.write_bytes(head + struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
    (datagram,) = read_pcap(file).datagrams
    assert (str(datagram.source), datagram.payload) == (source, PAYLOAD)
    assert datagram.target.port == 3478


def test_what_is_no_whole_udp_datagram_is_counted(tmp_path):
    file = tmp_path / "mixed.pcap"
    whole = bytes(Ether() / udp4())
    wrpcap(
        str(file),
        [
            Ether() / IP() / TCP(),
            Ether(type=0x0806) / Raw(bytes(28)),
            Ether() / IP(flags="MF") / UDP() / Raw(b"first fragment"),
            Ether() / IP(frag=10) / Raw(b"a later fragment"),
            Raw(whole[:-3]),
            Raw(whole[:30]),
            Raw(b""),
            Ether() / udp4(),
        ],
        linktype=1,
    )
    capture = read_pcap(file)
    assert (len(capture.datagrams), capture.skipped) == (1, 7)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "fraction"), [(0xA1B2C3D4, 250_000), (0xA1B23C4D, 250_000_000)])
def test_both_byte_orders_and_both_clocks(tmp_path, order, magic, fraction):
    packet = bytes(udp4())
    header = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 101)
    frames = [
        struct.pack(order + "IIII", seconds, parts, len(packet), len(packet)) + packet
        for seconds, parts in ((10, 0), (11, fraction))
    ]
    file = tmp_path / "x.pcap"
    file.write_bytes(header + b"".join(frames))
    assert [item.time_ns for item in read_pcap(file).datagrams] == [0, 1_250_000_000]


def test_the_captures_of_real_calls():
    capture = read_pcap(PCAPS / "chromium-dtls12.pcap")
    assert capture.skipped == 0
    ports = {end.port for item in capture.datagrams for end in (item.source, item.target)}
    assert 40000 in ports
    assert all(end.address == ip_address("127.0.0.1") or end.port != 40000 for item in capture.datagrams
               for end in (item.source, item.target))  # fmt: skip


def test_pcapng_says_how_to_convert_it(tmp_path):
    file = tmp_path / "x.pcapng"
    file.write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(40))
    with pytest.raises(WireError, match="editcap -F pcap"):
        read_pcap(file)


@pytest.mark.parametrize("data", [b"", b"abc", b"\xd4\xc3\xb2\xa1", b"PK\x03\x04" + bytes(60)])
def test_what_is_no_pcap_is_refused(tmp_path, data):
    file = tmp_path / "x.pcap"
    file.write_bytes(data)
    with pytest.raises(WireError, match="no pcap"):
        read_pcap(file)


def test_an_unknown_link_is_named(tmp_path):
    file = tmp_path / "wifi.pcap"
    wrpcap(str(file), [Raw(b"x" * 60)], linktype=105)
    with pytest.raises(WireError, match="type 105"):
        read_pcap(file)


def test_every_truncation_is_named_with_its_byte_or_is_a_shorter_capture(tmp_path):
    data = (PCAPS / "chromium-dtls12.pcap").read_bytes()[:3000]
    file = tmp_path / "cut.pcap"
    whole = 0
    for length in range(24, len(data)):
        file.write_bytes(data[:length])
        try:
            read_pcap(file)
            whole += 1
        except WireError as error:
            assert "byte" in str(error)
    assert 0 < whole < 40


@settings(max_examples=200)
@given(position=st.integers(0, 2999), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes(tmp_path_factory, position, value):
    data = bytearray((PCAPS / "chromium-dtls12.pcap").read_bytes()[:3000])
    data[position] = value
    file = tmp_path_factory.getbasetemp() / "changed.pcap"
    file.write_bytes(data)
    try:
        read_pcap(file)
    except WireError as error:
        assert str(error)
