"""The files of an edge are configurations that load, with fresh keys that only its processes share."""

import socket
import stat
from pathlib import Path

import pytest

from pyfastpath.config import GatewayConfig, RelayConfig, TransceiverConfig, load
from pyfastpath.errors import ConfigError, SocketError
from pyfastpath.tools.edge import Edge, Wishes, check_ports, toml_of, usable
from pyfastpath.tools.ports import free_port


def edge(folder: Path, **wishes: object) -> Edge:
    return Edge(Wishes(**wishes), folder, ("192.168.7.5", "172.17.0.1"), 40_000)  # type: ignore[arg-type]


def loaded(one: Edge) -> tuple[RelayConfig, GatewayConfig, list[TransceiverConfig]]:
    one.write()
    folder = one.directory
    return (
        load(folder / "relay.toml", environ={}),
        load(folder / "gateway.toml", kind=GatewayConfig, environ={}),
        [
            load(folder / f"{name}.toml", kind=TransceiverConfig, environ={})
            for name in one.transceiver_names()
        ],
    )


def test_every_file_loads_and_they_fit_together(tmp_path):
    relay, gateway, transceivers = loaded(edge(tmp_path, transceivers=3, agent="tone"))
    assert relay.token_keys == gateway.token_keys
    assert len(gateway.call_key.value) == 32
    assert [one.transceiver for one in transceivers] == [1, 2, 3]
    for one in transceivers:
        assert one.trunk_keys == relay.trunk_keys
        assert [str(end) for end in one.relay_sockets] == [f"{relay.trunk_address}:{relay.trunk_port}"]
        assert one.relay_admin == (relay.admin_socket,)
        assert one.registry == f"unix:{gateway.admin_socket}"
        assert one.agent == "tone"
    health = [relay.health_listen, gateway.health_listen, *(one.health_listen for one in transceivers)]
    assert health == [f"127.0.0.1:{9478 + number}" for number in range(5)]
    assert len({one.control_socket for one in transceivers} | {one.state_dir for one in transceivers}) == 6
    assert (relay.workers, relay.pin, relay.shards) == (1, False, 1)


def test_keys_are_fresh_and_the_files_private(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    for folder in (one, other):
        folder.mkdir()
    first, second = loaded(edge(one)), loaded(edge(other))
    assert first[0].token_keys != second[0].token_keys
    assert first[0].trunk_keys != second[0].trunk_keys
    assert first[1].call_key != second[1].call_key
    for file in one.glob("*.toml"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_alone_it_serves_this_machine(tmp_path):
    one = edge(tmp_path, relay_port=3000, page_port=8000)
    relay, gateway, _ = loaded(one)
    assert one.candidates == ("127.0.0.1:3000", "192.168.7.5:3000", "172.17.0.1:3000")
    assert tuple(item.address for item in relay.listen) == gateway.candidates == one.candidates
    assert "192.168.7.5/32" in relay.allow_clients
    assert "192.168.0.0/16" not in relay.allow_clients
    assert gateway.listen == "127.0.0.1:8000"
    assert (one.page, one.gateway, one.via) == ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "")


@pytest.mark.parametrize(
    ("address", "listen", "allowed", "via"),
    [
        ("203.0.113.9", "0.0.0.0:3478", None, "127.0.0.1"),
        ("192.168.7.5", "0.0.0.0:3478", "192.168.0.0/16", ""),
        ("10.1.2.3", "0.0.0.0:3478", "10.0.0.0/8", "127.0.0.1"),
        ("2001:470::9", "[::]:3478", None, "::1"),
        ("fd00::9", "[::]:3478", "fc00::/7", "::1"),
    ],
)
def test_with_a_public_address_it_serves_others(tmp_path, address, listen, allowed, via):
    one = edge(tmp_path, public_ip=address, tls=True)
    relay, gateway, _ = loaded(one)
    assert [item.address for item in relay.listen] == [listen]
    assert one.candidates == gateway.candidates == (str(relay.listen[0].advertised),)
    assert (allowed in relay.allow_clients) == (allowed is not None)
    assert gateway.tls == "self-signed"
    assert gateway.public_url == one.page
    assert one.page.startswith("https://")
    assert one.gateway in ("https://127.0.0.1:8080", "https://[::1]:8080")
    assert one.via == via


def test_what_is_no_address_is_refused():
    with pytest.raises(ConfigError, match="'me' is not an IP address"):
        check_ports(Wishes(public_ip="me"))


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wishes = Wishes(
            relay_port=free_port(socket.SOCK_DGRAM),
            page_port=free_port(socket.SOCK_STREAM),
            health_port=port - 2,
        )
        with pytest.raises(SocketError, match=f"TCP port {port}"):
            check_ports(wishes)


def test_addresses_a_client_of_this_machine_may_use():
    many = [f"10.0.0.{number}" for number in range(1, 20)]
    assert usable(["127.0.0.1", "127.0.1.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"]) == ("10.0.0.1", "10.0.0.2")
    assert usable(many) == tuple(many[:8])


def test_toml_of_nested_values():
    text = toml_of({"a": [{"b": "c\n"}, "d"], "e": True, "f": 7})
    assert text == 'a = [{ b = "c\\n" }, "d"]\ne = true\nf = 7\n'
