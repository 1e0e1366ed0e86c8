"""Changes an operator makes to a relay at work: nobody on a call may notice one."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.chaos.outcome import Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.scale import Scale
from tests.support.rig import until


def reload(directory: Path, scale: Scale) -> list[Outcome]:
    """SIGHUP after an edit of the file, over and over."""
    with ChaosRig(directory, scale, mode="echo") as rig:
        file = directory / "relay.toml"
        text = file.read_text()
        rig.load_start()
        for turn in range(scale.repeats):
            file.write_text(text + f"coalesce_us = {100 + turn}\n")
            rig.mark()
            rig.relay.process.send_signal(signal.SIGHUP)
            until(
                lambda turn=turn: rig.ask("GET", "/v1/config")["config"]["coalesce_us"] == 100 + turn,
                "the reload",
                seconds=20,
            )
            rig.arrives_again()
        rig.load_stop()
        return [rig.outcome("configuration reloaded (SIGHUP)").promising_nothing_lost()]


SCENARIOS = {"reload": reload}
