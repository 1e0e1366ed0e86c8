"""STUN messages: RFC 5769's samples, and messages named by the defect they carry."""

REQUEST = bytes.fromhex(  # RFC 5769, section 2.1
    "00010058 2112a442 b7e7a701bc34d686fa87dfae"
    "80220010 5354554e207465737420636c69656e74"
    "00240004 6e0001ff"
    "80290008 932ff9b151263b36"
    "00060009 6576746a3a683676 59202020"
    "00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004 e57a3bcf"
)
RESPONSE_IPV4 = bytes.fromhex(  # section 2.2
    "0101003c 2112a442 b7e7a701bc34d686fa87dfae"
    "8022000b 7465737420766563746f7220"
    "00200008 0001a147e112a643"
    "00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004 c07d4c96"
)
RESPONSE_IPV6 = bytes.fromhex(  # section 2.3
    "01010048 2112a442 b7e7a701bc34d686fa87dfae"
    "8022000b 7465737420766563746f7220"
    "00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014 a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004 c8fb0b4c"
)
REQUEST_LONG_TERM = bytes.fromhex(  # section 2.4: its USERNAME is no ICE username
    "00010060 2112a442 78ad3433c6ad72c029da412e"
    "00060012 e3839ee38388e383aae38383e382afe382b9 0000"
    "0015001c 662f2f3439396b3935346436 4f4c33346f4c39465354767936347341"
    "0014000b 6578616d706c652e6f7267 00"
    "00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")

SAMPLES = {
    "request": REQUEST,
    "response_ipv4": RESPONSE_IPV4,
    "response_ipv6": RESPONSE_IPV6,
    "request_long_term": REQUEST_LONG_TERM,
}


def message(
    *attributes: bytes, kind: int = 0x0001, length: int | None = None, cookie: int = 0x2112A442
) -> bytes:
    """A message put together by hand, right or wrong."""
    body = b"".join(attributes)
    return (
        kind.to_bytes(2, "big")
        + (len(body) if length is None else length).to_bytes(2, "big")
        + cookie.to_bytes(4, "big")
        + TRANSACTION
        + body
    )


def attribute(kind: int, value: bytes, *, length: int | None = None) -> bytes:
    """An attribute with its padding."""
    claimed = len(value) if length is None else length
    return kind.to_bytes(2, "big") + claimed.to_bytes(2, "big") + value + bytes(-len(value) % 4)


USERNAME, INTEGRITY, FINGERPRINT = 0x0006, 0x0008, 0x8028
NAME = attribute(USERNAME, b"serv:clnt")
SEAL = attribute(INTEGRITY, bytes(20))

GOOD = {
    "only a username": message(NAME),
    "an empty attribute before it": message(attribute(0x0025, b""), NAME),
    "a ufrag of 256": message(attribute(USERNAME, b"x" * 256 + b":cl")),
    "a colon in the client's ufrag": message(attribute(USERNAME, b"serv:cl:nt")),
    "a second username behind the integrity": message(NAME, SEAL, NAME),
    "a second username behind SHA-256 integrity": message(NAME, attribute(0x001C, bytes(32)), NAME),
    "an overlong attribute behind the fingerprint": message(
        NAME, attribute(FINGERPRINT, bytes(4)), attribute(0x0024, b"", length=400)
    ),
    "a second username as attribute 33": message(NAME, *[attribute(0x0024, bytes(4))] * 31, NAME),
    "an indication without a username": message(kind=0x0011),
    "a response with a bad username": message(attribute(USERNAME, b"nocolon"), kind=0x0101),
    "DTLS inside (SPED)": message(NAME, attribute(0xC070, bytes(1200)), SEAL),
}
BAD = {
    "empty": b"",
    "19 bytes": REQUEST[:19],
    "top bits set": message(NAME, kind=0x4001),
    "another cookie": message(NAME, cookie=0x2112A443),
    "length too small": message(NAME, length=12),
    "length too large": message(NAME, length=20),
    "not a multiple of 4": message(NAME, b"\0\0", length=18),
    "no username": message(attribute(0x0024, bytes(4))),
    "no attribute": message(),
    "a second username": message(NAME, NAME),
    "no colon": message(attribute(USERNAME, b"servclnt")),
    "a ufrag of 3": message(attribute(USERNAME, b"srv:clnt")),
    "a ufrag of 257": message(attribute(USERNAME, b"x" * 257 + b":cl")),
    "a ufrag with a space": message(attribute(USERNAME, b"se rv:clnt")),
    "a ufrag with a NUL": message(attribute(USERNAME, b"serv\0:clnt")),
    "a username of 510": message(attribute(USERNAME, b"serv:" + b"x" * 505)),
    "an empty username": message(attribute(USERNAME, b"")),
    "the username behind the integrity": message(SEAL, NAME),
    "the username behind the fingerprint": message(attribute(FINGERPRINT, bytes(4)), NAME),
    "the username as attribute 33": message(*[attribute(0x0024, bytes(4))] * 32, NAME),
    "an attribute past the end": message(NAME, attribute(0x0024, b"", length=1)),
    "an attribute of 65,535": message(NAME, attribute(0x0024, b"", length=0xFFFF)),
    "an attribute past the end in a response": message(attribute(0x0024, b"", length=1), kind=0x0101),
}
