"""Regions: what they cost, and that memory which is not ours is refused with a sentence."""

import struct

import pytest
from fastpath.shard import Shard, Shared, format_shard, format_shared, shard_bytes, shared_bytes

SEED = bytes(range(16))
SHARED = {"shards": 2, "routes_max": 1000, "targets_max": 100}
SHARD = {"flows_max": 1000, "provisional_max": 64, "transactions_max": 256, "targets_max": 100}


def shared_region(**changes):
    sizes = SHARED | changes
    region = bytearray(shared_bytes(**sizes))
    format_shared(region, seed=SEED, trunk_epoch=1, **sizes)
    return region


def shard_region(**changes):
    sizes = SHARD | changes
    region = bytearray(shard_bytes(**sizes))
    format_shard(region, index=0, **sizes)
    return region


def test_a_route_costs_64_bytes_at_most():
    grown = shared_bytes(**(SHARED | {"routes_max": 1 << 20})) - shared_bytes(**(SHARED | {"routes_max": 1}))
    assert grown <= 64 << 20


def test_what_was_formatted_can_be_attached_again():
    shared = Shared(shared_region())
    assert shared.seed == SEED
    shard = Shard(shared, shard_region())
    assert shard.flows() == b""


@pytest.mark.parametrize("shards", [0, 65])
def test_a_number_of_shards_that_does_not_fit(shards):
    with pytest.raises(ValueError, match=r"1\.\.64"):
        shared_bytes(**(SHARED | {"shards": shards}))


def test_a_seed_of_the_wrong_length():
    with pytest.raises(ValueError, match="16 bytes"):
        format_shared(bytearray(shared_bytes(**SHARED)), seed=b"short", trunk_epoch=1, **SHARED)


@pytest.mark.parametrize("region", [bytearray(1 << 16), bytearray(b"NOTOURS!") + bytearray(1 << 16)])
def test_memory_without_the_magic_is_no_region(region):
    with pytest.raises(ValueError, match="no fastpath region"):
        Shared(region)
    with pytest.raises(ValueError, match="no fastpath region"):
        Shard(Shared(shared_region()), region)


@pytest.mark.parametrize("make", [shared_region, shard_region])
def test_another_layout_version_is_refused_and_named(make):
    region = make()
    struct.pack_into("=I", region, 8, 99)
    with pytest.raises(ValueError, match="layout version 99"):
        Shared(region) if make is shared_region else Shard(Shared(shared_region()), region)


@pytest.mark.parametrize("kept", [0, 16, 100, 5000])
def test_a_region_that_was_cut_is_refused(kept):
    with pytest.raises(ValueError, match="bytes"):
        Shared(shared_region()[:kept])
    with pytest.raises(ValueError, match="bytes"):
        Shard(Shared(shared_region()), shard_region()[:kept])


def test_an_address_that_is_none():
    shared = Shared(shared_region())
    with pytest.raises(ValueError, match="16 bytes"):
        shared.set_ingress(0, b"abc", 1, 4, 0, False)
