"""The trunk's leaves, a record of 172 bytes each: bundling out, records and tags in, the replay window."""

import pytest

from fastpath._testing import bench_trunk

COUNT = 128_000  # a multiple of 64
SIZE_BYTES = 172
KEY = bytes(range(16))


@pytest.mark.parametrize("key", [b"", KEY], ids=["untagged", "tagged"])
def test_bundle_a_record(per_operation, key):
    per_operation(bench_trunk.Bundler(SIZE_BYTES, key).bundle, COUNT)


def test_read_a_record(per_operation):
    per_operation(bench_trunk.records, COUNT, bench_trunk.Bundler(SIZE_BYTES, b"").datagram())


def test_tag_of_a_datagram(per_operation):
    per_operation(bench_trunk.tags, 20_000, bench_trunk.Bundler(SIZE_BYTES, KEY).datagram(), KEY)


def test_replay_window(per_operation):
    per_operation(bench_trunk.replays, COUNT)


def test_admit_a_datagram(per_operation):
    per_operation(bench_trunk.admissions, COUNT, bench_trunk.Bundler(SIZE_BYTES, b"").datagram())
