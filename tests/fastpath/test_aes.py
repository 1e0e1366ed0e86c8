"""AES-128 decryption: FIPS 197 and SP 800-38A, by the CPU's instructions and by libcrypto alike."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from fastpath._testing import leaves

BLOCKS = st.binary(min_size=16, max_size=16)
SP800_38A = "2b7e151628aed2a6abf7158809cf4f3c"
VECTORS = [  # key, ciphertext, plaintext
    (
        "000102030405060708090a0b0c0d0e0f",  # FIPS 197, appendix C.1
        "69c4e0d86a7b0430d8cdb78070b4c55a",
        "00112233445566778899aabbccddeeff",
    ),
    (SP800_38A, "3ad77bb40d7a3660a89ecaf32466ef97", "6bc1bee22e409f96e93d7e117393172a"),  # F.1.1
    (SP800_38A, "f5d3d58503b9699de785895a96fdbaaf", "ae2d8a571e03ac9c9eb76fac45af8e51"),
    (SP800_38A, "43b1cd7f598ece23881b00e3ed030688", "30c81c46a35ce411e5fbc1191a0a52ef"),
    (SP800_38A, "7b0c785e27e8ad3f8223207104725dd4", "f69f2445df4f9b17ad2b417be66c3710"),
]


@pytest.mark.parametrize("force_library", [False, True])
@pytest.mark.parametrize(("key", "ciphertext", "plaintext"), VECTORS)
def test_published_vectors(key: str, ciphertext: str, plaintext: str, force_library: bool) -> None:
    _, block = leaves.aes_decrypt(bytes.fromhex(key), bytes.fromhex(ciphertext), force_library)
    assert block.hex() == plaintext


def test_the_library_is_taken_when_forced() -> None:
    assert leaves.aes_decrypt(bytes(16), bytes(16), True)[0] == "libcrypto"
    assert leaves.aes_decrypt(bytes(16), bytes(16), False)[0] in {"aes-ni", "armv8", "libcrypto"}


@given(BLOCKS, BLOCKS)
def test_hardware_library_and_cryptography_agree(key: bytes, block: bytes) -> None:
    expected = Cipher(AES128(key), ECB()).decryptor().update(block)
    assert leaves.aes_decrypt(key, block, False)[1] == expected
    assert leaves.aes_decrypt(key, block, True)[1] == expected


def test_without_any_aes_nothing_authenticates() -> None:
    kind, block = leaves.aes_refuses(bytes(16))
    assert kind == "none"
    assert int.from_bytes(block, "big") % 2**40 != 0  # the place of a token's tag
