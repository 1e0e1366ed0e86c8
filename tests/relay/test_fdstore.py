"""What a keeper leaves in the service manager's store, and what the next one makes of it."""

import logging
import os
import socket

import msgspec
import pytest

from pyfastpath.notify import ServiceManager
from pyfastpath.relay import fdstore, memory, sockets
from pyfastpath.relay.fdstore import SHAPING, Store, identity_of
from pyfastpath.relay.layout import LAYOUT_VERSION
from pyfastpath.relay.opening import Opening, open_relay
from tests.support.manager import Manager


@pytest.fixture
def manager(tmp_path):
    with Manager(tmp_path) as running:
        yield running


@pytest.fixture
def config(make_config, tmp_path):
    return make_config(trunk_port="0", admin_tcp="", health_listen="127.0.0.1:0")


def word_with(manager: Manager) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": str(manager.path)})


def next_word(manager: Manager, *, without: str = "") -> ServiceManager:
    """The service manager as the next keeper finds it: what was kept is open again under other numbers."""
    word = word_with(manager)
    word.inherited = [(name, os.dup(fd)) for name, fd in manager.kept if name != without]
    return word


def kept(manager: Manager, config) -> tuple[Opening, Store]:
    """A relay was opened and stored."""
    opening, word = open_relay(config), word_with(manager)
    store = Store(word)
    store.keep(opening, config)
    assert word.wait_until_heard()
    return opening, store


def shape_of(opening: Opening) -> list:
    """What each descriptor of an opening is, in order."""
    return [identity_of(fd) for fd in opening.descriptors()]


def test_the_next_keeper_gets_the_same_sockets_and_tables(manager, config):
    opening, _ = kept(manager, config)
    memory.Note(opening.memory.note).write(b"what an engine left")
    before, address = shape_of(opening), sockets.local_endpoint(opening.shards[0].clients[0])
    opening.close()  # the keeper is dead; what arrives now waits in the kernel
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"late", (str(address.address), address.port))
    found = Store(next_word(manager)).take_up(config)
    assert found is not None
    again, effective = found
    assert effective == config
    assert shape_of(again) == before
    assert again.shards[0].plain.keys() == opening.shards[0].plain.keys()
    assert again.listeners == opening.listeners
    assert memory.Note(again.memory.note).read() == b"what an engine left"
    waiting = [fd for shard in again.shards for fd in shard.clients]
    assert b"late" in [os.read(fd, 100) for fd in waiting if is_readable(fd)]
    again.close()


def is_readable(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as sock:
        try:
            return bool(sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False


def test_names_say_what_is_kept(manager, config):
    opening, _ = kept(manager, config)
    assert manager.names() == {
        "tables-1": 4,  # shared, two shards, note
        "clients-0": 1,
        "clients-1": 1,
        "plain-0": 8,
        "plain-1": 8,
        "admin-unix": 1,
        "health": 1,
        "manifest-1": 1,
    }
    opening.close()


def test_a_manifest_holds_no_secret_and_cannot_be_changed(manager, make_config):
    config = make_config(admin_tcp="127.0.0.1:0", admin_token="a-very-secret-token-of-ours")
    opening, _ = kept(manager, config)
    (fd,) = [fd for name, fd in manager.kept if name == "manifest-1"]
    content = os.pread(fd, 1 << 20, 0)
    assert b"secret" not in content
    assert config.listen[0].address.encode() in content
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    opening.close()


def test_keys_that_shape_sockets_and_tables_wait_for_a_restart(manager, config, make_config, caplog):
    kept(manager, config)[0].close()
    changed = make_config(
        listen=["127.0.0.1:9"], flows_max="2048", shards="3", coalesce_us="7", health_listen="127.0.0.1:0"
    )
    found = Store(next_word(manager)).take_up(changed)
    assert found is not None
    again, effective = found
    assert (effective.listen, effective.flows_max, effective.shards) == (config.listen, 1024, 2)
    assert effective.coalesce_us == 7
    assert "these keys take effect at the next start: listen, shards, flows_max" in caplog.text
    again.close()


def test_every_key_that_opens_something_is_kept(manager, config):
    """A key that `open_relay` reads, and the store does not keep, would be a lie after a crash."""
    read = set()

    class Watched:
        def __getattr__(self, name):
            read.add(name)
            return getattr(config, name)

    open_relay(Watched()).close()
    assert read | {"trunk_address"} == set(SHAPING)  # which is read when there is a trunk


def test_tables_that_others_replace_are_let_go(manager, config):
    opening, store = kept(manager, config)
    sizes = memory.TableSizes(
        shards=2, flows_max=64, routes_max=64, targets_max=4, ports_ipv4=((0, 8), (8, 8)),
        ports_ipv6=((16, 0), (16, 0)),
    )  # fmt: skip
    other = msgspec.structs.replace(opening, memory=memory.create(sizes))
    store.keep(other, config)
    assert word_with(manager).wait_until_heard()
    names = manager.names()
    assert (names["tables-2"], names["manifest-2"], names["clients-0"]) == (4, 1, 1)
    assert not {"tables-1", "manifest-1"} & set(names)
    found = Store(next_word(manager)).take_up(config)
    assert found is not None
    assert shape_of(found[0]) == shape_of(other)


def test_a_keeper_that_dies_while_tables_are_replaced_leaves_one_whole_set(manager, config):
    """The next one takes the newest set that is whole, and lets go of the rest."""
    opening, _ = kept(manager, config)
    word = word_with(manager)
    torn = os.memfd_create("torn")
    word.store("tables-2", [torn])
    assert word.wait_until_heard()
    found = Store(next_word(manager)).take_up(config)
    assert found is not None
    assert shape_of(found[0]) == shape_of(opening)
    assert word.wait_until_heard()
    assert "tables-2" not in manager.names()


def test_who_ends_as_told_leaves_nothing(manager, config):
    opening, store = kept(manager, config)
    store.let_go()
    opening.close()
    assert word_with(manager).wait_until_heard()
    assert manager.names() == {}
    assert Store(next_word(manager)).take_up(config) is None


@pytest.mark.parametrize(
    ("without", "why"),
    [
        ("plain-1", "8 of 24 descriptors were not kept (raise FileDescriptorStoreMax)"),
        ("manifest-1", "24 descriptors were handed over, and no manifest of ours says what they are"),
    ],
)
def test_a_set_that_is_not_whole_is_closed_and_said(manager, config, caplog, without, why):
    kept(manager, config)[0].close()
    assert Store(next_word(manager, without=without)).take_up(config) is None
    assert why in caplog.text
    assert "flows of the keeper before are lost, everything is opened anew" in caplog.text
    assert set(manager.names()) <= {without}  # which the real one never kept
    open_relay(config).close()  # nothing holds the ports any more


def test_tables_of_another_layout_are_closed_and_said(manager, config, caplog, monkeypatch):
    kept(manager, config)[0].close()
    monkeypatch.setattr(fdstore, "LAYOUT_VERSION", 99)
    assert Store(next_word(manager)).take_up(config) is None
    assert f"the kept tables have layout version {LAYOUT_VERSION}, this relay needs 99" in caplog.text
    assert manager.names() == {}


def test_a_damaged_manifest_is_said(manager, config, caplog):
    word = word_with(manager)
    damaged = os.memfd_create("damaged")
    os.write(damaged, b'{"generation": 1}')
    word.store("manifest-1", [damaged])
    assert word.wait_until_heard()
    assert Store(next_word(manager)).take_up(config) is None
    assert "the manifest of the kept descriptors cannot be read" in caplog.text


def test_more_than_can_be_handed_on_is_said_and_not_stored(manager, config, caplog, monkeypatch):
    monkeypatch.setattr(fdstore, "DESCRIPTORS_MAX", 20)
    caplog.set_level(logging.WARNING)
    opening, _ = kept(manager, config)
    opening.close()
    assert manager.names() == {}
    assert "24 sockets are more than the service manager can hand on" in caplog.text


def test_without_a_service_manager_nothing_is_kept_or_found(config):
    opening = open_relay(config)
    store = Store(ServiceManager({}))
    store.keep(opening, config)
    store.let_go()
    opening.close()
    assert Store(ServiceManager({})).take_up(config) is None
