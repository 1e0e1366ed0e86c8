"""The reference relays forward everything, both ways: one that loses datagrams would be a cheap rival."""

from contextlib import ExitStack

import pytest

from bench.contestants import contestants, limits
from bench.cpu import used_ns
from bench.load import Load, Shape
from tests.support.require import require

FLOWS = 40


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("uvloop relay", []),
        ("Go relay", ["go"]),
        ("C mmsg, socket a flow", ["gcc"]),
        ("C mmsg, one socket", ["gcc"]),
        ("C mmsg, one socket, 500 µs", ["gcc"]),
    ],
)
def test_a_peer_loses_nothing_in_either_direction(name, needs, tmp_path):
    require(*needs)
    ready, _ = contestants()
    peer = next(each for each in [*ready, *(limits() if "gcc" in needs else [])] if each.name == name)
    load = Load(peer.upstream, FLOWS)
    with ExitStack() as stack:
        stack.callback(load.close)
        relay, pid = stack.enter_context(peer.start(tmp_path, load.backend, load.ufrags))
        load.open_flows(relay)
        for shape in (Shape("up", echo=False, rate_pps=2000), Shape("echo", echo=True, rate_pps=2000)):
            before_ns = used_ns(pid)
            sample = load.measure(shape, pid, warmup_s=0.1, measure_s=0.5)
            assert sample.forwarded > 0
            assert (sample.lost, sample.duplicates, sample.misrouted, sample.reordered) == (0, 0, 0, 0)
            assert used_ns(pid) > before_ns


def test_a_client_without_a_routed_ufrag_gets_nothing_through(tmp_path):
    ready, _ = contestants()
    peer = next(each for each in ready if each.name == "uvloop relay")
    load = Load(peer.upstream, FLOWS)
    with ExitStack() as stack:
        stack.callback(load.close)
        others = [f"{serial:06d}SomebodyElse0000" for serial in range(FLOWS)]
        relay, _ = stack.enter_context(peer.start(tmp_path, load.backend, others))
        with pytest.raises(RuntimeError, match="only 0 of 40 flows"):
            load.open_flows(relay)
