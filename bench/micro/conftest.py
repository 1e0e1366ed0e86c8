"""What the micro benchmarks share: the parameters, and how a loop of N becomes nanoseconds an operation."""

import pytest

SEED = bytes(range(16))


@pytest.fixture
def per_operation(benchmark):
    """Runs `loop(count)` over and over; the result must equal `count`. The report's figure for one operation
    is the round's time divided by the count, which stands in extra_info."""

    def run(loop, count, *arguments):
        benchmark.extra_info["operations"] = count
        done = benchmark.pedantic(loop, args=(*arguments, count), rounds=20, iterations=1, warmup_rounds=2)
        assert done == count

    return run
