"""STUN: the leaf reads and refuses what its twin does; what was read can be built again."""

from collections.abc import Iterator

from fastpath._testing import leaves
from pyfastpath.errors import WireError
from pyfastpath.wire import stun
from tests.vectors import stun as vectors

BYTES_MAX = 1500
SMOKE_RUNS = 2000
ON_DATA_PLANE = True
CRASHERS: dict[str, bytes] = {}


def seeds() -> Iterator[bytes]:
    yield from vectors.SAMPLES.values()
    yield from vectors.BAD.values()
    yield stun.build_binding_request(bytes(12), b"ufrag:client", key=b"password")


def one_input(data: bytes) -> None:
    """As it came, and with the cookie and length that it should have, so that changes get behind them."""
    compare(data)
    if len(data) >= stun.HEADER_BYTES:
        framed = bytes([data[0] & 0x3F]) + data[1:4] + stun.MAGIC_COOKIE + data[8 : len(data) // 4 * 4]
        compare(framed[:2] + (len(framed) - stun.HEADER_BYTES).to_bytes(2, "big") + framed[4:])


def compare(data: bytes) -> None:
    try:
        wanted = stun.parse_message(data)
    except WireError as error:
        assert "\n" not in str(error)
        assert leaves.stun_parse(data) is None
        return
    assert leaves.stun_parse(data) == (
        wanted.type,
        wanted.transaction,
        wanted.ufrag,
        wanted.has_fingerprint,
    )
    assert leaves.stun_fingerprint_holds(data) == stun.fingerprint_holds(data)
    if wanted.ufrag is not None:
        assert leaves.ufrag_is_valid(wanted.ufrag)
    look_at(wanted, data)
    built = stun.build_message(wanted.type, wanted.transaction, wanted.attributes, fingerprint=True)
    again = stun.parse_message(built)
    assert again.attributes == wanted.attributes
    assert stun.fingerprint_holds(built)
    assert leaves.stun_fingerprint_holds(built)


def look_at(message: stun.Message, data: bytes) -> None:
    """What a transceiver asks of a message."""
    stun.integrity_holds(data, b"password")
    assert stun.error_code(message) is None or 300 <= (stun.error_code(message) or 0) <= 699
    assert set(stun.unknown_attributes(message)) <= {kind for kind, _ in message.attributes}
    try:
        mapped = stun.mapped_address(message)
    except WireError:
        return
    assert mapped is None or 0 <= mapped.port <= 65535
