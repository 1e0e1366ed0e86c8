"""The registry of one process."""

from pyfastpath.registry.memory import FORGET_AFTER_S, MemoryRegistry
from tests.registry.records import record


async def test_whoever_announces_is_alive_for_three_seconds() -> None:
    registry = MemoryRegistry()
    await registry.announce(record("b"), 100.0)
    await registry.announce(record("a", sessions=3), 101.0)
    assert await registry.records(101.0) == [
        record("a", sessions=3, heard_s=101.0),
        record("b", heard_s=100.0),
    ]
    assert [one.id for one in await registry.records(103.5)] == ["a"]
    await registry.announce(record("b", state="draining"), 103.6)
    assert [(one.id, one.state) for one in await registry.records(103.6)] == [("a", "up"), ("b", "draining")]


async def test_a_withdrawn_one_is_gone_at_once() -> None:
    registry = MemoryRegistry()
    await registry.announce(record("a"), 1.0)
    await registry.withdraw("a")
    await registry.withdraw("nobody")
    assert await registry.records(1.0) == []


async def test_the_dead_are_not_kept_for_ever() -> None:
    registry = MemoryRegistry()
    for number in range(100):
        await registry.announce(record(f"t{number}"), 0.0)
    await registry.announce(record("last"), FORGET_AFTER_S + 1)
    assert list(registry._records) == ["last"]
