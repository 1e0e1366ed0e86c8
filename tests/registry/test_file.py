"""The registry in a directory: two processes, one of them dead, and files that are none of ours."""

import os
import time
from pathlib import Path

import pytest

from pyfastpath.registry.file import FileRegistry
from pyfastpath.registry.record import RegistryError, build_record
from tests.registry.records import record
from tests.support.mounts import fill, make_read_only, make_writable, own_mounts, small_disk


async def ids(registry: FileRegistry, now: float) -> list[str]:
    return [one.id for one in await registry.records(now)]


async def test_one_writes_and_another_reads(tmp_path: Path) -> None:
    writer, reader = FileRegistry(tmp_path / "made"), FileRegistry(tmp_path / "made")
    await writer.announce(record("t1", sessions=1), 5.0)
    await writer.announce(record("t2"), 5.0)
    found = await reader.records(1000.0)
    assert [(one.id, one.sessions) for one in found] == [("t1", 1), ("t2", 0)]
    await writer.announce(record("t1", sessions=2), 6.0)
    assert (await reader.records(1001.0))[0].sessions == 2
    await writer.withdraw("t1")
    await writer.withdraw("t1")
    assert await ids(reader, 1001.0) == ["t2"]
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["t2.json"]


async def test_nobody_withdraws_what_is_no_record(tmp_path: Path) -> None:
    """The id comes from a URL, in which %2F is a slash."""
    precious = tmp_path / "precious.json"
    precious.write_text("{}")
    registry = FileRegistry(tmp_path / "made")
    for id in ("../precious", str(tmp_path / "precious"), "", "a/b", "t1\n"):
        await registry.withdraw(id)
    assert precious.exists()


async def test_a_dead_one_is_left_out_after_three_seconds_of_the_readers_clock(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path)
    await registry.announce(record("t1"), 0.0)
    assert await ids(registry, 50.0) == ["t1"]
    assert await ids(registry, 52.9) == ["t1"]
    assert await ids(registry, 53.1) == []
    await registry.announce(record("t1"), 0.0)
    assert await ids(registry, 60.0) == ["t1"], "heard again, whatever was before"


@pytest.mark.parametrize("shift_s", [-3600, 3600])
async def test_a_file_left_by_a_dead_process_is_nobody(tmp_path: Path, shift_s: int) -> None:
    """An hour old, or from an hour ahead because the clock was set back: neither was heard now."""
    registry = FileRegistry(tmp_path)
    await registry.announce(record("t1"), 0.0)
    moment = time.time() + shift_s
    os.utime(tmp_path / "t1.json", (moment, moment))
    assert await ids(registry, 9.0) == []
    await registry.announce(record("t1"), 0.0)
    assert await ids(registry, 9.0) == ["t1"]


async def test_what_is_no_record_is_passed_over_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = FileRegistry(tmp_path)
    await registry.announce(record("good"), 0.0)
    (tmp_path / "broken.json").write_bytes(b'{"id": "broken"')
    (tmp_path / "liar.json").write_bytes(build_record(record("other")))
    (tmp_path / ".t9.new").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not ours")
    assert await ids(registry, 1.0) == ["good"]
    assert await ids(registry, 1.1) == ["good"]
    said = [message for message in caplog.messages if "passed over" in message]
    assert len(said) == 2
    assert any("broken.json" in message for message in said)
    assert any("the record of 'other'" in message for message in said)


async def test_a_directory_that_went_away_is_said(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(RegistryError, match="cannot read the registry's directory"):
        await registry.records(0.0)
    with pytest.raises(RegistryError, match=r"cannot write .*t1\.json"):
        await registry.announce(record(), 0.0)


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot make the registry's directory"):
        FileRegistry(tmp_path / "file" / "below")


async def test_a_disk_that_is_full_or_read_only_is_said_and_the_last_record_stays(tmp_path: Path) -> None:
    with own_mounts(), small_disk(tmp_path / "disk") as disk:
        registry = FileRegistry(disk)
        await registry.announce(record("t1", sessions=1), 5.0)
        filler = fill(disk)
        with pytest.raises(RegistryError, match=r"t1\.json: No space left on device\. Look at disk space"):
            await registry.announce(record("t1", sessions=2), 6.0)
        assert [one.sessions for one in await registry.records(6.0)] == [1]
        filler.unlink()
        make_read_only(disk)
        with pytest.raises(RegistryError, match=r"t1\.json: Read-only file system\. Look at disk space"):
            await registry.announce(record("t1", sessions=2), 7.0)
        make_writable(disk)
        await registry.announce(record("t1", sessions=2), 8.0)
        assert [one.sessions for one in await registry.records(8.0)] == [2]
        assert sorted(path.name for path in disk.iterdir()) == ["t1.json"], "nothing half written stays"
