"""The networks of a benchmark: they carry datagrams as drawn, and nothing of them stays."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from bench.cpu import LOAD_CPU, RELAY_CPU
from bench.place import Network, Place
from bench.topology import SYSCTLS, raised_buffers, topology
from tests.support.require import require

CLIENT = "10.64.7.9"


def namespaces():
    """Of this process: others may run tests at the same time."""
    folder = Path("/run/netns")
    return {each.name for each in folder.glob(f"fastpath-*-{os.getpid()}")} if folder.is_dir() else set()


@pytest.mark.parametrize("name", ["inline", "rps"])
def test_clients_reach_the_relay_and_the_relay_the_backend_across_veth(name):
    require("root", "namespaces")
    with topology(name) as there:
        place = there.place
        with place.inside():
            relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            relay.bind((place.relay_ip, 0))
            upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            upstream.bind((place.upstream_ip, 0))
        with there.clients.inside():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.bind((CLIENT, 0))  # AnyIP: the address is no interface's
        with there.backend.inside():
            backend = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            backend.bind((place.sink_ip, 0))
        with relay, upstream, client, backend:
            for each in (relay, client, backend):
                each.settimeout(5)
            client.sendto(b"up", relay.getsockname())
            data, source = relay.recvfrom(100)
            assert (data, source[0]) == (b"up", CLIENT)
            relay.sendto(b"down", source)
            assert client.recvfrom(100) == (b"down", relay.getsockname())
            upstream.sendto(b"up", backend.getsockname())
            assert backend.recvfrom(100) == (b"up", upstream.getsockname())
        assert len(namespaces()) == 3
    assert namespaces() == set()


def test_receive_softirq_is_steered_to_the_owner_of_each_end():
    require("root", "namespaces")
    with topology("rps") as there:
        owners = {
            "c0": (there.clients, LOAD_CPU),
            "s0": (there.backend, LOAD_CPU),
            "r0": (there.place.network, RELAY_CPU),
            "r1": (there.place.network, RELAY_CPU),
        }
        for device, (network, cpu) in owners.items():
            file = f"/sys/class/net/{device}/queues/rx-0/rps_cpus"
            command = ["ip", "netns", "exec", network.namespace, "cat", file]
            assert int(subprocess.check_output(command, text=True), 16) == 1 << cpu
        assert there.clock == "core"


def test_clients_may_send_frames_of_their_own_making():
    require("root", "namespaces")
    with topology("inline") as there, there.clients.inside():
        interface = there.generator["interface"]
        frame = there.generator["gateway_mac"] + bytes(6) + b"\x88\xb5" + b"hello"
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out,
            there.place.network.inside(),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as into,
        ):
            into.settimeout(5)
            out.bind((interface, 0))
            out.send(frame)
            assert into.recv(100) == frame


def test_a_command_runs_in_its_place_with_the_pid_of_the_command():
    require("root", "namespaces")
    with topology("inline") as there:
        command = there.place.command(["sh", "-c", "echo $$; ip -brief address show dev r1"])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = process.communicate(timeout=10)[0].splitlines()
        assert int(said[0]) == process.pid
        assert there.place.upstream_ip in said[1]


def test_a_thread_comes_back_to_its_network_also_after_an_error():
    require("root", "namespaces")
    here = Path("/proc/thread-self/ns/net").readlink()
    with topology("inline") as there:
        with there.clients.inside():
            assert Path("/proc/thread-self/ns/net").readlink() != here
        with pytest.raises(OSError, match="Cannot assign"), there.clients.inside():
            socket.create_server(("192.0.2.1", 0))
        assert Path("/proc/thread-self/ns/net").readlink() == here


def test_a_network_that_is_not_there_is_an_error_not_the_machines_own():
    with pytest.raises(FileNotFoundError), Network("fastpath-nowhere").inside():
        pass


def test_loopback_needs_nothing():
    with topology("loopback") as there:
        assert there.place == Place()
        assert there.clock == "process"


def test_buffers_are_as_before_afterwards():
    files = [Path("/proc/sys/net/core") / name for name in SYSCTLS]
    before = [each.read_text() for each in files]
    with raised_buffers() as refused:
        if not refused:
            assert all(int(each.read_text()) >= SYSCTLS[each.name] for each in files)
    assert [each.read_text() for each in files] == before
