"""The registry: indices stay with their flows, states follow what is heard, commands say what changed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.config import Backend
from pyfastpath.errors import RouteError
from pyfastpath.relay.backends import Registry, name_hash
from pyfastpath.relay.commands import (
    NO_IDENTITY,
    BackendCommand,
    PublishBackend,
    RemoveBackend,
    SetBackendIdentity,
    SetBackendState,
)


def plain(name: str, port: int, **keys: Any) -> Backend:
    return Backend(id=name, address=f"10.0.0.1:{port}", **keys)


def trunk(name: str, port: int, **keys: Any) -> Backend:
    return plain(name, port, mode="trunk", **keys)


def states(commands: list[BackendCommand]) -> list[tuple[int, str]]:
    return [(c.index, c.state) for c in commands if isinstance(c, PublishBackend | SetBackendState)]


def test_a_name_has_the_same_weight_in_every_relay() -> None:
    assert name_hash("sfu1") == 0xE6F26B5288205ED9
    assert len({name_hash(f"b{number}") for number in range(1000)}) == 1000


def test_adding_publishes_everything_once() -> None:
    registry = Registry(cluster=7, keyed=True)
    (command,) = registry.add(trunk("a", 5000, transceiver=3, incarnation=2))
    assert command == PublishBackend(
        index=0,
        endpoint=trunk("a", 5000).endpoint,
        mode="trunk",
        name_hash=name_hash("a"),
        identity=(7, 3, 2),
        keyed=True,
        state="down",
    )
    assert registry.add(trunk("a", 5000, transceiver=3, incarnation=2)) == []
    (changed,) = registry.add(trunk("a", 5000, transceiver=4))
    assert isinstance(changed, PublishBackend)
    assert (changed.index, changed.identity) == (0, (7, 4, 0))


@pytest.mark.parametrize(
    ("spec", "state"),
    [
        (plain("a", 5000), "up"),
        (trunk("a", 5000), "down"),
        (trunk("a", 5000, assume_up=True), "up"),
    ],
)
def test_before_anything_is_heard(spec: Backend, state: str) -> None:
    registry = Registry()
    assert states(registry.add(spec)) == [(0, state)]


def test_what_is_heard_decides_and_only_changes_are_told() -> None:
    registry = Registry()
    registry.add(trunk("a", 5000))
    assert registry.observe(0, "up") == [SetBackendState(0, "up")]
    assert registry.observe(0, "up") == []
    assert registry.observe(0, "up", (1, 2, 3)) == [SetBackendIdentity(0, (1, 2, 3))]
    assert registry.observe(0, "draining", (1, 2, 4)) == [
        SetBackendIdentity(0, (1, 2, 4)),
        SetBackendState(0, "draining"),
    ]
    assert registry.observe(0, "down") == [SetBackendState(0, "down")]
    assert registry.observe(9, "up") == []


def test_a_configured_number_beats_a_reported_one_but_not_the_incarnation() -> None:
    registry = Registry(cluster=1)
    registry.add(trunk("a", 5000, transceiver=9))
    assert registry.observe(0, "up", (5, 6, 7)) == [
        SetBackendIdentity(0, (1, 9, 7)),
        SetBackendState(0, "up"),
    ]


def test_an_operators_drain_holds_whatever_is_heard() -> None:
    registry = Registry()
    registry.add(trunk("a", 5000))
    registry.observe(0, "up")
    assert registry.drain("a") == [SetBackendState(0, "draining")]
    assert registry.observe(0, "down") == [SetBackendState(0, "down")]
    assert registry.observe(0, "up") == [SetBackendState(0, "draining")]
    assert registry.drain("a", False) == [SetBackendState(0, "up")]


def test_a_removed_backend_retires_until_its_last_flow_has_ended() -> None:
    registry = Registry(cluster=1)
    registry.add(plain("a", 5000, transceiver=2))
    assert registry.remove("a") == [SetBackendState(0, "draining"), SetBackendIdentity(0, NO_IDENTITY)]
    with pytest.raises(RouteError) as refused:
        registry.get("a")
    assert refused.value.code == "unknown_backend"
    assert registry.release({0}) == []
    assert registry.release({1, 2}) == [RemoveBackend(0)]
    assert registry.release(set()) == []


def test_an_index_is_used_again_as_late_as_can_be() -> None:
    registry = Registry()
    for number in range(256):
        registry.add(plain("x", 1 + number))  # each address is another server
        registry.release(set())
    assert registry.entries["x"].index == 255
    registry.add(plain("y", 5000))
    assert registry.entries["y"].index == 0


def test_all_indices_taken() -> None:
    registry = Registry()
    for number in range(256):
        registry.add(plain(f"b{number}", 1 + number))
    with pytest.raises(RouteError, match="all 256 backends are taken") as refused:
        registry.add(plain("one-more", 5000))
    assert refused.value.code == "table_full"
    with pytest.raises(RouteError, match="all 256 backends are taken"):
        registry.add(plain("b0", 5000))
    assert registry.entries["b0"].spec.address == "10.0.0.1:1", "a refused change changes nothing"
    registry.remove("b7")
    with pytest.raises(RouteError):
        registry.add(plain("one-more", 5000))
    registry.release(set())
    registry.add(plain("one-more", 5000))
    assert registry.entries["one-more"].index == 7


def test_another_address_is_another_server() -> None:
    registry = Registry()
    registry.add(plain("a", 5000))
    commands = registry.add(plain("a", 6000))
    assert states(commands) == [(0, "draining"), (1, "up")]
    assert registry.entries["a"].index == 1
    assert [entry.index for entry in registry.retired] == [0]


def test_a_server_that_comes_back_finds_its_flows() -> None:
    registry = Registry()
    registry.add(plain("a", 5000))
    registry.remove("a")
    (command,) = registry.add(plain("renamed", 5000))
    assert isinstance(command, PublishBackend)
    assert (command.index, command.state) == (0, "up")
    assert not registry.retired


def test_two_trunks_cannot_have_one_address() -> None:
    registry = Registry()
    registry.add(trunk("a", 5000))
    with pytest.raises(RouteError, match="backend a already has the trunk address") as refused:
        registry.add(trunk("b", 5000))
    assert refused.value.code == "conflict"
    registry.add(plain("c", 5000))
    registry.add(plain("d", 5000))


def test_a_configuration_is_followed_and_the_apis_backends_stay() -> None:
    registry = Registry()
    registry.configure([plain("a", 1), plain("b", 2)], cluster=0, keyed=False)
    registry.add(plain("api", 3))
    commands = registry.configure([plain("b", 2), plain("c", 4)], cluster=0, keyed=False)
    assert states(commands) == [(0, "draining"), (3, "up")]
    assert set(registry.entries) == {"b", "api", "c"}
    assert registry.configure([plain("b", 2), plain("c", 4)], cluster=0, keyed=False) == []


def test_two_backends_may_swap_their_addresses() -> None:
    registry = Registry()
    registry.configure([plain("a", 1), plain("b", 2)], cluster=0, keyed=False)
    registry.configure([plain("a", 2), plain("b", 1)], cluster=0, keyed=False)
    assert {name: entry.index for name, entry in registry.entries.items()} == {"a": 1, "b": 0}
    assert not registry.retired


def test_a_configuration_that_collides_with_the_api_changes_nothing() -> None:
    registry = Registry()
    registry.configure([trunk("a", 1)], cluster=0, keyed=False)
    registry.add(trunk("api", 2))
    before = registry.store()
    with pytest.raises(RouteError, match="backend api already has the trunk address"):
        registry.configure([trunk("b", 2)], cluster=5, keyed=True)
    assert registry.store() == before
    assert (registry.cluster, registry.keyed) == (0, False)


def test_new_trunk_keys_republish_every_trunk() -> None:
    registry = Registry()
    registry.configure([trunk("a", 1), plain("b", 2)], cluster=0, keyed=False)
    commands = registry.configure([trunk("a", 1), plain("b", 2)], cluster=0, keyed=True)
    assert {c.index: c.keyed for c in commands if isinstance(c, PublishBackend)} == {0: True, 1: False}


def test_the_next_engine_goes_on_with_the_same_indices() -> None:
    registry = Registry()
    registry.add(plain("a", 1))
    registry.add(plain("b", 2))
    registry.drain("b")
    registry.remove("a")
    after = Registry()
    after.restore(registry.store())
    assert after.store() == registry.store()
    assert after.entries["b"].state == "draining"
    assert [entry.index for entry in after.retired] == [0]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "drain", "undrain", "configure", "release"]),
        st.sampled_from("abc"),
        st.integers(1, 4),
    ),
    max_size=30,
)


@given(OPERATIONS)
def test_a_table_that_obeys_the_commands_always_agrees(operations: list[tuple[str, str, int]]) -> None:
    """The published state of every index is the registry's, and no index ever has two owners."""
    registry, table = Registry(), dict[int, str]()

    def obey(commands: list[BackendCommand]) -> None:
        for command in commands:
            match command:
                case PublishBackend() | SetBackendState():
                    table[command.index] = command.state
                case RemoveBackend():
                    del table[command.index]

    for operation, name, port in operations:
        match operation:
            case "add":
                obey(registry.add(plain(name, port)))
            case "configure":
                obey(registry.configure([plain(name, port)], cluster=0, keyed=False))
            case "release":
                obey(registry.release(set()))
            case _ if name in registry.entries:
                if operation == "remove":
                    obey(registry.remove(name))
                else:
                    obey(registry.drain(name, operation == "drain"))
        entries = [*registry.entries.values(), *registry.retired]
        assert len({entry.index for entry in entries}) == len(entries)
        assert {entry.index: entry.state for entry in entries} == table
