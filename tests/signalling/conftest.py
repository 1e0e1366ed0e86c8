"""The gateway that most tests need: no keys, no limit, nothing registered yet."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.signalling.rig import Rig, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as one:
        yield one
