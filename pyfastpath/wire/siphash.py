"""SipHash-2-4 (Aumasson, Bernstein 2012) with 64 and 128 bits, and SipHash-1-3. Keys are 16 bytes."""

from typing import Final

KEY_BYTES: Final = 16
_MASK: Final = (1 << 64) - 1


def siphash(key: bytes, data: bytes) -> int:
    """The 64-bit hash, an unsigned number."""
    state = _absorb(key, data, tweak=0, rounds=2)
    state[2] ^= 0xFF
    return _squeeze(state, rounds=4)


def siphash13(key: bytes, data: bytes) -> int:
    """The 64-bit hash with fewer rounds, for places in tables."""
    state = _absorb(key, data, tweak=0, rounds=1)
    state[2] ^= 0xFF
    return _squeeze(state, rounds=3)


def siphash128(key: bytes, data: bytes) -> bytes:
    """The 128-bit hash: 16 bytes, as the reference implementation writes them."""
    state = _absorb(key, data, tweak=0xEE, rounds=2)
    state[2] ^= 0xEE
    first = _squeeze(state, rounds=4)
    state[1] ^= 0xDD
    return first.to_bytes(8, "little") + _squeeze(state, rounds=4).to_bytes(8, "little")


def _absorb(key: bytes, data: bytes, tweak: int, rounds: int) -> list[int]:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a SipHash key has {KEY_BYTES} bytes, not {len(key)}")
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D ^ tweak,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        state[3] ^= word
        _rounds(state, rounds)
        state[0] ^= word
    return state


def _squeeze(state: list[int], rounds: int) -> int:
    _rounds(state, rounds)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: list[int], count: int) -> None:
    a, b, c, d = state
    for _ in range(count):
        a, c = (a + b) & _MASK, (c + d) & _MASK
        b, d = _rotate(b, 13) ^ a, _rotate(d, 16) ^ c
        a = _rotate(a, 32)
        c, a = (c + b) & _MASK, (a + d) & _MASK
        b, d = _rotate(b, 17) ^ c, _rotate(d, 21) ^ a
        c = _rotate(c, 32)
    state[:] = a, b, c, d


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK
