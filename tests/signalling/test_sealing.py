"""A sealed text opens only under its secret, for its purpose, and as it was."""

import random
import string

from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.signalling.sealing import Sealer

SECRET = bytes(range(32))


@given(st.binary(max_size=200))
def test_what_was_sealed_opens(content: bytes) -> None:
    sealer = Sealer(SECRET, "x")
    text = sealer.seal(content)
    assert sealer.open(text) == content
    assert sealer.seal(content) == text
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")


def test_another_secret_or_purpose_opens_nothing() -> None:
    text = Sealer(SECRET, "call id").seal(b"content")
    assert Sealer(SECRET, "client secret").open(text) is None
    assert Sealer(SECRET[::-1], "call id").open(text) is None


def test_no_other_text_opens() -> None:
    """Every one-character change, every cut, and things that are no base 64."""
    sealer = Sealer(SECRET, "x")
    text = sealer.seal(b"123456789")
    alphabet = string.ascii_letters + string.digits + "-_"
    for place in range(len(text)):
        assert sealer.open(text[:place]) is None
        for other in random.Random(place).sample(alphabet, 20):
            changed = text[:place] + other + text[place + 1 :]
            assert changed == text or sealer.open(changed) is None
    for wrong in ("", "=", text + "=", text + "A", text + "\n", " " + text, "ü" + text, "\udcff", "a+/="):
        assert sealer.open(wrong) is None, wrong


def test_the_spare_bits_of_the_last_character_make_no_second_name() -> None:
    sealer = Sealer(SECRET, "x")
    text = sealer.seal(b"1")  # 17 bytes: 23 characters, the last with 2 spare bits
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    last = alphabet.index(text[-1])
    twins = [text[:-1] + alphabet[last & ~3 | spare] for spare in range(4)]
    assert [twin for twin in twins if sealer.open(twin) is not None] == [text]
