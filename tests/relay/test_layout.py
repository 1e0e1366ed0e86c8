"""The numpy twins lie exactly over the C structs, and the constants Python repeats are the header's."""

import numpy as np
import pytest

from fastpath._testing import layout as compiler
from pyfastpath.relay import layout

FIELDS = compiler.fields()


@pytest.mark.parametrize("name", sorted(layout.STRUCTS))
def test_size_is_the_compilers(name: str) -> None:
    assert layout.STRUCTS[name].itemsize == compiler.sizes()[name]


@pytest.mark.parametrize("name", sorted(layout.STRUCTS))
def test_every_field_lies_where_the_compiler_put_it(name: str) -> None:
    dtype = layout.STRUCTS[name]
    offsets = {field: (offset, size) for struct, field, offset, size in FIELDS if struct == name}
    assert dtype.fields is not None
    twin = {field: (entry[1], entry[0].itemsize) for field, entry in dtype.fields.items()}
    assert twin == offsets


def test_no_struct_of_the_twins_is_unknown_to_the_compiler() -> None:
    assert {struct for struct, *_ in FIELDS} == set(layout.STRUCTS) == set(compiler.sizes())


def test_constants_are_the_headers() -> None:
    constants = compiler.constants()
    twin = {
        "FP_LAYOUT_VERSION": layout.LAYOUT_VERSION,
        "FP_BACKENDS": layout.BACKENDS,
        "FP_INGRESS": layout.INGRESS,
        "FP_LISTENERS": layout.LISTENERS,
        "FP_REPLAY_BITS": layout.REPLAY_BITS,
        "FP_BATCH_BUCKETS": layout.BATCH_BUCKETS,
        "FP_RESIDENCE_BUCKETS": layout.RESIDENCE_BUCKETS,
        "FP_NONE": layout.NONE,
        "FP_NO_PORT": layout.NO_PORT,
        "FP_UP": layout.UP,
        "FP_DOWN": layout.DOWN,
        "FP_FLOW_confirmed": layout.FLOW_CONFIRMED,
        "FP_FLOW_taught": layout.FLOW_TAUGHT,
        "FP_PROVISIONAL_waiting": layout.PROVISIONAL_WAITING,
        "FP_PROVISIONAL_confirmed": layout.PROVISIONAL_CONFIRMED,
        "FP_PORT_flow": layout.PORT_FLOW,
        "FP_PORT_provisional": layout.PORT_PROVISIONAL,
        "FP_PORT_quarantine": layout.PORT_QUARANTINE,
        "FP_BACKEND_free": layout.BACKEND_FREE,
        "FP_BACKEND_up": layout.BACKEND_UP,
        "FP_BACKEND_draining": layout.BACKEND_DRAINING,
        "FP_BACKEND_down": layout.BACKEND_DOWN,
        "FP_BACKEND_gone": layout.BACKEND_GONE,
        "FP_TRUNK": layout.MODE_TRUNK,
        "FP_PLAIN": layout.MODE_PLAIN,
        "FP_CLASS_COUNT": len(layout.TRAFFIC_CLASSES),
        "FP_DROP_COUNT": len(compiler_list("DROP_REASONS")),
        "FP_DECISION_COUNT": len(compiler_list("DECISIONS")),
    }
    assert twin == constants


def compiler_list(name: str) -> tuple[tuple[str, str], ...]:
    from fastpath import counters

    names: tuple[tuple[str, str], ...] = getattr(counters, name)
    return names


def test_a_counters_block_round_trips_through_bytes() -> None:
    block = np.zeros(1, layout.COUNTERS)
    block["dropped"][0, layout.DOWN, 3] = 7
    again = np.frombuffer(block.tobytes(), layout.COUNTERS)
    assert again["dropped"][0].sum() == again["dropped"][0, layout.DOWN, 3] == 7
