"""Policy and keys: published as a whole, copied whole; which clients may have a flow."""

import threading
from ipaddress import ip_address, ip_network

import pytest
from fastpath._testing.tables import SettingsCopy
from fastpath.settings import Settings
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.wire.trunk import direction_key
from tests.support.examples import examples

KEY = bytes(range(16))


def sixteen(text: str) -> tuple[bytes, int]:
    address = ip_address(text)
    return address.packed.ljust(16, b"\0"), address.version


def who(text: str) -> tuple[bytes, int, int, int]:
    address, family = sixteen(text)
    return address, 5000, family, 0


def test_a_copy_has_everything_that_was_published() -> None:
    shared, copy = Settings(), SettingsCopy()
    assert not copy.refresh(shared), "nothing was published yet"
    shared.publish(
        token_keys={0: KEY, 6: KEY[::-1]},
        trunk_keys={3: KEY},
        trunk_key_id=3,
        trunk_insecure=True,
        hash_policy=True,
        draining=True,
        allow_clients=[(*sixteen("10.0.0.0"), 8)],
        coalesce_us=500,
        spin=True,
        dscp=(46, 34, 10, 0),
        trunk_mtu=9000,
        admission_flows_per_s=70,
        admission_burst=700,
    )
    shared.set_wall(1_800_000_000)
    assert copy.refresh(shared)
    assert copy.fields() == {
        "wall_s": 1_800_000_000,
        "generation": 2,
        "coalesce_us": 500,
        "trunk_mtu": 9000,
        "spin": True,
        "draining": True,
        "hash_policy": True,
        "trunk_insecure": True,
        "trunk_key_id": 3,
        "allow_count": 1,
        "dscp": [46, 34, 10, 0],
        "admission": (70, 700),
        "token_keys": {0: KEY, 6: KEY[::-1]},
        "up_keys": {3: direction_key(KEY, "up")},
        "down_keys": {3: direction_key(KEY, "down")},
    }
    assert not copy.refresh(shared), "nothing new"
    shared.set_wall(1_800_000_001)
    assert not copy.refresh(shared)
    assert copy.fields()["wall_s"] == 1_800_000_001, "the clock comes without a new policy"
    shared.publish(token_keys={}, trunk_keys={})
    assert copy.refresh(shared)
    assert copy.fields()["token_keys"] == copy.fields()["up_keys"] == {}, "what was published is all there is"


def test_a_copy_is_never_of_two_publications() -> None:
    shared, copy = Settings(), SettingsCopy()
    torn: list[int] = []
    reader = threading.Thread(target=lambda: torn.append(copy.watch(shared, 100_000_000, 100)))
    reader.start()
    number = 0
    while reader.is_alive():
        number += 1
        shared.publish(
            token_keys={0: bytes([number % 256]) * 16},
            trunk_keys={},
            coalesce_us=number,
            trunk_mtu=number,
            dscp=(0, 0, 0, number % 64),
        )
    reader.join()
    assert torn == [0]


@pytest.mark.parametrize(
    "refused",
    [
        {"token_keys": {7: KEY}},
        {"token_keys": {0: KEY[:15]}},
        {"trunk_keys": {4: KEY}},
        {"trunk_keys": {0: KEY + b"x"}},
        {"allow_clients": [(bytes(16), 4, 0)] * 65},
    ],
    ids=["kid", "token-key", "trunk-id", "trunk-key", "networks"],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(refused: dict) -> None:
    shared, copy = Settings(), SettingsCopy()
    with pytest.raises(ValueError, match=r"16 bytes|at most 64"):
        shared.publish(**{"token_keys": {}, "trunk_keys": {}} | refused)
    assert not copy.refresh(shared)


# ---- allow_clients --------------------------------------------------------------------------------------

NETWORKS = [
    "10.0.0.0/8",
    "10.1.2.0/23",
    "127.0.0.1/32",
    "0.0.0.0/0",
    "fd00::/8",
    "::1/128",
    "::/0",
    "fe80::/10",
]
ADDRESSES = [
    *(
        "10.1.2.3",
        "10.1.4.1",
        "127.0.0.1",
        "127.0.0.2",
        "192.168.1.1",
        "172.16.0.1",
        "172.32.0.1",
        "169.254.1.1",
    ),
    *("100.64.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "203.0.113.9", "8.8.8.8"),
    *("::1", "::2", "fd00::1", "fe80::1", "ff02::1", "2001:db8::1", "2606:4700::1"),
]
PUBLIC = {"172.32.0.1", "203.0.113.9", "8.8.8.8", "2001:db8::1", "2606:4700::1"}


@examples(100)
@given(st.lists(st.sampled_from(NETWORKS), max_size=4))
def test_special_addresses_need_a_network_that_holds_them(listed: list[str]) -> None:
    shared, copy = Settings(), SettingsCopy()
    networks = [ip_network(text) for text in listed]
    allow = [(*sixteen(str(net.network_address)), net.prefixlen) for net in networks]
    shared.publish(token_keys={}, trunk_keys={}, allow_clients=allow)
    copy.refresh(shared)
    for text in ADDRESSES:
        wanted = text in PUBLIC or any(ip_address(text) in net for net in networks)
        assert copy.allowed(who(text)) == wanted, f"{text} with {listed}"
