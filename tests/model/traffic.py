"""A small world of clients, ufrags and backends, and random things that happen in it.

Small on purpose: few clients, few ufrags and few transaction ids meet each other all the time.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from pyfastpath.relay.flowstates import Client, Flow, Provisional
from pyfastpath.relay.rules import Backend
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun, token
from tests.model.pair import WALL_S, Pair

KEYS = {2: bytes(range(16)), 3: bytes(range(16, 32))}
PRIVATE = [ip_network("10.0.0.0/8")]


def _client(text: str, ingress: int = 0) -> Client:
    return Client(Endpoint.parse(text), ingress)


CLIENTS = [
    _client("198.51.100.1:1000"),
    _client("198.51.100.1:1000", ingress=1),
    _client("198.51.100.1:1001"),
    _client("[2001:db8::1]:1000"),
    _client("10.0.0.1:1000"),  # private: needs allow_clients
]
CROWD = [_client(f"198.51.100.7:{port}") for port in range(2000, 2012)]  # more than the cap of one ufrag

BACKENDS = {
    0: Backend(Endpoint.parse("192.0.2.1:5000"), "trunk", identity=(1, 1, 1), name_hash=11),
    1: Backend(Endpoint.parse("[2001:db8:1::1]:5000"), "trunk", identity=(1, 2, 1), name_hash=12),
    2: Backend(Endpoint.parse("192.0.2.3:5000"), "plain", identity=(1, 3, 1), name_hash=13),
    3: Backend(Endpoint.parse("192.0.2.4:5000"), "plain", name_hash=14),
    4: Backend(Endpoint.parse("[2001:db8:1::5]:5000"), "plain", name_hash=15),  # no port pool of IPv6
    256: Backend(Endpoint.parse("192.0.2.4:6001"), "plain", parent=3),
    257: Backend(Endpoint.parse("192.0.2.4:6002"), "plain", parent=3),
}
ROUTES = {  # ufrag: backend, session
    "trunkA0": (0, 7),
    "trunkA1": (1, 7),  # an ICE restart of trunkA0, on another backend
    "trunkB": (0, 0),
    "plainC": (2, 0),
    "plainD0": (256, 9),
    "plainD1": (257, 9),
    "plainE": (3, 9),
    "sixF": (4, 0),
    "unknownG": (5, 0),
}


def _mint(kid: int, identity: tuple[int, int, int], left_s: int, session: int) -> str:
    cluster, xcvr, incarnation = identity
    return token.mint(
        KEYS[kid],
        kid,
        expires_s=WALL_S + left_s,
        cluster=cluster,
        xcvr=xcvr,
        incarnation=incarnation,
        traffic_class=session % 8,
        session=session,
    )


TOKENS = [
    _mint(2, (1, 1, 1), 3600, 1),
    _mint(3, (1, 3, 1), 40, 2),  # expires while the test runs
    _mint(2, (1, 2, 1), 3600, 7),
    _mint(2, (1, 1, 1), 3600, 10),
    _mint(2, (1, 1, 2), 3600, 4),  # another incarnation
    _mint(2, (1, 1, 1), -200, 5),
    "0" * 22,  # forged
    "abcdefghijklmnopqrstu+",  # 22 characters, but no token
]
UFRAGS = [*ROUTES, "nowhere", *TOKENS]
TRANSACTIONS = [bytes([number]) * 12 for number in range(10)]


def world(shards: int, *, ports: int, flows_max: int, start_ms: int) -> Pair:
    """Every backend and route in place, token keys configured."""
    pair = Pair(shards, ports=ports, flows_max=flows_max, start_ms=start_ms)
    for index, backend in BACKENDS.items():
        pair.backend(index, backend)
    for ufrag, (backend, session) in ROUTES.items():
        pair.route(ufrag, backend, session=session)
    pair.publish(token_keys=KEYS, allow_clients=PRIVATE)
    return pair


# ---- what can happen -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Happening:
    """Something that happens; its repr is enough to do it again."""

    what: str
    numbers: tuple[int, ...]

    def __call__(self, pair: Pair) -> None:
        HAPPENINGS[self.what](pair, *self.numbers)


def client_request(pair: Pair, who: int, ufrag: int, transaction: int, shard: int, odd: int) -> None:
    """A Binding Request; `odd` ones come to another shard, with a wrong fingerprint, or larger."""
    client = CLIENTS[who]
    datagram = stun.build_binding_request(
        TRANSACTIONS[transaction],
        f"{UFRAGS[ufrag]}:client".encode(),
        attributes=[(stun.Attribute.SOFTWARE, bytes(200))] if odd == 1 else (),
        key=b"password",
        fingerprint=odd != 2,
    )
    if odd == 3:
        datagram = datagram[:-1] + bytes([datagram[-1] ^ 1])
    pair.from_client(_shard(pair, client, shard), client, datagram)


def connect(pair: Pair, who: int, ufrag: int, transaction: int) -> None:
    """A check and its answer."""
    client = CLIENTS[who]
    datagram = stun.build_binding_request(TRANSACTIONS[transaction], f"{UFRAGS[ufrag]}:client".encode())
    home = _shard(pair, client, 1)
    asked = pair.from_client(home, client, datagram)
    if asked.action == "drop" or asked.backend is None:
        return
    answer = stun.build_binding_success(TRANSACTIONS[transaction], client.endpoint)
    if asked.port is None:
        pair.from_trunk(home, asked.backend, client, answer)
    elif asked.port in pair.model.shards[home].pools[4]:
        pair.from_plain(home, asked.port, pair.endpoints[asked.backend], answer)


def keepalive(pair: Pair, ms: int, also_shadows: int) -> None:
    """Time passes, and every client with a flow checks it again."""
    pair.wait(ms)
    for index, shard in enumerate(pair.model.shards):
        shadows = list(shard.provisional.values()) if also_shadows else []
        for flow in (*shard.flows.values(), *shadows):
            datagram = stun.build_binding_request(bytes(12), flow.ufrag + b":client")
            if flow.ufrag:
                pair.from_client(index, flow.client, datagram)


def crowd_request(pair: Pair, who: int, ufrag: int, transaction: int) -> None:
    """Many addresses with one ufrag."""
    datagram = stun.build_binding_request(TRANSACTIONS[transaction], f"{UFRAGS[ufrag]}:client".encode())
    pair.from_client(0, CROWD[who], datagram)


def hoard(pair: Pair, who: int, transaction: int) -> None:
    """One address with every ufrag there is: more than the cap of one client."""
    for ufrag in range(len(UFRAGS)):
        client_request(pair, who, ufrag, transaction, 1, 0)


def client_other(pair: Pair, who: int, kind: int, shard: int) -> None:
    """Anything but a good Binding Request."""
    datagrams = [
        b"\x80" + bytes(50),
        b"\x80\xc8" + bytes(50),
        b"\x80",
        b"\x16\xfe\xfd" + bytes(40),
        stun.build_message(stun.BINDING_INDICATION, TRANSACTIONS[0]),
        stun.build_message(stun.BINDING_SUCCESS, TRANSACTIONS[1]),
        b"\x01\x01" + bytes(30),
        stun.build_message(stun.BINDING_REQUEST, TRANSACTIONS[2]),
        b"\x50" + bytes(20),
        b"",
    ]
    pair.from_client(_shard(pair, CLIENTS[who], shard), CLIENTS[who], datagrams[kind % len(datagrams)])


def talk(pair: Pair, place: int, rtcp: int) -> None:
    """Media of one of the flows there are."""
    flows = [(index, flow) for index, shard in enumerate(pair.model.shards) for flow in shard.flows.values()]
    if flows:
        shard, flow = flows[place % len(flows)]
        pair.from_client(shard, flow.client, bytes([0x80, 200 if rtcp else 111]) + bytes(60))


def backend_datagram(pair: Pair, place: int, kind: int, transaction: int, stray: int) -> None:
    """From a backend, about one of the flows there are; `stray` ones come from another or elsewhere."""
    holders = list(_holders(pair))
    if not holders:
        return
    shard, flow = holders[place % len(holders)]
    datagram = _answer(pair, flow, kind, transaction)
    if flow.port is None:
        backend = 1 - flow.backend if stray == 1 and flow.backend < 2 else flow.backend
        at = (shard + 1) % len(pair.model.shards) if stray == 2 else shard
        pair.from_trunk(at, backend, flow.client, datagram, confirmed=kind % 2 == 0)
        return
    source = pair.endpoints[flow.backend]
    if stray == 1:
        source = Endpoint(source.address, 9)
    owner = next((at for at, each in enumerate(pair.model.shards) if flow.port in each.pools[4]), shard)
    pair.from_plain(owner, flow.port, source, datagram)


def _holders(pair: Pair) -> Iterator[tuple[int, Flow | Provisional]]:
    for index, shard in enumerate(pair.model.shards):
        for flow in (*shard.flows.values(), *shard.provisional.values()):
            yield index, flow


def _answer(pair: Pair, flow: Flow | Provisional, kind: int, transaction: int) -> bytes:
    own = [
        asked
        for asked, (client, ufrag, _) in pair.model.asked_first.items()
        if (client, ufrag) == (flow.client, flow.ufrag)
    ]
    answered = own[transaction % len(own)] if own and kind < 6 else TRANSACTIONS[transaction]
    if kind < 7:
        return stun.build_binding_success(answered, flow.client.endpoint, key=b"password")
    return [
        stun.build_message(stun.BINDING_SUCCESS, answered, [(stun.Attribute.SOFTWARE, bytes(300))]),
        stun.build_message(stun.BINDING_ERROR, answered),
        stun.build_binding_request(answered, b"client:server"),
        stun.build_message(stun.BINDING_REQUEST, answered),
        b"\x80" + bytes(50),
        b"\x16\xfe\xfd" + bytes(40),
        b"\x01\x01" + bytes(30),
        b"\x50" + bytes(20),
        b"",
    ][(kind - 7) % 9]


def stranger_record(pair: Pair, who: int, backend: int, kind: int, shard: int) -> None:
    """A record for a client the relay may not know."""
    payload = [
        b"\x80" + bytes(30),
        stun.build_message(stun.BINDING_SUCCESS, TRANSACTIONS[0]),
        b"\x99",
        b"\x50",
    ]
    client = CLIENTS[who]
    pair.from_trunk(_shard(pair, client, shard), backend, client, payload[kind % 4], confirmed=kind >= 4)


def flow_closed(pair: Pair, who: int, backend: int, shard: int) -> None:
    pair.flow_closed(_shard(pair, CLIENTS[who], shard), backend, CLIENTS[who])


def _shard(pair: Pair, client: Client, stray: int) -> int:
    """A client nearly always arrives at the same shard."""
    home = (client.endpoint.port + client.ingress) % len(pair.model.shards)
    return (home + 1) % len(pair.model.shards) if stray == 0 else home


def wait(pair: Pair, ms: int) -> None:
    pair.wait(ms)


def wait_without_expiry(pair: Pair, ms: int) -> None:
    pair.wait(ms, expire=False)


def restart(pair: Pair) -> None:
    pair.restart()


def backend_state(pair: Pair, backend: int, state: int) -> None:
    index = list(BACKENDS)[backend]
    if index in pair.model.tables.backends and index < 256:
        pair.set_state(index, ["up", "draining", "down"][state])


def backend_removed(pair: Pair, backend: int) -> None:
    if backend in pair.model.tables.backends and backend != 3:  # 3 has targets
        pair.remove_backend(backend)


def route_installed(pair: Pair, ufrag: int) -> None:
    name = list(ROUTES)[ufrag]
    pair.route(name, ROUTES[name][0], session=ROUTES[name][1])


def route_removed(pair: Pair, ufrag: int) -> None:
    pair.remove_route(list(ROUTES)[ufrag])


def policy(pair: Pair, which: int) -> None:
    changes: list[dict[str, Any]] = [
        {"draining": True},
        {"draining": False},
        {"hash_policy": True},
        {"hash_policy": False},
        {"token_keys": {}},
        {"token_keys": KEYS},
        {"token_keys": {3: KEYS[3]}},
        {"allow_clients": []},
        {"allow_clients": PRIVATE},
        {"admission": (1, 2)},
        {"admission": (1000, 5)},
        {"admission": (0, 1)},
    ]
    pair.publish(**changes[which])


def pressure(pair: Pair, level: int) -> None:
    pair.press(level)


HAPPENINGS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        *(client_request, connect, keepalive, crowd_request, hoard, client_other, talk),
        *(backend_datagram, stranger_record, flow_closed),
        *(wait, wait_without_expiry, restart, backend_state, backend_removed),
        *(route_installed, route_removed, policy, pressure),
    )
}
TIMES_MS = [1, 300, 999, 2500, 4999, 5000, 6999, 7000, 10_000, 30_000, 59_999, 60_000, 61_000]

# what: how often it happens, and the bounds of its numbers
KINDS: dict[str, tuple[int, tuple[list[int], ...]]] = {
    "client_request": (
        30,
        (
            list(range(len(CLIENTS))),
            list(range(len(UFRAGS))),
            list(range(len(TRANSACTIONS))),
            [0, *[1] * 12],
            [0] * 9 + [1, 2, 3],
        ),
    ),
    "connect": (20, (list(range(len(CLIENTS))), list(range(len(UFRAGS))), list(range(len(TRANSACTIONS))))),
    "keepalive": (12, ([0, 1, 500, 2500, 2500, 4999, 6999, 7000], [0, 1, 1])),
    "crowd_request": (6, (list(range(len(CROWD))), [0, 3], list(range(len(TRANSACTIONS))))),
    "hoard": (2, (list(range(len(CLIENTS))), list(range(len(TRANSACTIONS))))),
    "client_other": (14, (list(range(len(CLIENTS))), [*[0] * 8, *[1] * 4, *range(2, 10)], [0, *[1] * 12])),
    "talk": (10, (list(range(12)), [0, 0, 1])),
    "backend_datagram": (
        30,
        (list(range(12)), [*range(16), 11], list(range(len(TRANSACTIONS))), [0] * 12 + [1, 2]),
    ),
    "stranger_record": (4, (list(range(len(CLIENTS))), [0, 1], list(range(8)), [0, *[1] * 12])),
    "flow_closed": (3, (list(range(len(CLIENTS))), [0, 1], [0, *[1] * 12])),
    "wait": (5, (TIMES_MS,)),
    "wait_without_expiry": (3, (TIMES_MS[:9],)),
    "restart": (1, ()),
    "backend_state": (2, (list(range(5)), [0, 0, 1, 2])),
    "backend_removed": (1, ([0, 1, 2],)),
    "route_installed": (2, (list(range(len(ROUTES))),)),
    "route_removed": (2, (list(range(len(ROUTES))),)),
    "policy": (3, (list(range(12)),)),
    "pressure": (2, ([0, 0, 0, 0, *range(7)],)),
}


def happenings() -> st.SearchStrategy[Happening]:
    """One thing, for Hypothesis."""
    weighted = [what for what, (weight, _) in KINDS.items() for _ in range(weight)]
    return st.sampled_from(weighted).flatmap(
        lambda what: st.builds(Happening, st.just(what), st.tuples(*map(st.sampled_from, KINDS[what][1])))
    )


def random_happenings(seed: int, count: int) -> Iterator[Happening]:
    """A long run, the same for a seed: for what takes more steps than Hypothesis tries."""
    draw = random.Random(seed)
    kinds = list(KINDS)
    weights = [weight for weight, _ in KINDS.values()]
    for _ in range(count):
        what = draw.choices(kinds, weights)[0]
        yield Happening(what, tuple(draw.choice(choices) for choices in KINDS[what][1]))
