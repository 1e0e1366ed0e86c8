"""Call ids seal where a call is; ufrags lead there."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.signalling.callid import CallIds, CallName, Minter, pack_name, unpack_name
from pyfastpath.signalling.errors import CallError
from pyfastpath.wire import token

KEY = bytes(range(32))
NAMES = st.builds(
    CallName,
    cluster=st.integers(0, 4095),
    xcvr=st.integers(0, 65535),
    incarnation=st.integers(0, 15),
    sid=st.integers(0, 2**36 - 1),
)


@given(NAMES)
def test_a_call_id_names_its_call(name: CallName) -> None:
    ids = CallIds(KEY)
    assert unpack_name(pack_name(name)) == name
    assert ids.parse(ids.build(name)) == name
    assert len(ids.build(name)) == 38


def test_a_call_id_is_one_segment_of_an_address() -> None:
    """Clients take it from Location by its last slash."""
    text = CallIds(KEY).build(CallName(1, 2, 3, 4))
    assert text.startswith("rtc_")
    assert text.removeprefix("rtc_").replace("-", "a").replace("_", "a").isalnum()


def test_ids_of_others_and_forgeries_name_no_call() -> None:
    name = CallName(1, 2, 3, 4)
    ids, text = CallIds(KEY), CallIds(KEY).build(name)
    forged = [CallIds(KEY[::-1]).build(name), text[:-1], text + "A", text.removeprefix("rtc_"), "rtc_", ""]
    forged += ["rtc_" + "".join(random.Random(seed).choices("abcXYZ019-_", k=34)) for seed in range(200)]
    for wrong in [*forged, "../../v1/drain", "rtc_\udcff"]:
        with pytest.raises(CallError) as refused:
            ids.parse(wrong)
        assert refused.value.code == "unknown_call"


def test_a_sid_is_nine_hex_digits() -> None:
    assert CallName(0, 0, 0, 0xAB).sid_text == "0000000ab"
    assert CallName(0, 0, 0, 2**36 - 1).sid_text == "fffffffff"


@given(NAMES, st.integers(1_700_000_000, 1_900_000_000))
def test_a_ufrag_is_a_token_for_the_transceiver(name: CallName, wall_s: int) -> None:
    keys = {0: bytes(16), 3: KEY[:16]}
    ufrag = Minter(keys, 3, call_max_s=3600).mint(name, name.sid, wall_s)
    found = token.verify(keys, ufrag, wall_s)
    assert (found.kid, found.cluster, found.xcvr) == (3, name.cluster, name.xcvr)
    assert (found.incarnation, found.session) == (name.incarnation, name.sid)
    assert 3600 <= token.left_s(found, wall_s) < 3600 + token.EXPIRY_UNIT_S


def test_no_token_is_dated_further_ahead_than_relays_take() -> None:
    wall_s = 1_800_000_001
    ufrag = Minter({0: bytes(16)}, 0, call_max_s=604_800).mint(CallName(0, 1, 0, 5), 5, wall_s)
    assert token.is_in_time(token.parse_token({0: bytes(16)}, ufrag), wall_s)
