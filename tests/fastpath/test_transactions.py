"""Who sent a transaction id first, against lists."""

from fastpath._testing.tables import TransactionTable, flow_tag, transaction_id
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.wire.siphash import siphash13
from tests.model.transactions import MEMORY_MS, WAYS
from tests.model.transactions import TransactionTable as Model
from tests.support.examples import examples
from tests.support.regions import SEED, make_region

ENTRIES = 16
NAMES = [2 * number + 1 for number in range(12)]  # odd, as all are; three a set
FLOWS = [0, 1, 0xFFFFFFFF]
MONTH_MS = 30 * 86_400_000  # more than half of what 32 bits of milliseconds hold


@examples(300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES + [NAMES[0] + 8 * number for number in range(8)]),
            st.sampled_from(FLOWS),
            # Never 0: which of several entries of one moment has to go is not promised.
            st.sampled_from([1, 1, 20_000, MEMORY_MS - 1, MEMORY_MS, MONTH_MS]),
        ),
        max_size=80,
    ),
    st.sampled_from([0, 2**32 - 90_000]),
)
def test_it_equals_lists(seen: list[tuple[int, int, int]], start_ms: int) -> None:
    table, model = TransactionTable(make_region(transactions_max=ENTRIES).shard), Model(ENTRIES // WAYS)
    now_ms = start_ms
    for name, flow, wait_ms in seen:
        now_ms += wait_ms
        cut = now_ms & 0xFFFFFFFF
        assert table.known(name, cut) == model.known(name, now_ms)
        if not model.known(name, now_ms):
            assert table.remember(name, flow, cut) == model.remember(name, flow, now_ms)
        for asked in NAMES:
            assert table.known(asked, cut) == model.known(asked, now_ms)
            for who in FLOWS:
                assert table.first_from(asked, who, cut) == model.first_from(asked, who, now_ms)


def test_another_workers_clock_may_be_a_moment_ahead() -> None:
    """Siblings read the table with their own clock: an entry from the near future is fresh."""
    table = TransactionTable(make_region().shard)
    table.remember(5, 1, 1_000)
    assert table.known(5, 990)


def test_an_id_is_its_keyed_hash_and_never_the_mark_of_a_free_entry() -> None:
    for number in range(200):
        name = number.to_bytes(12, "big")
        assert transaction_id(SEED, name) == siphash13(SEED, name) | 1


def test_a_tag_names_client_and_ufrag_together() -> None:
    clients, ufrags = [1 << 40, 3 << 50, 7 << 33], [1 << 41, 5, 9 << 44]
    assert len({flow_tag(who, ufrag) for who in clients for ufrag in ufrags}) == 9
