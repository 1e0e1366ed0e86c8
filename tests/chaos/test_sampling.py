"""What is read from a soak's samples: growth that is none, growth that is, books that do not add up."""

from pathlib import Path

import pytest

from tests.chaos.rig import ChaosRig
from tests.chaos.sampling import Sampler, growth_bytes, unaccounted
from tests.chaos.scale import SHORT
from tests.support.rig import until

MIB = 1 << 20


def test_a_steady_process_does_not_grow() -> None:
    assert growth_bytes([(float(at_s), 50.0 * MIB) for at_s in range(100)], 5.0) == pytest.approx(0.0, abs=1)


def test_what_was_not_measured_is_not_nothing() -> None:
    assert growth_bytes([], 5.0) is None
    assert growth_bytes([(6.0, 5.0), (9.0, 7.0)], 5.0) is None
    assert growth_bytes([(9.0, 5.0), (10.0, 7.0)], 5.0) == pytest.approx(2.0)


def test_a_sampler_that_ended_too_soon_says_why(tmp_path: Path) -> None:
    sampler = Sampler(ChaosRig(tmp_path, SHORT), sample_s=0.01)  # one that was never opened has no relay
    until(lambda: sampler.error is not None, "it ends")
    with pytest.raises(AttributeError, match="relay"):
        sampler.close()


def test_a_leak_is_seen_through_noise() -> None:
    leak = [(float(at_s), 50 * MIB + at_s * 0.1 * MIB + (at_s % 3) * MIB) for at_s in range(100)]
    assert growth_bytes(leak, 5.0) == pytest.approx(9.5 * MIB, rel=0.1)


def test_a_process_that_is_away_for_a_moment_is_no_trend() -> None:
    steady = [(float(at_s), 50.0 * MIB) for at_s in range(100)]
    steady[96] = (96.0, 10.0 * MIB)
    steady[97] = (97.0, 10.0 * MIB)
    assert growth_bytes(steady, 5.0) == pytest.approx(0.0, abs=1)


def test_books_that_do_not_add_up_are_named() -> None:
    def row(received: int) -> dict[str, object]:
        return {"received": received, "forwarded": 5, "punted": 1, "dropped": {"bad_token": 2, "no_route": 2}}

    right = {"shard": 0, "up": row(10), "down": row(10)}
    wrong = {"shard": 3, "up": row(10), "down": row(12)}
    assert unaccounted({"shards": [right]}) == []
    assert unaccounted({"shards": [right, wrong]}) == ["shard 3 down: 2"]
