"""Token T1: a ufrag that routes. 22 letters and digits that hide one encrypted and authenticated block.

    V = kid * 2^128 + C, written in base 62 (0-9 A-Z a-z), most significant digit first
    C = AES-128 under key `kid` of the block P; P, big endian, bit 0 first:
        0..15   expires   units of 32 s since the Unix epoch, mod 2^16
        16..27  cluster   28..43 xcvr   44..47 incarnation   48..50 traffic class   51 zero
        52..87  session   random, drawn anew at each mint
        88..127 zero      anything else after decryption is a forgery

A forgery passes with 2^-40 and must then name a live transceiver. Keys are told apart by kid: relays learn
a new key first, minters switch later, the old one stays until its tokens have expired.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB

from pyfastpath.errors import WireError

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHARACTERS: Final = 22
KIDS: Final = range(7)
SESSION_BITS: Final = 36
EXPIRY_UNIT_S: Final = 32
EXPIRY_AHEAD_MAX_S: Final = 24 * 3600
EXPIRY_TOLERANCE_S: Final = 64  # for clocks that differ
LIFETIME_DEFAULT_S: Final = 4 * 3600  # the longest call

_SHAPE: Final = re.compile(rf"[0-9A-Za-z]{{{CHARACTERS}}}")
_WIDTHS: Final = {"cluster": 12, "xcvr": 16, "incarnation": 4, "traffic_class": 3, "session": SESSION_BITS}


class ForgedTokenError(WireError):
    """22 letters and digits that no known key made."""


class ExpiredTokenError(WireError):
    """An authentic token whose time is over, or further ahead than anybody mints. `token` is what it says."""

    def __init__(self, message: str, hint: str = "", *, token: "Token") -> None:
        super().__init__(message, hint)
        self.token = token


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token says. `expires` counts 32 s units mod 2^16; traffic_class: 0 voice, 1 voice+data,
    2 video, 3 bulk."""

    kid: int
    expires: int
    cluster: int
    xcvr: int
    incarnation: int
    traffic_class: int
    session: int


def has_shape(ufrag: str) -> bool:
    """22 letters and digits: while keys are configured, such a ufrag is a token or refused."""
    return _SHAPE.fullmatch(ufrag) is not None


def mint(
    key: bytes,
    kid: int,
    *,
    expires_s: int,
    cluster: int,
    xcvr: int,
    incarnation: int,
    session: int,
    traffic_class: int = 0,
) -> str:
    """The ufrag that leads to a transceiver until `expires_s` (Unix time; the next unit of 32 s).

    `session` is SESSION_BITS fresh random bits: the same ones within 32 s would give the same ufrag.
    """
    expires = -(-expires_s // EXPIRY_UNIT_S) & 0xFFFF
    return build_token(
        key,
        Token(
            kid=kid,
            expires=expires,
            cluster=cluster,
            xcvr=xcvr,
            incarnation=incarnation,
            traffic_class=traffic_class,
            session=session,
        ),
    )


def build_token(key: bytes, token: Token) -> str:
    """The 22 characters of a token under its key. ValueError names a field that does not fit."""
    if token.kid not in KIDS:
        raise ValueError(f"a token's kid is 0..6, not {token.kid}")
    block = token.expires & 0xFFFF
    for name, bits in _WIDTHS.items():
        value: int = getattr(token, name)
        if not 0 <= value < 1 << bits:
            raise ValueError(f"a token's {name} is 0..{(1 << bits) - 1}, not {value}")
        block = block << bits | value
        if name == "traffic_class":
            block <<= 1  # bit 51
    encryptor = Cipher(AES128(key), ECB()).encryptor()  # one block: no mode is needed
    number = token.kid << 128 | int.from_bytes(encryptor.update((block << 40).to_bytes(16, "big")), "big")
    digits = ""
    for _ in range(CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def key_id(ufrag: str) -> int:
    """The kid a token claims, 0..7, without looking inside. WireError when it has not the shape of one."""
    return _decode(ufrag) >> 128


def _decode(ufrag: str) -> int:
    if not has_shape(ufrag):
        raise ForgedTokenError("A token is 22 letters and digits.")
    number = 0
    for character in ufrag:
        number = number * len(ALPHABET) + ALPHABET.index(character)
    return number


def parse_token(keys: Mapping[int, bytes], ufrag: str) -> Token:
    """Decrypt and authenticate, whatever the time. ForgedTokenError: no key of `keys` (by kid) made it."""
    number = _decode(ufrag)
    kid = number >> 128
    if kid not in KIDS or kid not in keys:
        raise ForgedTokenError(f"This token names key {kid}, which is not configured.")
    decryptor = Cipher(AES128(keys[kid]), ECB()).decryptor()
    block = int.from_bytes(decryptor.update((number % (1 << 128)).to_bytes(16, "big")), "big")
    if block % (1 << 40) or block >> 76 & 1:
        raise ForgedTokenError(f"This token was not made with key {kid}.")
    return Token(
        kid=kid,
        expires=block >> 112,
        cluster=block >> 100 & 0xFFF,
        xcvr=block >> 84 & 0xFFFF,
        incarnation=block >> 80 & 0xF,
        traffic_class=block >> 77 & 7,
        session=block >> 40 & (1 << SESSION_BITS) - 1,
    )


def left_s(token: Token, wall_s: int) -> int:
    """Seconds until it expires, negative after: its 16 bits name the moment nearest to now."""
    units = (token.expires - (wall_s // EXPIRY_UNIT_S) + 0x8000) % 0x10000 - 0x8000
    return units * EXPIRY_UNIT_S - wall_s % EXPIRY_UNIT_S


def is_in_time(token: Token, wall_s: int) -> bool:
    """Not past, and not more than 24 h ahead; 64 s of tolerance on both sides."""
    return -EXPIRY_TOLERANCE_S <= left_s(token, wall_s) <= EXPIRY_AHEAD_MAX_S + EXPIRY_TOLERANCE_S


def verify(keys: Mapping[int, bytes], ufrag: str, wall_s: int) -> Token:
    """The twin of token_parse: an authentic token in its time, else ForgedTokenError, ExpiredTokenError."""
    token = parse_token(keys, ufrag)
    if not is_in_time(token, wall_s):
        raise ExpiredTokenError(
            f"This token expired {-left_s(token, wall_s)} s ago."
            if left_s(token, wall_s) < 0
            else "This token is dated more than 24 h ahead.",
            "Mint a new one, and compare the clocks of minter and relay.",
            token=token,
        )
    return token
