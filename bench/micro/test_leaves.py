"""One datagram's small steps: first byte, address, hash, STUN walk, FINGERPRINT, token."""

import os
import time

import pytest
from fastpath.load.generator import binding_request

from fastpath._testing import bench
from pyfastpath.wire.token import mint

COUNT = 200_000
KEY = bytes(range(16))
REQUEST = binding_request(b"0123456789abcdefABCDEF", os.urandom(12), b"password")


def test_demux(per_operation):
    per_operation(bench.demux, COUNT, bytes([0, 22, 128, 191] * 64))


def test_address_to_sockaddr_and_back(per_operation):
    per_operation(bench.addresses, COUNT)


def test_siphash_of_a_flow_key(benchmark):
    benchmark.extra_info["operations"] = COUNT
    assert benchmark.pedantic(bench.siphash, args=(KEY, bytes(20), COUNT), rounds=20, warmup_rounds=2)


def test_client_hash(benchmark):
    benchmark.extra_info["operations"] = COUNT
    assert benchmark.pedantic(bench.client_hashes, args=(KEY, COUNT), rounds=20, warmup_rounds=2)


def test_stun_parse(per_operation):
    per_operation(bench.stun_parse, COUNT, REQUEST)


def test_stun_fingerprint(per_operation):
    per_operation(bench.fingerprint, COUNT, REQUEST)


@pytest.fixture
def tokens():
    now_s = int(time.time())
    return [
        mint(
            KEY, serial % 7, expires_s=now_s + 3600, cluster=1, xcvr=serial, incarnation=1, session=serial
        ).encode()
        for serial in range(4096)
    ]


@pytest.mark.parametrize("library", [False, True], ids=["cpu", "libcrypto"])
def test_token_verify(per_operation, benchmark, tokens, library):
    table = bench.Tokens(KEY, tokens, library)
    benchmark.extra_info["aes"] = table.implementation
    per_operation(table.verify, COUNT, int(time.time()))
