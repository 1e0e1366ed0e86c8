"""Relays of our own, those that run, those that know our tokens: reached, used, left as they were."""

import resource
import socket
import time
from contextlib import contextmanager

import pytest

from pyfastpath.errors import ConfigError, FastpathError, SocketError, UnreachableError
from pyfastpath.tools.bench import relays, sessions
from pyfastpath.tools.bench.cpu import Division
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.meter import Work
from pyfastpath.tools.bench.options import Flags, Options, Part, read_options
from pyfastpath.tools.bench.relays import Path
from pyfastpath.tools.bench.sessions import aim, open_sessions
from pyfastpath.tools.own_relay import own_relay

KEY = "000102030405060708090a0b0c0d0e0f"
ANYWHERE = Division(None, frozenset({0}))
TWO_SIZES = (Part(172, 0, 0.5), Part(300, 0, 0.5))


@contextmanager
def a_load(count=20, upstream="plain", parts=(Part(172),), sink=("127.0.0.1", 0), **trunk):
    load = Load(parts, count, upstream, sink, **trunk)
    try:
        yield load
    finally:
        load.close()


def one_run(load: Load, path: Path, options: Options, way: str = "echo") -> None:
    """Open the sessions, send something through every one of them, and nothing is missing."""
    aim(load, path, options)
    open_sessions(load, path)
    sample = load.run(Work(way=way, rate_pps=1000, seconds=0.3, cpu_ns=path.cpu_ns))
    assert sample.sent > 0
    assert (sample.lost, sample.misrouted, sample.duplicates) == (0, 0, 0)


@pytest.mark.parametrize(
    ("upstream", "way"), [("plain", "echo"), ("plain", "down"), ("trunk", "echo"), ("trunk", "down")]
)
def test_a_relay_of_our_own(upstream, way):
    options = read_options(Flags(upstream=upstream))
    with a_load(20, upstream, TWO_SIZES) as load, relays.of_our_own(load, upstream, ANYWHERE) as path:
        one_run(load, path, options, way)
        assert path.name == upstream
        assert path.cpu_ns is not None
        assert path.cpu_ns() > 0
        assert path.drops() == {}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\xff nothing a relay knows", path.targets[0])
        deadline_s = time.monotonic() + 10
        while not path.drops():
            assert time.monotonic() < deadline_s, "the relay dropped something and does not say so"
            time.sleep(0.05)
        assert list(path.drops().values()) == [1]


@pytest.mark.parametrize("upstream", ["plain", "trunk"])
def test_a_relay_that_runs_gets_our_sink_and_is_left_as_it_was(upstream):
    other = {"id": "other", "address": "127.0.0.1:9", "mode": upstream}
    with own_relay(backends=[other]) as relay:
        options = read_options(Flags(socket=relay.admin.socket_path, upstream=upstream))
        with a_load(20, upstream, TWO_SIZES) as load:
            with relays.with_admin(load, options, 5) as path:
                one_run(load, path, options)
                assert path.targets == [relay.listen] * 2
                assert path.name == "{}:{}".format(*relay.listen)
                assert path.cpu_ns is not None
                assert len(relay.admin.get("backends")["backends"]) == 3
            assert [one["id"] for one in relay.admin.get("backends")["backends"]] == ["other"]


def test_a_relay_with_a_trunk_key():
    other = {"id": "other", "address": "127.0.0.1:9", "mode": "trunk"}
    settings = {"trunk_keys": [f"2:{KEY}"], "trunk_key_id": 2}
    with own_relay(backends=[other], settings=settings) as relay:
        options = read_options(Flags(socket=relay.admin.socket_path, upstream="trunk", trunk_key=f"2:{KEY}"))
        key = {"key_id": 2, "key": bytes.fromhex(KEY)}
        with a_load(5, "trunk", **key) as load, relays.with_admin(load, options, 5) as path:
            one_run(load, path, options)


def test_a_relay_that_knows_our_tokens():
    with a_load() as load:
        host, port = load.backends[0]
        sink = {"id": "sink", "address": f"{host}:{port}", "transceiver": 42, "incarnation": 3, "cluster": 7}
        with own_relay(backends=[sink], settings={"token_keys": [f"3:{KEY}"]}) as relay:
            flags = Flags(
                target="{}:{}".format(*relay.listen),
                token_key=f"3:{KEY}",
                transceiver="7/42/3",
                sink=f"{host}:{port}",
            )
            options = read_options(flags)
            path = relays.with_tokens(load, options, 5)
            assert len(set(path.ufrags)) == 20
            one_run(load, path, options)
            assert relay.admin.get("status")["routes"]["installed"] == 0


def test_nobody_there_is_told(monkeypatch):
    monkeypatch.setattr(sessions, "TIMEOUT_S", 0.3)
    with a_load(3) as load, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        path = Path("mute", [mute.getsockname()], ["a" * 8, "b" * 8, "c" * 8])
        aim(load, path, read_options(Flags(pps="1k")))
        with pytest.raises(UnreachableError, match=r"nobody answers at 127\.0\.0\.1:\d+: no session") as told:
            open_sessions(load, path)
        assert told.value.exit_code == 3


def test_sessions_that_a_relay_refuses_are_told_with_its_reasons(monkeypatch):
    monkeypatch.setattr(sessions, "TIMEOUT_S", 0.5)
    options = read_options(Flags(pps="1k"))
    with a_load(20) as load, relays.of_our_own(load, "plain", ANYWHERE) as path:
        half = Path(path.name, path.targets, [*path.ufrags[:10], *(f"nobody{n:02d}" for n in range(10))])
        aim(load, half, options)
        with pytest.raises(FastpathError, match=r"only 10 of 20 sessions were confirmed") as told:
            open_sessions(load, Path(half.name, half.targets, half.ufrags, None, path.drops))
        assert "The relay dropped: " in str(told.value)
        assert told.value.exit_code == 4


def test_no_relay_behind_the_socket(tmp_path):
    options = read_options(Flags(socket=str(tmp_path / "admin.sock")))
    with (
        a_load() as load,
        pytest.raises(UnreachableError, match="no relay runs here"),
        relays.with_admin(load, options, 5),
    ):
        raise AssertionError("there is no relay")


def test_files_are_allowed_as_far_as_they_may_be():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        relays.allow_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
        relays.allow_files(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
        if hard != resource.RLIM_INFINITY:
            with pytest.raises(SocketError, match=r"open files, and [\d,]+ are allowed\. Raise the limit"):
                relays.allow_files(hard + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_clients_need_addresses_of_this_machine():
    options = read_options(Flags(socket="/run/x", target="192.0.2.1:3478", source="203.0.113.77"))
    path = Path("far", [("192.0.2.1", 3478)], [f"ufrag{n:03d}" for n in range(100)])
    with a_load(100) as load, pytest.raises(ConfigError) as refused:
        aim(load, path, options)
    assert str(refused.value).startswith(
        "--sessions: 100 sessions take 2 source addresses from 203.0.113.77 on, and 203.0.113.78 is none of"
    )


def test_another_way_out():
    options = read_options(Flags(pps="1k", inject="gso"))
    with a_load(4) as load:
        path = relays.no_relay(load)
        aim(load, path, options)
        open_sessions(load, path)
        assert load.run(Work(way="up", rate_pps=1000, seconds=0.2)).lost == 0
