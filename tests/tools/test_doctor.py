"""Every check names what is wrong and what to do; on a machine that has it all, it says ok."""

import resource
import socket

import pytest

from pyfastpath.config import load
from pyfastpath.tools import doctor
from pyfastpath.tools.ports import free_port
from tests.support.relay import running_relay


def config(tmp_path, **flags):
    wanted = {
        "listen": [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"],
        "health_listen": "",
        "plain_ports": "16",
        "admin_socket": str(tmp_path / "admin.sock"),
    } | flags
    return load(environ={}, flags=wanted)


def found(settings, check):
    return [finding for finding in doctor.examine(settings) if finding.check == check]


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path):
    findings = doctor.examine(config(tmp_path))
    assert len(findings) >= 10
    for finding in findings:
        assert finding.text
        assert finding.level == "ok" or finding.fix, finding


def test_this_machine_runs_a_relay(tmp_path):
    """The suite itself needs what these checks ask for."""
    settings = config(tmp_path)
    for check in ("kernel", "memfd", "listen", "admin socket", "open files"):
        assert [finding.level for finding in found(settings, check)] == ["ok"], check


def test_a_taken_port_fails_for_udp_and_tcp(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        settings = config(
            tmp_path,
            listen=[f"127.0.0.1:{udp.getsockname()[1]}"],
            health_listen=f"127.0.0.1:{tcp.getsockname()[1]}",
        )
        for check in ("listen", "health"):
            (finding,) = found(settings, check)
            assert finding.level == "fail"
            assert "in use" in finding.text


def test_an_address_of_another_machine_fails(tmp_path):
    (finding,) = found(config(tmp_path, listen=["192.0.2.1:3478"]), "listen")
    assert finding.level == "fail"
    assert "no such address" in finding.text


def test_every_trunk_port_is_tried(tmp_path):
    first = free_port(socket.SOCK_DGRAM, 2)
    settings = config(tmp_path, trunk_port=str(first), shards="2")
    assert [finding.text for finding in found(settings, "trunk")] == [
        f"127.0.0.1:{first} is free",
        f"127.0.0.1:{first + 1} is free",
    ]


def test_too_many_plain_ports_for_the_limit_of_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (1024, 4096))
    (finding,) = found(config(tmp_path, plain_ports="4000", shards="2"), "open files")
    assert finding.level == "fail"
    assert "LimitNOFILE=5028" in finding.fix  # 4000, a socket and a region for each of 2 shards, 1024 spare
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert found(config(tmp_path, plain_ports="4000"), "open files")[0].level == "ok"


def test_more_plain_ports_than_the_kernel_hands_out(tmp_path):
    (finding,) = found(config(tmp_path, plain_ports="60000"), "local ports")
    assert finding.level in {"warn", "fail"}
    assert "ip_local_port_range" in finding.fix


def test_tables_larger_than_the_memory(tmp_path):
    settings = config(tmp_path, flows_max=str(1 << 24), shards="64", workers="1")
    (finding,) = found(settings, "memory")
    assert finding.text.startswith("131136 MiB of tables")
    assert (finding.level == "fail") == bool(finding.fix)


def test_a_receive_buffer_the_kernel_does_not_grant(tmp_path, monkeypatch):
    real = doctor.sockets.open_client

    def small(endpoint, *, receive_buffer_bytes):
        return real(endpoint, receive_buffer_bytes=4096)

    monkeypatch.setattr(doctor.sockets, "open_client", small)
    (finding,) = found(config(tmp_path), "receive buffer")
    assert finding.level == "warn"
    assert "net.core.rmem_max=16777216" in finding.fix


def test_a_folder_that_is_not_there(tmp_path):
    (finding,) = found(config(tmp_path, admin_socket=str(tmp_path / "none" / "a.sock")), "admin socket")
    assert finding.level == "fail"


@pytest.mark.parametrize(
    ("aes", "library", "level"), [(True, None, "ok"), (False, "x", "warn"), (False, None, "fail")]
)
def test_aes_from_the_cpu_or_libcrypto(tmp_path, monkeypatch, aes, library, level):
    monkeypatch.setattr(doctor, "_cpu_has_aes", lambda: aes)
    monkeypatch.setattr(doctor.ctypes.util, "find_library", lambda _: library)
    assert found(config(tmp_path), "AES")[0].level == level


@pytest.mark.parametrize(("library", "level"), [("libc.so.6", "ok"), ("libopus.so.none", "warn")])
def test_libopus_is_for_transceivers(tmp_path, monkeypatch, library, level):
    monkeypatch.setattr(doctor, "LIBOPUS", library)
    (finding,) = found(config(tmp_path), "libopus")
    assert finding.level == level
    assert ("apt-get install libopus0" in finding.fix) == (level == "warn")


def test_a_relay_that_runs_holds_its_ports_and_that_is_fine(tmp_path):
    with running_relay(tmp_path, backends=[{"id": "a", "address": "127.0.0.1:5000"}]) as relay:
        settings = load(tmp_path / "relay.toml", environ={})
        assert found(settings, "relay")
        assert [finding.level for finding in found(settings, "listen")] == ["ok"]
        assert [finding.level for finding in found(settings, "health")] == ["ok"]
        assert relay.process.poll() is None
