"""What a histogram says, beside a sorted list of the same values, and the file HDR tools read."""

import random

import pytest

from pyfastpath.tools.bench.latency import Latency, hgrm


def test_quantiles_are_those_of_the_sorted_values():
    draw = random.Random(4)
    values = sorted(draw.randrange(1, 50) * 1000 for _ in range(997))
    latency = Latency.of((value, values.count(value)) for value in sorted(set(values)))
    assert latency.count == 997
    for share in (0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1):
        rank = max(1, -int(-share * 997 // 1))
        assert latency.quantile_us(share) == values[rank - 1] / 1000, share
    assert latency.mean_us == pytest.approx(sum(values) / 997 / 1000)


def test_nothing_noted_is_no_latency():
    assert Latency().quantile_us(0.5) is None
    assert Latency().mean_us == 0
    assert hgrm(Latency()).count("\n") == 5


def test_histograms_add_and_subtract():
    first, second = Latency.of([(10, 2), (30, 1)]), Latency.of([(10, 1), (20, 4)])
    both = Latency.merged([first, second])
    assert both.buckets == ((10, 3), (20, 4), (30, 1))
    assert both.minus(first) == second
    assert first.minus(first) == Latency()


def test_the_percentile_file_ends_at_everything_and_never_goes_back():
    latency = Latency.of((value * 1000, 1 + 100_000 // value**2) for value in range(1, 400))
    head, *lines = hgrm(latency).splitlines()
    assert head.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    values = [float(row[0]) for row in rows]
    shares = [float(row[1]) for row in rows]
    assert values == sorted(values)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert rows[-1][2:] == [str(latency.count), "inf"]
    assert values[-1] == 399
    assert any(0.999 <= share < 1 for share in shares), "the tail is told finely"
    assert lines[-3].startswith("#[Mean    =")
    assert f"Total count    = {latency.count:12d}]" in lines[-2]
