"""Opening files: the captures of real calls, pcapng, and errors that name the file."""

import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from pyfastpath.errors import PcapError
from pyfastpath.tools.pcap import open_capture, read_pcap
from tests.support.require import require

PCAPS = Path(__file__).parent.parent / "pcaps"


def test_the_captures_of_real_calls():
    capture = read_pcap(PCAPS / "chromium-dtls12.pcap")
    assert capture.skipped == 0
    assert all(
        ip_address("127.0.0.1") == end.address
        for item in capture.datagrams
        for end in (item.source, item.target)
        if end.port == 40000
    )
    assert {40000} < {end.port for item in capture.datagrams for end in (item.source, item.target)}
    assert (capture.datagrams[0].time_ns, capture.datagrams[-1].time_ns > 9 * 10**9) == (0, True)


def test_a_converted_capture_is_the_same_one(tmp_path):
    """Another program's pcapng (editcap is Wireshark's)."""
    require("editcap")
    file = tmp_path / "x.pcapng"
    source = PCAPS / "wrtc-12-clients.pcap"
    subprocess.run(["editcap", "-F", "pcapng", source, file], check=True, timeout=30)
    there, here = read_pcap(source), read_pcap(file)
    assert [item[:5] for item in here.datagrams] == [item[:5] for item in there.datagrams]
    assert here.datagrams


def test_a_stream_counts_frames_as_it_goes():
    with open_capture(PCAPS / "chromium-dtls12.pcap") as datagrams:
        numbers = [datagrams.frames for _ in datagrams]
    assert numbers == list(range(1, datagrams.frames + 1))
    assert (datagrams.datagrams, datagrams.skipped.total()) == (len(numbers), 0)


def test_errors_name_the_file_and_the_byte(tmp_path):
    file = tmp_path / "cut.pcap"
    file.write_bytes((PCAPS / "chromium-dtls12.pcap").read_bytes()[:2000])
    with pytest.raises(PcapError, match=r"cut\.pcap: The capture ends inside .* at byte \d+") as caught:
        read_pcap(file)
    assert 1000 < caught.value.offset < 2000
    assert caught.value.exit_code == 2
    file.write_bytes(b"")
    with pytest.raises(PcapError, match=r"cut\.pcap: The capture is empty"):
        read_pcap(file)


def test_what_cannot_be_read_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_pcap(tmp_path / "none.pcap")
