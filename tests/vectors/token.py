"""Tokens T1. Every kid has the same key, so that the vectors differ in what they say only."""

KEY = bytes(range(16))
KEYS = dict.fromkeys(range(7), KEY)

# ufrag, kid, (expires, cluster, xcvr, incarnation, traffic_class, session), the block before encryption
VECTORS = {
    "ordinary": (
        "JZPEZz1QHaAakSfP7nGpci",
        2,
        (20000, 77, 4242, 3, 1, 0x123456789),
        "4e2004d1092321234567890000000000",
    ),
    "all zero": ("62oA96w6EwfVOyZRXSf3ij", 0, (0, 0, 0, 0, 0, 0), "00000000000000000000000000000000"),
    "all ones": (
        "sIS8IjubwtdEFaoK7kPQiE",
        6,
        (0xFFFF, 0xFFF, 0xFFFF, 0xF, 7, 0xFFFFFFFFF),
        "ffffffffffffefffffffff0000000000",
    ),
}
