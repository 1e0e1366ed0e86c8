"""Transceivers that do not register are asked every second."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pyfastpath.config import GatewayConfig
from pyfastpath.config.gateway import Transceiver
from pyfastpath.types import Secret
from tests.signalling.rig import running, until
from tests.signalling.scripted import Scripted

TOKEN = "control-0123456789"


async def test_they_get_calls_under_their_configured_names(tmp_path: Path) -> None:
    one = await Scripted(id="its-own-word", xcvr=9, token=TOKEN).start()
    static = (Transceiver(id="east", control=one.control),)
    async with running(tmp_path, transceivers=static, control_token=Secret(TOKEN.encode())) as rig:
        await until(lambda: bool(one.asked))
        assert (await rig.call()).status == 201
        (known,) = await rig.admin.records(time.monotonic())
        assert (known.id, known.control, known.xcvr) == ("east", one.control, 9)
        await one.die()


async def test_their_state_is_followed_and_their_death_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = await Scripted().start(str(tmp_path / "t1.sock"))
    async with running(tmp_path, transceivers=(Transceiver(id="t1", control=one.control),)) as rig:
        await until(lambda: bool(one.asked))
        one.state = "draining"

        async def states() -> list[str]:
            return [record.state for record in await rig.admin.records(time.monotonic())]

        began_s = time.monotonic()
        while await states() != ["draining"]:
            assert time.monotonic() - began_s < 3
        await one.die()
        began_s = time.monotonic()
        while await states():
            assert time.monotonic() - began_s < 4
        assert caplog.text.count("transceiver t1 takes no calls") == 1, "once, not every second"
        await one.start(str(tmp_path / "t1.sock"))
        began_s = time.monotonic()
        while not await states():
            assert time.monotonic() - began_s < 3
        assert "transceiver t1 is back" in caplog.text
        await one.die()


async def test_what_is_no_record_is_said_and_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = await Scripted(incarnation=99).start(str(tmp_path / "t1.sock"))
    async with running(tmp_path, transceivers=(Transceiver(id="t1", control=one.control),)) as rig:
        await until(lambda: "not a transceiver record" in caplog.text)
        assert "incarnation" in caplog.text
        one.incarnation = 3
        began_s = time.monotonic()
        while (await rig.call()).status != 201:
            assert time.monotonic() - began_s < 4
        await one.die()


def test_the_configuration_names_them() -> None:
    assert "transceivers" in GatewayConfig.__struct_fields__
