"""The replay window against a set of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._testing import leaves
from pyfastpath.wire.trunk import REPLAY_BITS, ReplayWindow

WORD = 2**32


def test_the_window_is_as_wide_as_the_header_says() -> None:
    assert leaves.REPLAY_BITS == REPLAY_BITS


STEPS = st.tuples(
    st.sampled_from([0] * 8 + [1, -1, WORD // 2, WORD // 2 - 1]),
    st.one_of(
        st.integers(-40, 40),
        st.integers(-1030, -1018),
        st.integers(1018, 1030),
        st.sampled_from([-5000, 5000, WORD // 2 - 1, WORD // 2, WORD // 2 + 1]),
    ),
    st.booleans(),
)


@given(st.sampled_from([0, 7, WORD - 2]), st.sampled_from([0, 500, WORD - 3]), st.lists(STEPS, max_size=120))
def test_equals_the_twin(epoch: int, sequence: int, steps: list[tuple[int, int, bool]]) -> None:
    """Steps wander from what was accepted last; a forged datagram is checked and never accepted."""
    window, twin = leaves.ReplayWindow(), ReplayWindow()
    for epoch_step, step, authentic in steps:
        at = ((epoch + epoch_step) % WORD, (sequence + step) % WORD)
        verdict = window.check(*at)
        assert verdict == twin.check(*at)
        if verdict == "ok" and authentic:
            window.accept(*at)
            twin.accept(*at)
            epoch, sequence = at


@pytest.mark.parametrize("first", [0, WORD - 700, 12345])
def test_each_of_many_in_any_order_once(first: int) -> None:
    window = leaves.ReplayWindow()
    order = [(first + 7 * place % 1000) % WORD for place in range(1000)]
    for sequence in order:
        assert window.check(1, sequence) == "ok"
        window.accept(1, sequence)
    assert {window.check(1, sequence) for sequence in order} == {"replayed"}
