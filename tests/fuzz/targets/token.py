"""Tokens T1: leaf and twin authenticate the same ones, at any time; what is minted is read back."""

from collections.abc import Iterator

from fastpath._testing import leaves
from pyfastpath.errors import WireError
from pyfastpath.relay.rules import BULK
from pyfastpath.wire import token
from tests.vectors.token import KEY, VECTORS

BYTES_MAX = 32
SMOKE_RUNS = 1500
ON_DATA_PLANE = True
CRASHERS: dict[str, bytes] = {}

KEYS = {0: KEY, 2: bytes(range(100, 116)), 6: KEY}
BY_CPU = leaves.TokenKeys(KEYS)
BY_LIBRARY = leaves.TokenKeys(KEYS, force_library=True)


def seeds() -> Iterator[bytes]:
    """A time of four bytes, then 22 characters."""
    for text, *_ in VECTORS.values():
        yield (20000 * 32).to_bytes(4, "big") + text.encode()
    yield bytes(4) + b"\xff" * token.CHARACTERS


def one_input(data: bytes) -> None:
    wall_s = int.from_bytes(data[:4], "big")
    ufrag = data[4 : 4 + token.CHARACTERS]
    shaped = ufrag.decode("latin-1")
    assert leaves.token_has_shape(ufrag) == token.has_shape(shaped)
    if len(ufrag) < token.CHARACTERS:
        return
    if token.has_shape(shaped):
        compare(shaped, wall_s)
    compare(mint(data, wall_s), wall_s)


def mint(data: bytes, wall_s: int) -> str:
    """A token that authenticates, its fields taken from the input."""
    number = int.from_bytes(data[4:26], "big")
    made = token.Token(
        kid=(0, 2, 6, 5)[number % 4],
        expires=number >> 2 & 0xFFFF,
        cluster=number >> 18 & 0xFFF,
        xcvr=number >> 30 & 0xFFFF,
        incarnation=number >> 46 & 0xF,
        traffic_class=number >> 50 & 7,
        session=number >> 53 & (1 << token.SESSION_BITS) - 1,
    )
    text = token.build_token(KEYS.get(made.kid, KEY), made)
    if made.kid in KEYS:
        assert token.parse_token(KEYS, text) == made
    return text


def compare(text: str, wall_s: int) -> None:
    by_cpu, by_library = (keys.parse(text.encode(), wall_s) for keys in (BY_CPU, BY_LIBRARY))
    assert by_cpu == by_library
    code, fields = by_cpu
    try:
        wanted = token.verify(KEYS, text, wall_s)
    except token.ForgedTokenError:
        assert (code, fields) == ("forged", None)
        return
    except token.ExpiredTokenError as error:
        assert code == "expired"
        wanted = error.token
    except WireError as error:
        raise AssertionError("another refusal than those two") from error
    else:
        assert code == "ok"
    assert fields == {name: getattr(wanted, name) for name in fields} | {
        "traffic_class": min(wanted.traffic_class, BULK)
    }
