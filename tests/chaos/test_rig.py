"""The harness itself: it sees a loss where there is one, and says whose it is."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.books import behind
from tests.chaos.borrowed import Borrowed
from tests.chaos.outcome import CannotRunError, InvalidRunError, Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.scale import SHORT
from tests.support.relay import PUBLISH_S
from tests.support.rig import until


def test_what_the_kernel_drops_is_lost_counted_and_timed(tmp_path: Path) -> None:
    """An engine that stands still behind small buffers: the only loss there is, so both books must agree."""
    with ChaosRig(tmp_path, SHORT, receive_buffer_bytes=65_536) as rig:
        engine = rig.engine_pid()
        time.sleep(PUBLISH_S)
        opening = rig.relay.total("forwarded_datagrams", direction="up")  # some ask twice on a busy machine
        rig.load_start()
        rig.mark()
        os.kill(engine, signal.SIGSTOP)
        until(lambda: rig.kernel_drops() > 200, "full buffers", seconds=20)
        os.kill(engine, signal.SIGCONT)
        rig.arrives_again()
        rig.load_stop()
        outcome = rig.outcome("engine stopped")
        assert outcome.lost == outcome.kernel_dropped == sum(rig.hurt_flows().values()) > 200
        assert outcome.arrived == rig.relay.total("forwarded_datagrams", direction="up") - opening
        assert outcome.recovery_ms is not None
        assert outcome.recovery_ms > 200 / SHORT.pps * 1000
        outcome.assert_nothing_lost(beyond_kernel=True)
        with pytest.raises(AssertionError, match="nothing is lost"):
            outcome.assert_nothing_lost()
        try:
            with Borrowed(rig.keeper_pid, rig.relay.listen) as listening:
                assert listening.drops() == outcome.kernel_dropped
        except CannotRunError as reason:
            pytest.skip(str(reason))


def test_a_trunk_returns_what_was_sent(tmp_path: Path) -> None:
    with ChaosRig(tmp_path, replace(SHORT, flows=100), upstream="trunk", mode="echo") as rig:
        rig.load_start()
        rig.load_for(0.3)
        rig.load_stop()
        outcome = rig.outcome("nothing at all")
        outcome.assert_nothing_lost()
        assert (outcome.sent, outcome.duplicated, outcome.note) == (rig.live().sent, 0, "")
        assert outcome.load == "5,000/s over 100 flows, trunk, echo"
        assert (outcome.memory_mib or 0) > 20
        rig.relay.assert_conservation()


def test_a_load_that_leaves_no_headroom_shrinks_and_its_words_say_so(tmp_path: Path) -> None:
    with ChaosRig(tmp_path, replace(SHORT, name="full", flows=50, pps=20_000), upstream="trunk") as rig:
        rig.load_start(busy_max=0.0)
        rig.load_stop()
        assert rig.outcome("nothing at all").load == "10,000/s over 50 flows, trunk, up"
        rig.load_start(busy_max=1.0)
        rig.load_stop()
        assert rig.scale.pps == 10_000


def test_a_rate_that_was_not_held_is_no_result() -> None:
    assert behind(1_000, 1_000, 1.0) == ""
    assert behind(890, 1_000, 1.0) == ""  # the threads began a little later
    late = behind(500, 1_000, 1.0)
    assert late == "the generator sent 500 of 900 that the schedule asked for"
    with pytest.raises(InvalidRunError):
        Outcome("nothing", "1/s", 1, 500, 500, 0, 0, 0, 0, None, None, invalid=late).assert_kept()


def test_a_promise_that_was_not_kept_is_said() -> None:
    kept = Outcome("nothing", "1/s", 1, 10, 10, 0, 0, 0, 0, None, None).promising_nothing_lost()
    kept.assert_kept()
    lost = replace(kept, arrived=8, lost=2, misrouted=1)
    assert lost.promising_nothing_lost().broken == "nothing is lost; nothing is misrouted"
    assert replace(lost, kernel_dropped=2).promising_nothing_lost(beyond_kernel=True).broken == (
        "nothing is misrouted"
    )
    with pytest.raises(AssertionError, match="nothing was sent"):
        replace(kept, sent=0, arrived=0).assert_nothing_lost()
