"""Where raw frames leave: the kernel's own tables, read."""

import pytest

from pyfastpath.errors import SocketError
from pyfastpath.tools.bench import frames

# Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
ROUTES = """\
eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
veth1\t00004D0A\tFE02A8C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
""".splitlines()
ARP = """\
192.168.2.1      0x1         0x2         02:00:00:00:00:01     *        eth0
192.168.2.7      0x1         0x0         00:00:00:00:00:00     *        eth0
""".splitlines()


@pytest.mark.parametrize(
    ("target", "hop"),
    [
        ("192.168.2.9", ("eth0", "192.168.2.9")),
        ("10.77.3.4", ("veth1", "192.168.2.254")),
        ("8.8.8.8", ("eth0", "192.168.2.1")),
    ],
)
def test_the_longest_prefix_wins(target, hop):
    assert frames.next_hop(ROUTES, target) == hop


def test_no_route_is_no_hop():
    assert frames.next_hop(ROUTES[1:2], "10.0.0.1") == ("", "")


def test_an_address_nobody_answered_for_is_unknown():
    assert frames.ethernet_address(ARP, "192.168.2.1") == bytes.fromhex("020000000001")
    assert frames.ethernet_address(ARP, "192.168.2.7") == b""
    assert frames.ethernet_address(ARP, "192.168.2.8") == b""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """What the kernel is told about frames with local addresses."""
    for where in ("lo", "all"):
        for name in ("accept_local", "route_localnet"):
            (tmp_path / where).mkdir(exist_ok=True)
            (tmp_path / where / name).write_text("0\n")
    monkeypatch.setattr(frames, "SETTINGS", tmp_path)
    return tmp_path


def test_loopback_needs_no_neighbour(settings):
    (settings / "lo" / "accept_local").write_text("1\n")
    (settings / "all" / "route_localnet").write_text("1\n")
    assert frames.way_out("127.0.0.1") == {"interface": "lo", "gateway_mac": None}


def test_loopback_takes_no_frames_unless_told_to(settings):
    (settings / "lo" / "accept_local").write_text("1\n")
    with pytest.raises(SocketError) as refused:
        frames.way_out("127.0.0.1")
    assert str(refused.value) == (
        "the kernel drops raw frames that come over loopback. "
        "Run: sysctl -w net.ipv4.conf.lo.route_localnet=1; or --inject mmsg."
    )


def test_a_machine_without_a_route_says_so(tmp_path, monkeypatch):
    (tmp_path / "route").write_text("Iface\tDestination\n")
    monkeypatch.setattr(frames, "NET", tmp_path)
    with pytest.raises(SocketError, match=r"no route to 192\.0\.2\.1\. Add one, or choose --inject mmsg"):
        frames.way_out("192.0.2.1")
