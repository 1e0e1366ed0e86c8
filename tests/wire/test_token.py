"""Token T1 in plain Python: the vectors, keys that rotate, times that run out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.wire import token
from tests.vectors.token import KEY, KEYS, VECTORS

NOW_S = 1_800_000_000
FIELDS = {"cluster": 77, "xcvr": 4242, "incarnation": 3, "traffic_class": 1, "session": 0x123456789}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_both_ways(name: str) -> None:
    ufrag, kid, fields, _ = VECTORS[name]
    parsed = token.parse_token(KEYS, ufrag)
    said = (parsed.expires, parsed.cluster, parsed.xcvr)
    said += (parsed.incarnation, parsed.traffic_class, parsed.session)
    assert (parsed.kid, said) == (kid, fields)
    assert token.build_token(KEY, parsed) == ufrag
    assert token.key_id(ufrag) == kid


@given(
    st.integers(0, 6),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xF),
    st.integers(0, 7),
    st.integers(0, 2**36 - 1),
    st.binary(min_size=16, max_size=16),
)
def test_a_built_token_is_read_back(
    kid: int, expires: int, cluster: int, xcvr: int, inc: int, traffic_class: int, session: int, key: bytes
) -> None:
    built = token.Token(
        kid=kid,
        expires=expires,
        cluster=cluster,
        xcvr=xcvr,
        incarnation=inc,
        traffic_class=traffic_class,
        session=session,
    )
    ufrag = token.build_token(key, built)
    assert token.has_shape(ufrag)
    assert token.parse_token({kid: key}, ufrag) == built


def test_key_rotation() -> None:
    """Relays learn the new key first, minters switch later, the old kid goes when its tokens are over."""
    old, new = bytes(16), bytes(range(100, 116))
    before = token.mint(old, 1, expires_s=NOW_S + 60, **FIELDS)
    after = token.mint(new, 2, expires_s=NOW_S + 60, **FIELDS)
    for ufrag in (before, after):
        assert token.verify({1: old, 2: new}, ufrag, NOW_S).xcvr == 4242
    with pytest.raises(token.ForgedTokenError, match="key 1"):
        token.verify({2: new}, before, NOW_S)
    with pytest.raises(token.ForgedTokenError, match="key 2"):
        token.verify({2: old}, after, NOW_S)


@pytest.mark.parametrize(
    ("left_s", "good"), [(-97, False), (-64, True), (0, True), (24 * 3600, True), (24 * 3600 + 97, False)]
)
def test_expiry_with_64_seconds_of_tolerance(left_s: int, good: bool) -> None:
    ufrag = token.mint(KEY, 0, expires_s=NOW_S + left_s, **FIELDS)
    if good:
        assert token.verify(KEYS, ufrag, NOW_S).session == 0x123456789
    else:
        with pytest.raises(token.ExpiredTokenError, match="ago" if left_s < 0 else "24 h") as refusal:
            token.verify(KEYS, ufrag, NOW_S)
        assert refusal.value.token.cluster == 77


@given(st.integers(0, 2**40), st.integers(-10_000, 10_000))
def test_expiry_survives_the_wrap_of_its_16_bits(wall_s: int, left_s: int) -> None:
    ufrag = token.mint(KEY, 0, expires_s=max(0, wall_s + left_s), **FIELDS)
    left = token.left_s(token.parse_token(KEYS, ufrag), wall_s)
    assert 0 <= left - (max(0, wall_s + left_s) - wall_s) < token.EXPIRY_UNIT_S


@pytest.mark.parametrize(
    "ufrag",
    [
        "",
        "a" * 21,
        "a" * 23,
        "JZPEZz1QHaAakSfP7nGpc+",
        "JZPEZz1QHaAakSfP7nGpc\n",
        "zzzzzzzzzzzzzzzzzzzzzz",
        "é" * 22,
    ],
)
def test_what_is_no_token(ufrag: str) -> None:
    with pytest.raises(token.ForgedTokenError):
        token.parse_token(KEYS, ufrag)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kid", 7),
        ("cluster", 4096),
        ("xcvr", 65536),
        ("incarnation", 16),
        ("traffic_class", 8),
        ("session", 2**36),
    ],
)
def test_a_field_that_does_not_fit_is_named(name: str, value: int) -> None:
    fields = {"kid": 0, "expires": 0} | FIELDS | {name: value}
    with pytest.raises(ValueError, match=name):
        token.build_token(KEY, token.Token(**fields))
