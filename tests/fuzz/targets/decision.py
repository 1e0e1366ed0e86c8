"""The whole decision: whatever arrives in whatever order, the data plane and its slow twin give equal
verdicts and hold equal tables, across restarts too."""

from collections.abc import Iterator

from pyfastpath.wire import stun
from tests.fuzz.tape import Tape
from tests.model.pair import Pair
from tests.model.traffic import BACKENDS, CLIENTS, CROWD, KINDS, TRANSACTIONS, UFRAGS, Happening, world

BYTES_MAX = 2048
SMOKE_RUNS = 150
ON_DATA_PLANE = True
CRASHERS: dict[str, bytes] = {}

START_MS = (1_000_000, 2**32 - 100_000)  # the second lets the data plane's clock wrap on the way
HAPPENINGS = list(KINDS)
RAW = 64  # below: something of the model's world happens; from here on: a datagram of any bytes


def seeds() -> Iterator[bytes]:
    """A world, then what happens in it."""
    place = {name: number for number, name in enumerate(HAPPENINGS)}
    for start in (b"\0\1\1\0", b"\1\0\0\1"):
        yield start + bytes([place["connect"], 0, 0, 0, place["keepalive"], 3, 0, place["restart"]])
        yield start + bytes([place["client_request"], 0, 3, 1, 1, 0, place["backend_datagram"], 0, 0, 0, 0])
        yield start + bytes([place["crowd_request"], 1, 0, 1] * 9 + [place["wait"], 5])
        yield start + bytes([RAW, 0, 0, 0, 4]) + b"\x80abc" + bytes([RAW + 1, 0, 0, 0, 3]) + b"\x16\xfe\xfd"
        request = stun.build_binding_request(TRANSACTIONS[0], f"{UFRAGS[0]}:client".encode())
        raw = bytes([RAW, 0, 0, 0, len(request)]) + request
        answer = stun.build_binding_success(TRANSACTIONS[0], CLIENTS[0].endpoint)
        yield start + raw + bytes([RAW + 1, 0, 0, 0, len(answer)]) + answer + raw


def one_input(data: bytes) -> None:
    tape = Tape(data)
    pair = world(
        tape.choose((1, 2, 4)),
        ports=tape.choose((2, 8)),
        flows_max=tape.choose((3, 1024)),
        start_ms=tape.choose(START_MS),
    )
    while tape.left:
        kind = tape.number()
        if kind & 0x80 or kind & RAW:
            raw_datagram(pair, tape, kind)
            continue
        what = HAPPENINGS[kind % len(HAPPENINGS)]
        Happening(what, tuple(tape.choose(choices) for choices in KINDS[what][1]))(pair)
    pair.expire()
    pair.restart()


def raw_datagram(pair: Pair, tape: Tape, kind: int) -> None:
    """From a client (kind even) or in a record of a backend (odd)."""
    shard = tape.below(len(pair.model.shards))
    client = tape.choose(CLIENTS + CROWD)
    payload = tape.piece()
    if kind & 1:
        backend = list(BACKENDS)[kind >> 1 & 1]  # the two on trunks
        if backend in pair.model.tables.backends:
            pair.from_trunk(shard, backend, client, payload, confirmed=bool(kind & 4))
    else:
        pair.from_client(shard, client, payload)
