"""Keeper-owned memory: sized, sealed, formatted once; the note survives a writer's death."""

import fcntl
import os
import resource

import numpy as np
import pytest
from fastpath.shard import Shard, Shared
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import SocketError
from pyfastpath.relay import layout, memory

SIZES = memory.TableSizes(
    shards=2,
    flows_max=100,
    routes_max=50,
    targets_max=10,
    ports_ipv4=((0, 5), (5, 4)),
    ports_ipv6=((9, 1), (10, 0)),
)


def test_regions_are_formatted_with_their_sizes() -> None:
    fds = memory.create(SIZES)
    shared_memory = memory.map_region(fds.shared)
    shared = Shared(shared_memory)
    header = np.frombuffer(shared_memory, layout.SHARED_HEADER, 1)[0]
    assert (header["magic"], header["layout_version"]) == (layout.MAGIC, layout.LAYOUT_VERSION)
    assert (header["shards"], header["routes_max"], header["routes_capacity"]) == (2, 50, 128)
    assert header["backends_capacity"] == layout.BACKENDS + 10
    for index, fd in enumerate(fds.shards):
        shard = np.frombuffer(Shard(shared, memory.map_region(fd)).header(), layout.SHARD_HEADER)[0]
        assert (shard["index"], shard["flows_max"]) == (index, 100)
        assert shard["port_first"].tolist() == [SIZES.ports_ipv4[index][0], SIZES.ports_ipv6[index][0]]
        assert shard["port_count"].tolist() == [SIZES.ports_ipv4[index][1], SIZES.ports_ipv6[index][1]]
    fds.close()


def test_every_keeper_draws_a_seed_of_its_own() -> None:
    made = [memory.create(SIZES) for _ in range(2)]
    seeds = {Shared(memory.map_region(fds.shared)).seed for fds in made}
    assert len(seeds) == 2
    assert bytes(16) not in seeds
    for fds in made:
        fds.close()


def test_nobody_can_shrink_a_region_under_a_mapping() -> None:
    fds = memory.create(SIZES)
    for fd in fds.all():
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    fds.close()


def test_memory_that_is_not_there_is_said_and_nothing_leaks() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(SocketError, match=r"no memory for the shard0 region .* Lower flows_max"):
            memory.create(SIZES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_region_that_cannot_be_mapped_is_said() -> None:
    fd = os.memfd_create("larger than any address space")
    os.ftruncate(fd, 1 << 60)
    with pytest.raises(SocketError, match=r"cannot map a region of \d+ MiB: .* Lower flows_max"):
        memory.map_region(fd)
    os.close(fd)


def fresh_note() -> tuple[int, memory.Note]:
    fd = os.memfd_create("note")
    os.ftruncate(fd, 2 * memory.NOTE_BYTES)
    return fd, memory.Note(fd)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_the_newest_note_is_read_by_the_next_engine(notes: list[bytes]) -> None:
    fd, note = fresh_note()
    assert note.read() == b""
    for content in notes:
        note.write(content)
        assert memory.Note(fd).read() == content
    os.close(fd)


@given(st.data())
def test_a_torn_note_leaves_the_one_before(data: st.DataObject) -> None:
    fd, note = fresh_note()
    note.write(b"first")
    note.write(b"second")
    region = memory.map_region(fd)
    written = slice(memory.NOTE_BYTES, memory.NOTE_BYTES + 64)  # the half that the third note goes to
    before = region[written]
    note.write(b"third, which is longer")
    changed = [place for place in range(64) if before[place] != region[written][place]]
    cut = data.draw(st.integers(0, len(changed) - 1))
    for place in changed[cut:]:  # its writer died before it reached these bytes
        region[written.start + place] = before[place]
    assert memory.Note(fd).read() == b"second"
    memory.Note(fd).write(b"fourth")
    assert memory.Note(fd).read() == b"fourth"
    os.close(fd)


def test_a_note_that_is_too_long_is_refused() -> None:
    fd, note = fresh_note()
    note.write(b"kept")
    with pytest.raises(ValueError, match="a note holds"):
        note.write(bytes(memory.NOTE_BYTES))
    assert note.read() == b"kept"
    os.close(fd)
