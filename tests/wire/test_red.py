"""RED: the example of RFC 2198, both ways, and nothing but WireError for random bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import WireError
from pyfastpath.wire.red import Block, build_red, parse_red

COPIES = st.builds(Block, st.integers(0, 127), st.integers(0, 2**14 - 1), st.binary(max_size=60))
NEWEST = st.builds(Block, st.integers(0, 127), st.just(0), st.binary(max_size=60))


def test_the_layout_of_the_rfc() -> None:
    """RFC 2198, section 5: an LPC copy (7) from 160 samples before, and DVI4 (5), here of 3 and 2 bytes."""
    payload = bytes.fromhex("87028003 05") + b"lpc" + b"dv"
    blocks = [Block(7, 160, b"lpc"), Block(5, 0, b"dv")]
    assert parse_red(payload) == blocks
    assert build_red(blocks) == payload


@given(st.lists(COPIES, max_size=5), NEWEST)
def test_what_is_built_is_read_back(copies: list[Block], newest: Block) -> None:
    assert parse_red(build_red([*copies, newest])) == [*copies, newest]


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\xef\x00\x04\x02\x6f" + tail))
def test_random_bytes_are_blocks_or_a_wire_error(payload: bytes) -> None:
    try:
        blocks = parse_red(payload)
    except WireError:
        return
    assert build_red(blocks) == payload


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ("", "no header for its newest"),
        ("ef0003", "inside a block header"),
        ("ef000402", "no header for its newest"),
        ("ef000402 6f 00", "past its end"),  # a copy of two bytes, one is there
    ],
)
def test_what_does_not_fit_is_refused(payload: str, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        parse_red(bytes.fromhex(payload))


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [Block(111, 960, b"a")],
        [Block(111, 960, bytes(1024)), Block(111, 0, b"a")],
        [Block(111, 1 << 14, b"a"), Block(111, 0, b"a")],
    ],
)
def test_what_does_not_fit_is_not_built(blocks: list[Block]) -> None:
    with pytest.raises(ValueError):
        build_red(blocks)
