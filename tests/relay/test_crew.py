"""Workers: every shard has exactly one, they are pinned where asked, and one that fails is noticed."""

import os
import threading

import pytest

from pyfastpath.errors import RouteError
from pyfastpath.relay.relay import Relay
from tests.relay.conftest import MakeConfig
from tests.support.rig import until


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_shard_has_one_worker(make_config: MakeConfig, count: int) -> None:
    before = set(threading.enumerate())
    with Relay(make_config(shards="4", backends=["a=127.0.0.1:9"])) as relay:
        relay.call(lambda control: control.set_workers(count))
        rows = relay.call(lambda control: control.crew.rows())
        assert len(rows) == count
        assert sorted(shard for row in rows for shard in row["shards"]) == [0, 1, 2, 3]
        assert all(row["alive"] for row in rows)
        names = {thread.name for thread in threading.enumerate()}
        assert {f"worker-{number}" for number in range(count)} <= names
    left = set(threading.enumerate()) - before
    assert not {thread.name for thread in left if thread.name.startswith("worker-")}


def test_workers_are_pinned_and_the_control_thread_is_not(make_config: MakeConfig) -> None:
    before, others = os.sched_getaffinity(0), set(threading.enumerate())
    with Relay(make_config(pin="true", workers="2", backends=["a=127.0.0.1:9"])) as relay:
        cpus = [row["cpu"] for row in relay.call(lambda control: control.crew.rows())]
        assert cpus == [sorted(before)[number % len(before)] for number in range(2)]
        ours = set(threading.enumerate()) - others
        threads = [t.native_id for t in ours if t.name.startswith("worker-")]
        until(
            lambda: sorted(next(iter(os.sched_getaffinity(i or 0))) for i in threads) == sorted(cpus),
            "pinned",
        )
        assert all(len(os.sched_getaffinity(thread or 0)) == 1 for thread in threads)
        assert relay.call(lambda control: os.sched_getaffinity(0)) == before


@pytest.mark.parametrize("count", [0, 3, -1])
def test_an_impossible_number_changes_nothing(make_config: MakeConfig, count: int) -> None:
    with Relay(make_config(backends=["a=127.0.0.1:9"])) as relay:
        with pytest.raises(RouteError, match="cannot serve 2 shards"):
            relay.call(lambda control: control.set_workers(count))
        assert relay.call(lambda control: (control.workers, control.crew.is_whole())) == (1, True)


def test_a_stopped_crew_is_not_whole(make_config: MakeConfig) -> None:
    with Relay(make_config(backends=["a=127.0.0.1:9"])) as relay:
        relay.call(lambda control: control.crew.stop())
        assert not relay.call(lambda control: control.crew.is_whole())
        relay.call(lambda control: control.set_workers(2))
        assert relay.call(lambda control: control.crew.is_whole())


def test_spinning_workers_leave_a_cpu_to_everybody_else(make_config: MakeConfig) -> None:
    cpus = len(os.sched_getaffinity(0))
    with Relay(make_config(shards=str(cpus + 1), spin="true", backends=["a=127.0.0.1:9"])) as relay:
        with pytest.raises(RouteError, match="spinning workers leave none of"):
            relay.call(lambda control: control.set_workers(cpus))
        assert relay.call(lambda control: control.crew.is_whole())
