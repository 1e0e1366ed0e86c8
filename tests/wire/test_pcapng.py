"""pcapng: the writer before tshark, the reader before every kind of block; both before each other."""

import json
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import PcapError
from pyfastpath.wire.bytestream import ByteStream
from pyfastpath.wire.frames import LINK_ETHERNET, LINK_RAW, Datagrams
from pyfastpath.wire.pcap import read_frames
from pyfastpath.wire.pcapng import PcapngWriter, pcapng_frames
from tests.support import captures
from tests.support.captures import (
    NAMES,
    OBSOLETE,
    PACKET,
    SIMPLE,
    STATISTICS,
    block,
    enhanced,
    interface,
    option,
    pieces,
    section,
)
from tests.support.require import require

NOW_NS = 1_700_000_000_123_456_789
IF_TSRESOL, IF_TSOFFSET = 9, 14
BOTH = pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])


def frames(*parts):
    return list(read_frames(pieces(parts)))


def tshark(file, *fields):
    """What Wireshark reads: a list of fields a frame."""
    require("tshark")
    command = ["tshark", "-n", "-r", str(file), "-T", "fields", *(f"-e{field}" for field in fields)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


# ---- the writer -------------------------------------------------------------------------------------


def written():
    writer = PcapngWriter()
    return b"".join(
        [
            writer.section_header(),
            writer.interface(LINK_RAW, 128, "relay ü"),
            writer.packet(NOW_NS, PACKET, len(PACKET), inbound=True, comment="session 7"),
            writer.packet(NOW_NS + 1, PACKET[:30], len(PACKET), inbound=False),
            writer.packet(NOW_NS + 2, PACKET, len(PACKET), comment="dropped: no_route"),
            writer.statistics(5, 2),
        ]
    )


def test_tshark_reads_what_is_written(tmp_path):
    file = tmp_path / "x.pcapng"
    file.write_bytes(written())
    fields = "frame.time_epoch frame.len frame.cap_len frame.packet_flags frame.comment frame.interface_name"
    size = str(len(PACKET))
    assert tshark(file, *fields.split()) == [
        ("1700000000.123456789", size, size, "0x00000001", "session 7", "relay ü"),
        ("1700000000.123456790", size, "30", "0x00000002", "", "relay ü"),
        ("1700000000.123456791", size, size, "", "dropped: no_route", "relay ü"),
    ]
    said = subprocess.run(["capinfos", file], check=True, capture_output=True, text=True, timeout=30).stdout
    assert "Number of stat entries = 1" in said
    assert "Capture application: pyfastpath" in said


def test_the_reader_reads_what_is_written():
    first, second, third = frames(written())
    assert (first.time_ns, first.link_type, first.data) == (NOW_NS, LINK_RAW, PACKET)
    assert (second.time_ns, second.data, second.original_bytes) == (NOW_NS + 1, PACKET[:30], len(PACKET))
    assert third.offset > second.offset > first.offset > 0


@given(
    time_ns=st.integers(0, (1 << 63) - 1),
    data=st.binary(max_size=50),
    more=st.integers(0, 1000),
    inbound=st.sampled_from([None, True, False]),
    comment=st.text(max_size=20),
)
def test_any_packet_comes_back(time_ns, data, more, inbound, comment):
    writer = PcapngWriter()
    head = writer.section_header() + writer.interface(LINK_ETHERNET)
    packet = writer.packet(time_ns, data, len(data) + more, inbound=inbound, comment=comment)
    (frame,) = frames(head + packet + writer.statistics(1, 0))
    assert frame == (time_ns, LINK_ETHERNET, data, len(data) + more, len(head), 0)


def test_a_comment_is_cut_to_what_an_option_holds_between_two_characters():
    writer = PcapngWriter()
    head = writer.section_header() + writer.interface(LINK_RAW)
    packet = writer.packet(0, b"", 0, comment="ü" * 40_000)
    code, length = struct.unpack_from("<HH", packet, 28)
    assert (code, length) == (1, 65_534)
    assert len(frames(head + packet)) == 1


def test_statistics_count_what_was_not_written():
    writer = PcapngWriter()
    body = writer.statistics(10, 3, time_ns=5)[8:-4]
    assert struct.unpack_from("<III", body) == (0, 0, 5)
    assert struct.unpack_from("<HHQHHQ", body, 12) == (4, 8, 10, 5, 8, 3)


# ---- the reader -------------------------------------------------------------------------------------


@BOTH
def test_every_kind_of_block(order):
    old = struct.pack(order + "HHIIII", 0, 9, 0, 5_000_000, len(PACKET), 200) + PACKET
    found = frames(
        section(order, minor=2),
        block(NAMES, b"\0" * 8, order=order),
        interface(101, snaplen=30, order=order),
        interface(101, order=order),
        enhanced(stamp=2_000_000, number=1, order=order),
        block(SIMPLE, struct.pack(order + "I", len(PACKET)) + PACKET[:30], order=order),
        block(STATISTICS, bytes(12), order=order),
        block(0xBAD, b"custom", order=order),
        block(OBSOLETE, old, order=order),
        block(SIMPLE, struct.pack(order + "I", 20) + PACKET[:20], order=order),
    )
    assert [(item.time_ns, item.data, item.original_bytes, item.interface) for item in found] == [
        (2 * 10**9, PACKET, len(PACKET), 1),
        (2 * 10**9, PACKET[:30], len(PACKET), 0),
        (5 * 10**9, PACKET, 200, 0),
        (5 * 10**9, PACKET[:20], 20, 0),
    ]


def test_sections_begin_anew_each_with_its_byte_order():
    found = frames(
        section("<"), interface(101), interface(1), enhanced(number=1, stamp=1),
        section(">"), interface(228, order=">"), enhanced(number=0, stamp=2, order=">"),
        section("<"), interface(0), enhanced(stamp=3),
    )  # fmt: skip
    assert [(item.link_type, item.time_ns, item.interface) for item in found] == [
        (1, 1000, 1),
        (228, 2000, 0),
        (0, 3000, 0),
    ]
    with pytest.raises(PcapError, match="names interface 0, and 0 are described"):
        frames(section(), interface(), enhanced(), section(), enhanced())


@BOTH
@pytest.mark.parametrize(
    ("resolution", "stamp", "time_ns"),
    [
        pytest.param(None, 3, 3000, id="default"),
        pytest.param(0, 3, 3 * 10**9, id="seconds"),
        pytest.param(3, 1500, 1_500_000_000, id="milliseconds"),
        pytest.param(9, 3, 3, id="nanoseconds"),
        pytest.param(12, 3999, 3, id="picoseconds"),
        pytest.param(0x7F, (1 << 64) - 1, 0, id="10^-127"),
        pytest.param(0x80 | 10, 1536, 1_500_000_000, id="2^-10"),
        pytest.param(0x80 | 32, 1 << 31, 500_000_000, id="2^-32"),
        pytest.param(0xFF, (1 << 64) - 1, 0, id="2^-127"),
    ],
)
def test_clocks(order, resolution, stamp, time_ns):
    options = b"" if resolution is None else option(IF_TSRESOL, bytes([resolution]), order=order)
    (frame,) = frames(
        section(order), interface(options=options, order=order), enhanced(stamp=stamp, order=order)
    )
    assert frame.time_ns == time_ns


@BOTH
def test_an_offset_of_the_clock(order):
    options = option(IF_TSOFFSET, struct.pack(order + "q", -7), order=order) + option(0, b"", order=order)
    (frame,) = frames(
        section(order), interface(options=options, order=order), enhanced(stamp=10_000_000, order=order)
    )
    assert frame.time_ns == 3 * 10**9


def test_options_of_the_wrong_length_are_as_none():
    options = option(IF_TSRESOL, b"\x09\x09") + option(IF_TSOFFSET, b"\1") + option(2, b"eth0")
    (frame,) = frames(section(), interface(options=options), enhanced(stamp=1))
    assert frame.time_ns == 1000


def test_tshark_agrees_about_a_file_with_everything(tmp_path):
    """Two sections of different byte orders, clocks, links; cut frames: an oracle that is not ours."""
    ether = bytes(12) + b"\x08\x00" + PACKET
    data = b"".join(
        [
            section("<"),
            interface(101, options=option(IF_TSRESOL, b"\x09")),
            interface(1, snaplen=64, options=option(IF_TSRESOL, b"\x89")),
            enhanced(stamp=NOW_NS),
            enhanced(ether, stamp=5 << 9, number=1, options=option(1, b"a comment") + option(0, b"")),
            enhanced(PACKET[:29], original=len(PACKET), stamp=NOW_NS + 1),
            block(0x0BAD, b"unknown"),
            section(">"),
            interface(113, order=">", options=option(IF_TSOFFSET, struct.pack(">q", 100), order=">")),
            enhanced(bytes(14) + b"\x08\x00" + PACKET, stamp=1_000_001, order=">"),
        ]
    )
    file = tmp_path / "x.pcapng"
    file.write_bytes(data)
    rows = tshark(file, "frame.time_epoch", "ip.src", "udp.srcport", "udp.length", "frame.cap_len")
    told = [row for row in rows if row[0]]  # the unknown block is a row of its own
    ours = [
        (
            f"{item.time_ns // 10**9}.{item.time_ns % 10**9:09}",
            str(item.source.address),
            str(item.source.port),
            str(item.original_bytes + 8),
        )
        for item in Datagrams(read_frames(pieces([data])))
    ]
    assert ours == [row[:4] for row in told]
    assert len(ours) == 4
    assert [str(len(item.data)) for item in frames(data)] == [row[4] for row in told]


def test_frames_without_a_section_are_no_pcapng():
    with pytest.raises(PcapError, match="No section header"):
        list(pcapng_frames(ByteStream(pieces([interface()]))))


def test_a_block_of_any_size_that_is_none_of_ours_is_passed_over():
    huge = block(0xBAD, b"", total=12 + (3 << 30))
    found = frames(section() + interface(), huge[:8], *[bytes(1 << 20)] * 3072, huge[-4:], enhanced(stamp=1))
    assert [item.offset > 3 << 30 for item in found] == [True]


def test_the_builders_of_these_tests_are_what_tshark_calls_a_capture(tmp_path):
    file = tmp_path / "x.pcap"
    file.write_bytes(captures.pcap(captures.record(seconds=3, fraction=7)))
    assert tshark(file, "frame.time_epoch", "udp.srcport") == [("3.000007000", "5000")]
    assert json.dumps(tshark(file, "ip.dst")) == '[["192.0.2.1"]]'
