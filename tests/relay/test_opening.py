"""Everything opened at once, or nothing."""

import os
import socket
from pathlib import Path

import pytest

from pyfastpath.errors import ConfigError, SocketError
from pyfastpath.relay import sockets
from pyfastpath.relay.opening import (
    descriptors_of,
    followed,
    open_relay,
    shares_of,
)
from pyfastpath.tools.ports import free_port
from pyfastpath.types import Endpoint
from tests.relay.conftest import MakeConfig
from tests.support.plain_call import endpoint_text


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("first", "count", "shards", "shares"),
    [
        (0, 0, 2, ((0, 0), (0, 0))),
        (0, 4096, 2, ((0, 2048), (2048, 2048))),
        (10, 7, 3, ((10, 3), (13, 2), (15, 2))),
        (0, 1, 4, ((0, 1), (1, 0), (1, 0), (1, 0))),
    ],
)
def test_pool_indices_are_shared_out(first: int, count: int, shards: int, shares: object) -> None:
    assert shares_of(first, count, shards) == shares


def test_a_relay_with_everything(make_config: MakeConfig) -> None:
    port = free_port(socket.SOCK_DGRAM, 3)
    config = make_config(
        shards="3",
        listen=["127.0.0.1:0", "[::1]:0"],
        plain_ports="7",
        plain_ports_ipv6="2",
        trunk_port=str(port),
        health_listen="127.0.0.1:0",
    )
    before = descriptors()
    opening = open_relay(config)
    assert descriptors() == before + len(opening.descriptors())
    assert len(set(opening.descriptors())) == len(opening.descriptors())
    for number, shard in enumerate(opening.shards):
        assert [str(sockets.local_endpoint(fd)) for fd in shard.clients] == list(opening.listeners)
        assert sockets.local_endpoint(shard.trunk) == Endpoint.parse(f"127.0.0.1:{port + number}")
    families = {
        index: sockets.local_endpoint(fd).family
        for shard in opening.shards
        for index, fd in shard.plain.items()
    }
    assert families == {**dict.fromkeys(range(7), 4), 7: 6, 8: 6}
    assert [len(shard.plain) for shard in opening.shards] == [4, 3, 2]
    assert opening.admin_tcp == -1
    opening.close()
    assert descriptors() == before


def test_without_plain_ports_and_trunk(make_config: MakeConfig) -> None:
    opening = open_relay(make_config(plain_ports="0"))
    assert [(shard.plain, shard.trunk) for shard in opening.shards] == [({}, -1), ({}, -1)]
    opening.close()


def test_nothing_stays_open_when_the_last_part_fails(make_config: MakeConfig, tmp_path: Path) -> None:
    before = descriptors()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = make_config(health_listen=endpoint_text(taken))
        with pytest.raises(SocketError, match=r"TCP .*: the port is in use"):
            open_relay(config)
    assert descriptors() == before


def test_a_trunk_port_in_use(make_config: MakeConfig) -> None:
    port = free_port(socket.SOCK_DGRAM, 2)
    before = descriptors()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port + 1))
        with pytest.raises(SocketError, match=f"UDP 127.0.0.1:{port + 1}: the port is in use"):
            open_relay(make_config(trunk_port=str(port)))
    assert descriptors() == before


def test_descriptors_are_counted_before_an_engine_misses_one(make_config: MakeConfig) -> None:
    config = make_config(
        listen=["127.0.0.1:0", "127.0.0.2:0"], shards="4", trunk_port=str(free_port(socket.SOCK_DGRAM, 4))
    )
    before = descriptors()
    opening = open_relay(config)
    opened = descriptors() - before
    opening.close()
    # beside them: the admin socket, the shared region and the note
    assert opened == descriptors_of(config) + 3


def test_too_many_listeners(make_config: MakeConfig) -> None:
    config = make_config(listen=[f"127.0.0.1:{4000 + number}" for number in range(17)])
    with pytest.raises(ConfigError, match="17 addresses, at most 16 fit"):
        open_relay(config)


def test_a_small_receive_buffer_is_warned_about(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:  # root's SO_RCVBUFFORCE always succeeds; ask for the other option as others do
        monkeypatch.setattr(sockets, "SO_RCVBUFFORCE", socket.SO_RCVBUF)
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    open_relay(make_config(receive_buffer_bytes=str(2 * limit))).close()
    assert f"asked for a receive buffer of {2 * limit} bytes, granted {limit}" in caplog.text
    assert "Raise net.core.rmem_max" in caplog.text


def test_what_an_opened_relay_can_follow(make_config: MakeConfig) -> None:
    same = {"listen": ["127.0.0.1:3478"]}
    old, new = make_config(**same), make_config(**same, shards="4", coalesce_us="9", trunk_port="5000")
    effective, fixed = followed(old, new)
    assert set(fixed) == {"shards", "trunk_port"}
    assert (effective.shards, effective.trunk_port, effective.coalesce_us) == (2, 0, 9)
