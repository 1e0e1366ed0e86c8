"""pcap: both byte orders, both clocks; a file larger than memory; what is no capture."""

import tracemalloc
from itertools import chain, repeat

import pytest

from pyfastpath.errors import PcapError
from pyfastpath.wire.bytestream import CHUNK_BYTES
from pyfastpath.wire.frames import Datagrams, Frame
from pyfastpath.wire.pcap import read_frames
from tests.support.captures import MICRO, NANO, PACKET, pcap, pieces, record, section

JUMBO = record(bytes(60_000))


def frames(data):
    return list(read_frames(pieces([data])))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize(("magic", "unit_ns"), [(MICRO, 1000), (NANO, 1)], ids=["micro", "nano"])
def test_both_byte_orders_and_both_clocks(order, magic, unit_ns):
    records = record(order=order, seconds=10, fraction=250_000), record(order=order, original=99)
    first, second = frames(pcap(*records, order=order, magic=magic))
    assert first == Frame(10**10 + 250_000 * unit_ns, 101, PACKET, len(PACKET), 24, 0)
    assert second == Frame(10**9, 101, PACKET, 99, 24 + len(records[0]), 0)


def test_a_byte_at_a_time_is_the_same():
    data = pcap(record(), record(seconds=2))
    assert list(read_frames(pieces(data[n : n + 1] for n in range(len(data))))) == frames(data)


def test_the_check_sums_announced_in_the_link_type_do_not_matter():
    (frame,) = frames(pcap(record(), link=101 | 0x54000000))
    assert frame.link_type == 101


def test_a_frame_longer_than_it_was_is_as_long_as_it_is():
    (frame,) = frames(pcap(record(original=1)))
    assert frame.original_bytes == len(PACKET)


def test_no_frames_are_no_error():
    assert frames(pcap()) == []
    assert frames(section()) == []


def test_five_gigabytes_are_read_in_the_memory_of_a_chunk():
    """More than 32 bits of offset, too."""
    count = (5 << 30) // len(JUMBO)
    source = read_frames(pieces(chain([pcap()], repeat(JUMBO, count), [record()])))
    next(source)
    tracemalloc.start()
    try:
        datagrams = Datagrams(source)
        (last,) = datagrams
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert last.offset == 24 + count * len(JUMBO) > 1 << 32
    assert datagrams.frames == count
    assert peak < 4 * CHUNK_BYTES


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\xd4", "no pcap and no pcapng: it starts with d4", id="one-byte"),
        pytest.param(b"hello world", "68 65 6c 6c", id="text"),
        pytest.param(b"\x1f\x8b\x08" + bytes(60), "gunzip -k FILE", id="gzip"),
        pytest.param(b"\x28\xb5\x2f\xfd" + bytes(60), "unzstd", id="zstd"),
        pytest.param(b"\xfd7zXZ\0" + bytes(60), "unxz", id="xz"),
        pytest.param(b"BZh91AY" + bytes(60), "bunzip2", id="bzip2"),
        pytest.param(b"PK\x03\x04" + bytes(60), "unzip", id="zip"),
        pytest.param(pcap()[:20], "inside the file header at byte 0: 20 of 24", id="cut-header"),
        pytest.param(pcap(link=105), "a link of type 105", id="wifi"),
        pytest.param(pcap()[:4] + b"\1\0\1\0" + pcap()[8:], "pcap 1.1", id="version-1"),
        pytest.param(pcap()[:4] + b"\2\0\2\0" + pcap()[8:], "pcap 2.2", id="swapped-lengths"),
    ],
)
def test_what_is_no_capture_is_refused_at_once(data, sentence):
    with pytest.raises(PcapError) as caught:
        read_frames(pieces([data] if data else []))
    assert sentence in str(caught.value)
    assert caught.value.hint
