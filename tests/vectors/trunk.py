"""Trunk datagrams FT1, and some named by the defect they carry."""

KEY = bytes(range(16, 32))

UNTAGGED = bytes.fromhex(
    "4654 01 00 00000001 00000007"
    "0007 02 01 d431 cb007109 800068656c6c6f"
    "0003 0c 00 01bb 20010db8000000000000000000000005 16fefd"
)

HEADER = UNTAGGED[:12]
RECORD = UNTAGGED[12:29]


def ipv6_record(address: str, payload: bytes = b"\x80") -> bytes:
    """A record of a client at this address (32 hex digits)."""
    return len(payload).to_bytes(2, "big") + b"\x04\x00\x01\xbb" + bytes.fromhex(address) + payload


BAD_HEADERS = {
    "empty": b"",
    "11 bytes": HEADER[:11],
    "another magic": b"TF" + HEADER[2:],
    "version 0": HEADER[:2] + b"\0" + HEADER[3:],
    "version 2": HEADER[:2] + b"\x02" + HEADER[3:],
    "reserved flag": HEADER[:3] + b"\x08" + HEADER[4:],
    "tagged without room for a tag": HEADER[:3] + b"\x01" + HEADER[4:] + bytes(15),
}

# datagram -> what its records are: True a good one, False a bad one
RECORDS = {
    "none": (HEADER, []),
    "one byte of padding": (HEADER + b"\xff", []),
    "zero padding": (HEADER + RECORD + bytes(40), [True]),
    "padding begins anywhere": (HEADER + RECORD + bytes(2) + RECORD, [True]),
    "only a length": (HEADER + RECORD + b"\x00\x07", [True, False]),
    "cut inside its header": (HEADER + RECORD + RECORD[:5], [True, False]),
    "cut inside its address": (HEADER + RECORD + RECORD[:8], [True, False]),
    "one byte past the end": (HEADER + RECORD[:-1], [False]),
    "65,535 bytes long": (HEADER + b"\xff\xff" + RECORD[2:], [False]),
    "IPv6 flag on an IPv4 record": (HEADER + RECORD[:2] + b"\x06" + RECORD[3:], [False]),
    "reserved flag, the rest is lost": (HEADER + RECORD[:2] + b"\x22" + RECORD[3:] + RECORD, [False]),
    "v4-mapped address, the rest goes on": (
        HEADER + ipv6_record("00000000000000000000ffffcb007109") + RECORD,
        [False, True],
    ),
    "NAT64 address": (HEADER + ipv6_record("0064ff9b0000000000000000cb007109") + RECORD, [False, True]),
    "link-local address": (HEADER + ipv6_record("febf0000000000000000000000000001") + RECORD, [False, True]),
    "just outside v4-mapped": (HEADER + ipv6_record("00000000000000000000fffecb007109"), [True]),
    "just outside NAT64": (HEADER + ipv6_record("0064ff9b0000000000000001cb007109"), [True]),
    "just outside link-local": (HEADER + ipv6_record("fec00000000000000000000000000001"), [True]),
}
