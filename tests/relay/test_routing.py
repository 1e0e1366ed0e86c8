"""Routes at work: answers rewritten, targets resolved, all of an answer routed or none."""

import pytest

from pyfastpath.errors import RouteError, WireError
from pyfastpath.relay import layout
from pyfastpath.relay.relay import Relay
from pyfastpath.relay.routing import BulkResult, Routing
from tests.relay.conftest import MakeConfig

SECTION = "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=ice-ufrag:{ufrag}\r\n"
HOST = "a=candidate:1 1 udp 2130706431 {address} {port} typ host\r\n"


def answer(*sections: tuple[str, int]) -> str:
    """A server's answer with (ufrag, port of its host candidate; 0: none yet) for each media section."""
    text = "v=0\r\n"
    for mid, (ufrag, port) in enumerate(sections):
        text += SECTION.format(mid=mid, ufrag=ufrag)
        text += HOST.format(address="127.0.0.1", port=port) if port else ""
    return text


def give(relay: Relay, text: str, *, session: str = "", target: str = "", replace: bool = False) -> str:
    return relay.call(
        lambda control: control.routing.answer("b", text, session=session, target=target, replace=replace)
    )


@pytest.fixture
def many(relay: Relay) -> Relay:
    """A backend `b` with a port a session, as aiortc has them."""
    relay.backends.add("b", "127.0.0.1:9", allow=["127.0.0.0/8"])
    return relay


def test_an_answer_is_routed_to_its_own_candidate(many: Relay) -> None:
    rewritten = give(many, answer(("ufrag1", 5004)))
    host, port = many.listeners()[0].split(":")
    assert f"a=candidate:1 1 udp 2130706431 {host} {port} typ host\r\na=end-of-candidates\r\n" in rewritten
    assert "5004" not in rewritten
    route = many.routes.lookup("ufrag1")
    assert (route["backend"], route["target"]) == ("b", "127.0.0.1:5004")


def test_a_named_target_beats_the_candidates(many: Relay) -> None:
    give(many, answer(("ufrag1", 5004)), target="127.0.0.2:6000")
    assert many.routes.lookup("ufrag1")["target"] == "127.0.0.2:6000"


def test_two_transports_are_two_routes_and_do_not_replace_each_other(many: Relay) -> None:
    give(many, answer(("ufrag1", 5004), ("ufrag2", 5006)), session="call")
    assert many.routes.lookup("ufrag1")["target"] == "127.0.0.1:5004"
    assert many.routes.lookup("ufrag2")["target"] == "127.0.0.1:5006"
    hashes = many.call(lambda control: control.tables.routes["session"][control.tables.routes["backend"] > 1])
    assert len(set(hashes.tolist())) == 2


def test_all_of_an_answer_or_nothing(many: Relay) -> None:
    many.routes.install("ufrag2", "a")
    with pytest.raises(RouteError, match="already routed elsewhere") as refused:
        give(many, answer(("ufrag1", 5004), ("ufrag2", 5006)))
    assert refused.value.code == "conflict"
    with pytest.raises(RouteError, match="no route is installed"):
        many.routes.lookup("ufrag1")
    give(many, answer(("ufrag1", 5004), ("ufrag2", 5006)), replace=True)
    assert many.routes.lookup("ufrag2")["backend"] == "b"


def test_the_same_answer_again_prolongs_its_routes(many: Relay) -> None:
    text = answer(("ufrag1", 5004))
    assert give(many, text) == give(many, text)
    assert len(many.routes) == 1


def test_an_answer_before_gathering_is_refused(many: Relay) -> None:
    with pytest.raises(RouteError, match="has none at all"):
        give(many, answer(("ufrag1", 0)))
    with pytest.raises(WireError, match="not a session description"):
        give(many, "hello")
    assert len(many.routes) == 0


def test_targets_are_few_and_the_last_one_is_said(many: Relay) -> None:
    for port in range(1, 65):
        many.routes.install(f"ufrag{port}", "b", target=f"127.0.0.1:{port}")
    with pytest.raises(RouteError, match="all targets_max address:port targets are in use") as refused:
        many.routes.install("one+more", "b", target="127.0.0.1:65")
    assert refused.value.code == "table_full"
    many.routes.install("one+more", "b", target="127.0.0.1:64")


def test_a_full_route_table(make_config: MakeConfig) -> None:
    with Relay(make_config(routes_max="3", backends=["a=127.0.0.1:5000"])) as relay:
        for number in range(3):
            relay.routes.install(f"ufrag{number}", "a")
        with pytest.raises(RouteError, match="the route table is full") as refused:
            relay.routes.install("ufrag3", "a")
        assert refused.value.code == "table_full"
        relay.routes.remove("ufrag0")
        relay.routes.install("ufrag3", "a")


def test_bulk_lines_are_counted_and_refusals_told(many: Relay) -> None:
    many.routes.install("taken1", "a")
    result = BulkResult()
    lines = [
        b'{"ufrag": "ufrag1", "backend": "b"}',
        b'{"ufrag": "ufrag1", "backend": "b", "ttl_s": 60}',
        b'{"ufrag": "taken1", "backend": "b"}',
        b"nonsense",
        b'{"ufrag": "ufrag2", "backend": "b", "target": "127.0.0.1:1"}',
    ]
    many.call(lambda control: control.routing.put_lines(lines, 1, result))
    assert (result.installed, result.refreshed, result.refused) == (2, 1, 2)
    assert sorted((one["line"], one["code"]) for one in result.errors) == [
        (3, "conflict"),
        (4, "bad_request"),
    ]
    assert many.routes.lookup("ufrag1")["expires_in_s"] <= 60


def test_a_flood_of_bad_lines_is_counted_but_not_repeated(many: Relay) -> None:
    result = BulkResult()
    many.call(lambda control: control.routing.put_lines([b"{"] * 1000, 1, result))
    assert (result.refused, len(result.errors)) == (1000, 100)


def test_a_route_to_a_removed_backend_stays_with_it(many: Relay) -> None:
    """Its index must not lead to whoever is added next."""
    many.routes.install("ufrag1", "b")
    many.backends.remove("b")
    many.call(lambda control: control.sweep())
    many.backends.add("c", "127.0.0.1:7000")
    route = many.routes.lookup("ufrag1")
    assert (route["backend"], route["address"]) == ("b", "127.0.0.1:9")
    many.routes.remove("ufrag1")
    many.call(lambda control: control.sweep())
    assert many.call(lambda control: control.registry.retired) == []
    states = many.call(lambda control: control.tables.backends["state"][:3].tolist())
    assert states == [layout.BACKEND_UP, layout.BACKEND_GONE, layout.BACKEND_UP]


def test_routing_has_no_candidates_before_it_is_told(relay: Relay) -> None:
    fresh = relay.call(lambda control: Routing(control.shared, control.tables, control.registry))
    assert fresh.candidates == ()


def test_answers_that_name_another_address_than_their_backends_are_told_once(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    """Right behind a NAT; where the server has a port for each session its datagrams go astray."""
    relay.backends.add("b", "127.0.0.1:5004")

    def told() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.name == "pyfastpath.routing"]

    give(relay, answer(("ufrag1", 5004)))
    assert not told()
    give(relay, answer(("ufrag2", 5006)))
    give(relay, answer(("ufrag3", 5008)))
    (text,) = told()
    assert "backend b names 127.0.0.1:5006, its flows go to 127.0.0.1:5004" in text
