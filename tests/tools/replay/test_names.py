"""Names of a replay: each place has its own, none is stored, tokens are real."""

from pyfastpath.tools.replay.calls import CallFinder
from pyfastpath.tools.replay.names import Names, TokenMint
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun, token

KEY = bytes(range(16))
NOW_S = 1_800_000_000


def finder(*ufrags: bytes) -> CallFinder:
    found = CallFinder()
    server = Endpoint.parse("10.0.0.1:40000")
    for number, ufrag in enumerate(ufrags):
        request = stun.build_binding_request(bytes(12), ufrag + b":clnt")
        found.place(Endpoint.parse(f"192.0.2.2:{4000 + number}"), server, request)
    return found


def test_every_place_has_its_own_names() -> None:
    found = finder(b"abcd", b"efghijkl", b"m" * 22, b"n" * 256)
    names = Names(bytes(16))
    ufrags = [names.ufrag(call, copy, 0, 0) for call in found.calls for copy in range(500)]
    assert len(set(ufrags)) == 2000
    assert all(stun.is_ufrag(ufrag) for ufrag in ufrags)
    assert {len(ufrag) for ufrag in ufrags} == {8, 23, 64}  # never a token's 22
    assert len({names.session(call, copy) for call in found.calls for copy in range(500)}) == 2000
    assert len({names.identity(flow, copy, 0).mask for flow in found.flows for copy in range(500)}) == 2000


def test_the_same_nonce_gives_the_same_names_and_another_gives_others() -> None:
    (call,) = finder(b"abcd").calls
    assert Names(bytes(16)).ufrag(call, 3, 0, 0) == Names(bytes(16)).ufrag(call, 3, 0, 0)
    assert Names(bytes(16)).ufrag(call, 3, 0, 0) != Names(b"x" * 16).ufrag(call, 3, 0, 0)
    assert Names(bytes(16)).session(call, 3) != Names(b"x" * 16).session(call, 3)


def test_an_identity_replaces_all_ufrags_of_its_call() -> None:
    found = finder(b"abcd")
    found.calls[0].ufrags.append(b"next")
    names = Names(bytes(16))
    own = names.identity(found.flows[0], 5, 0).ufrags
    assert own == {
        b"abcd": names.ufrag(found.calls[0], 5, 0, 0),
        b"next": names.ufrag(found.calls[0], 5, 1, 0),
    }
    assert own[b"abcd"] != own[b"next"]


def test_flows_of_one_call_share_its_ufrag_but_no_transaction() -> None:
    found = finder(b"abcd", b"abcd")
    first, second = (Names(bytes(16)).identity(flow, 0, 0) for flow in found.flows)
    assert first.ufrags == second.ufrags
    assert first.mask != second.mask


def test_no_two_tokens_of_a_run_are_one() -> None:
    call, other = finder(b"abcd", b"efgh").calls
    places = [(one, copy, ordinal) for one in (call, other) for copy in range(60_000) for ordinal in range(5)]
    names = Names(b"any nonce of 16b")
    assert len({names.token_session(*place) for place in places}) == len(places)  # drawn, 600,000 would meet
    assert names.token_session(call, 1, 0) != Names(bytes(16)).token_session(call, 1, 0)


def test_minted_ufrags_are_tokens_of_their_backend() -> None:
    (call,) = finder(b"abcd").calls
    mints = tuple(TokenMint(KEY, 2, 5, xcvr, 1, NOW_S + 3600) for xcvr in (10, 11))
    names = Names(bytes(16), mints)
    ufrags = [names.ufrag(call, copy, 0, copy % 2).decode() for copy in range(200)]
    assert len(set(ufrags)) == 200
    for copy, ufrag in enumerate(ufrags):
        said = token.verify({2: KEY}, ufrag, NOW_S)
        assert (said.cluster, said.xcvr, said.incarnation) == (5, 10 + copy % 2, 1)
