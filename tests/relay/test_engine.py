"""The engine's own life: how it ends, what it reloads, what it leaves to the next one."""

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from pyfastpath.config import RelayConfig
from pyfastpath.errors import ConfigError, LayoutError
from pyfastpath.relay.engine import WORKER_FAILED, Engine, configured
from pyfastpath.relay.manifest import Manifest
from pyfastpath.relay.opening import Opening, open_relay
from pyfastpath.relay.relay import Relay
from tests.relay.conftest import MakeConfig
from tests.support.http import ask


@pytest.fixture
def config(make_config: MakeConfig) -> RelayConfig:
    return make_config(backends=["a=127.0.0.1:9"])


@pytest.fixture
def opening(config: RelayConfig) -> Iterator[Opening]:
    made = open_relay(config)
    yield made
    made.close()


async def started(engine: Engine) -> "asyncio.Task[int]":
    """The running engine, once everything is open."""
    ready = asyncio.Event()
    task = asyncio.create_task(engine.run(ready.set))
    await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    return task


async def test_it_ends_with_the_code_it_is_told(opening: Opening, config: RelayConfig) -> None:
    engine = Engine(opening, config)
    task = await started(engine)
    assert engine.control.crew.is_whole()
    engine.stop(7)
    engine.stop(8)
    assert await task == 7
    assert not engine.control.crew.is_whole()


async def test_the_next_engine_serves_the_same_listeners(opening: Opening, config: RelayConfig) -> None:
    where = Path(config.admin_socket)
    with ThreadPoolExecutor(1) as client:

        async def status() -> dict[str, object]:
            _, said = await asyncio.get_running_loop().run_in_executor(
                client, ask, where, "GET", "/v1/status"
            )
            return dict(said)

        for start in (1, 2, 3):
            engine = Engine(opening, config)
            task = await started(engine)
            assert (await status())["engine_starts"] == start
            engine.stop()
            await task


async def test_the_trunk_epoch_rises_with_every_engine(opening: Opening, config: RelayConfig) -> None:
    epochs = [Engine(opening, config).control.shared.trunk_epoch for _ in range(4)]
    assert epochs == sorted(set(epochs))
    assert epochs[0] >= int(time.time()) - 5


async def test_a_worker_that_fails_ends_the_engine(opening: Opening, config: RelayConfig) -> None:
    engine = Engine(opening, config)
    task = await started(engine)
    member = engine.control.crew.members[0]
    # The error a worker can end with from Python: it is run a second time.
    await asyncio.get_running_loop().run_in_executor(None, engine.control.crew._run, member.worker)
    assert await task == WORKER_FAILED


async def test_memory_of_another_layout_is_refused(opening: Opening, config: RelayConfig) -> None:
    import os

    os.pwrite(opening.memory.shared, (99).to_bytes(4, "little"), 8)
    with pytest.raises(LayoutError, match="layout version 99"):
        Engine(opening, config)


async def test_a_reload_is_what_the_next_engine_goes_by(opening: Opening, config: RelayConfig) -> None:
    engine = Engine(opening, config, load=lambda: msgspec.structs.replace(config, coalesce_us=1))
    task = await started(engine)
    assert configured(Manifest(opening=opening)) == config
    assert engine.reload().changed == ["coalesce_us"]
    assert configured(Manifest(opening=opening)).coalesce_us == 1
    engine.stop()
    await task


async def test_a_refused_reload_changes_nothing(opening: Opening, config: RelayConfig) -> None:
    def load() -> RelayConfig:
        raise ConfigError("no such key", key="x", where="relay.toml, line 3")

    engine = Engine(opening, config, load=load)
    task = await started(engine)
    with pytest.raises(ConfigError, match="line 3"):
        engine.reload()
    assert configured(Manifest(opening=opening)) == config
    engine.stop()
    await task


async def test_a_drain_without_flows_ends_at_once(
    opening: Opening, config: RelayConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = Engine(opening, config)
    task = await started(engine)
    engine.drain_and_stop()
    assert await task == 0
    assert "drained: no live flow is left" in caplog.text


def test_an_engine_that_cannot_attach_says_so_to_the_caller(
    config: RelayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python API's start() raises what the control thread met, and nothing is left behind."""
    broken = msgspec.structs.replace(config, workers=3)  # three workers for two shards
    with pytest.raises(Exception, match="3 workers cannot serve 2 shards"):
        Relay(broken).start()
    assert not Path(config.admin_socket).exists()
