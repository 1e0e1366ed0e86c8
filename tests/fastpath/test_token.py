"""The data plane reads tokens as the twin does, by hardware AES and by libcrypto; forgeries never pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._testing import leaves
from pyfastpath.wire import token as twin
from tests.vectors.mutations import single_byte_changes
from tests.vectors.token import KEY, KEYS, VECTORS

NOW_S = 1_800_000_000
BULK = 3  # a class of the wire that does not exist counts as this
IMPLEMENTATIONS = pytest.mark.parametrize("force_library", [False, True])
Seen = tuple[str, dict[str, int] | None]


def seen_by_twin(keys: dict[int, bytes], ufrag: bytes, wall_s: int) -> Seen:
    try:
        code, said = "ok", twin.verify(keys, ufrag.decode("latin-1"), wall_s)
    except twin.ForgedTokenError:
        return "forged", None
    except twin.ExpiredTokenError as expired:
        code, said = "expired", expired.token
    names = ("expires", "cluster", "xcvr", "incarnation", "traffic_class", "session")
    fields = {name: getattr(said, name) for name in names}
    return code, fields | {"traffic_class": min(said.traffic_class, BULK)}


@IMPLEMENTATIONS
@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str, force_library: bool) -> None:
    ufrag, kid, (expires, cluster, xcvr, incarnation, traffic_class, session), _ = VECTORS[name]
    keys = leaves.TokenKeys(KEYS, force_library)
    assert keys.kind(kid) == "libcrypto" or not force_library
    assert keys.parse(ufrag.encode(), expires * 32) == (
        "ok",
        {
            "expires": expires,
            "cluster": cluster,
            "xcvr": xcvr,
            "incarnation": incarnation,
            "traffic_class": min(traffic_class, BULK),
            "session": session,
        },
    )
    assert keys.parse(ufrag.encode(), expires * 32 + 100)[0] == "expired"


@IMPLEMENTATIONS
@pytest.mark.parametrize("name", VECTORS)
def test_every_changed_character_is_a_forgery(name: str, force_library: bool) -> None:
    keys = leaves.TokenKeys(KEYS, force_library)
    for ufrag in single_byte_changes(VECTORS[name][0].encode()):
        assert keys.parse(ufrag, 0) == seen_by_twin(KEYS, ufrag, 0) == ("forged", None), ufrag


@pytest.mark.parametrize("length", [*range(22), 23, 44])
def test_another_length_has_not_the_shape_of_a_token(length: int) -> None:
    assert not leaves.token_has_shape(b"a" * length)


@given(st.binary(min_size=20, max_size=24))
def test_shape_of_random_bytes(ufrag: bytes) -> None:
    assert leaves.token_has_shape(ufrag) == twin.has_shape(ufrag.decode("latin-1"))


@given(st.text(alphabet=twin.ALPHABET + "+/", min_size=22, max_size=22))
def test_shape_of_random_ufrags(ufrag: str) -> None:
    assert leaves.token_has_shape(ufrag.encode()) == twin.has_shape(ufrag)


@given(
    key=st.binary(min_size=16, max_size=16),
    kid=st.integers(0, 6),
    known=st.sets(st.integers(0, 6)),
    wall_s=st.integers(0, 2**40),
    left_s=st.one_of(st.integers(-300, 300), st.integers(86_000, 87_000), st.integers(-(10**7), 10**7)),
    fields=st.fixed_dictionaries(
        {
            "cluster": st.integers(0, 0xFFF),
            "xcvr": st.integers(0, 0xFFFF),
            "incarnation": st.integers(0, 0xF),
            "traffic_class": st.integers(0, 7),
            "session": st.integers(0, 2**36 - 1),
        }
    ),
    force_library=st.booleans(),
)
def test_minted_tokens(
    key: bytes,
    kid: int,
    known: set[int],
    wall_s: int,
    left_s: int,
    fields: dict[str, int],
    force_library: bool,
) -> None:
    ufrag = twin.mint(key, kid, expires_s=max(0, wall_s + left_s), **fields).encode()
    keys = dict.fromkeys(known, key)
    seen = leaves.TokenKeys(keys, force_library).parse(ufrag, wall_s)
    assert seen == seen_by_twin(keys, ufrag, wall_s)
    assert (seen[0] == "forged") == (kid not in known)


@given(st.text(alphabet=twin.ALPHABET, min_size=22, max_size=22))
def test_random_letters_and_digits(ufrag: str) -> None:
    """Kid 7 and numbers at both ends of the range come from here too."""
    assert leaves.TokenKeys(KEYS).parse(ufrag.encode(), NOW_S) == seen_by_twin(KEYS, ufrag.encode(), NOW_S)


@pytest.mark.parametrize("ufrag", ["0" * 22, "z" * 22, "z" + "0" * 21, "0" + "z" * 21])
def test_the_ends_of_the_range(ufrag: str) -> None:
    assert leaves.TokenKeys(KEYS).parse(ufrag.encode(), NOW_S) == seen_by_twin(KEYS, ufrag.encode(), NOW_S)


@IMPLEMENTATIONS
def test_a_million_forgeries(force_library: bool) -> None:
    """Half at random, half authentic ones with one to three characters changed: 0 of 1,000,000 pass."""
    keys = leaves.TokenKeys({kid: bytes([kid]) + KEY[1:] for kid in range(7)}, force_library)
    ufrag = twin.mint(KEY, 0, expires_s=NOW_S, cluster=1, xcvr=2, incarnation=3, session=4).encode()
    assert keys.parse(ufrag, NOW_S)[0] == "ok"
    assert keys.not_forged_at_random(seed=1, count=500_000) == 0
    assert keys.not_forged_when_changed(ufrag, seed=2, count=500_000) == 0
