"""ctl against a real relay: every command, both outputs, every refusal with its reason."""

import json
import re
import threading

import pytest

from pyfastpath.cli import run
from pyfastpath.tools.ports import free_port
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.relay import running_relay
from tests.support.rig import until


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    folder = tmp_path_factory.mktemp("relay")
    token = folder / "token"
    token.write_text("a token of some length\n")
    import socket

    with running_relay(
        folder,
        backends=[{"id": "a", "address": "127.0.0.1:5000", "allow": ["127.0.0.0/8"]}],
        admin_tcp=f"127.0.0.1:{free_port(socket.SOCK_STREAM)}",
        admin_token_file=str(token),
    ) as running:
        yield running


@pytest.fixture
def ctl(relay, capsys):
    """Call `ctl …`: gives (exit code, standard output, standard error)."""

    def call(*arguments, where=None):
        code = run(["ctl", *(where or ["--socket", str(relay.admin)]), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def asked(ctl, *arguments):
    code, out, _ = ctl(*arguments, "-o", "json")
    assert code == 0
    return json.loads(out)


def test_status_in_both_outputs(ctl):
    code, out, _ = ctl("status")
    assert code == 0
    assert "ready           yes" in out
    assert "datagrams up    received=0" in out
    assert asked(ctl, "status")["backends"][0]["id"] == "a"


def test_a_route_comes_and_goes(ctl):
    code, out, _ = ctl(
        "routes", "add", "ufrag1", "--backend", "a", "--target", "127.0.0.1:6000", "--session", "s"
    )
    assert code == 0
    assert "127.0.0.1:6000" in out
    assert asked(ctl, "routes", "get", "ufrag1")["target"] == "127.0.0.1:6000"

    code, _, err = ctl("routes", "add", "ufrag1", "--backend", "a")
    assert code == 1
    assert "already routed" in err
    assert ctl("routes", "add", "ufrag1", "--backend", "a", "--replace")[0] == 0
    assert asked(ctl, "routes", "get", "ufrag1")["target"] is None

    assert ctl("routes", "remove", "ufrag1")[0] == 0
    code, _, err = ctl("routes", "get", "ufrag1")
    assert code == 1
    assert "ufrag1" in err


def test_a_ufrag_with_slash_and_plus_is_found(ctl):
    assert ctl("routes", "add", "a/b+c/d", "--backend", "a")[0] == 0
    assert asked(ctl, "routes", "get", "a/b+c/d")["ufrag"] == "a/b+c/d"
    assert ctl("routes", "remove", "a/b+c/d")[0] == 0


def test_many_routes_from_a_file_and_refused_lines_are_told(ctl, tmp_path):
    file = tmp_path / "routes.ndjson"
    file.write_text("".join(json.dumps({"ufrag": f"bulk{n:04}", "backend": "a"}) + "\n" for n in range(500)))
    assert asked(ctl, "routes", "load", str(file))["installed"] == 500
    file.write_text('{"ufrag": "good", "backend": "a"}\n{"ufrag": "bad", "backend": "nobody"}\n')
    code, out, _ = ctl("routes", "load", str(file), "-o", "json")
    assert code == 1
    assert (json.loads(out)["installed"], json.loads(out)["refused"]) == (1, 1)
    assert json.loads(out)["errors"][0]["line"] == 2


def test_backends_are_added_drained_and_removed(ctl):
    assert ctl("backends", "add", "b", "127.0.0.1:5001")[0] == 0
    assert [item["id"] for item in asked(ctl, "backends")["backends"]] == ["a", "b"]
    assert asked(ctl, "backends", "drain", "b")["state"] == "draining"
    assert asked(ctl, "backends", "undrain", "b")["state"] == "up"
    assert ctl("backends", "remove", "b")[0] == 0
    code, out, _ = ctl("backends")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["id", "a"]
    code, _, err = ctl("backends", "add", "c", "not-an-address")
    assert code == 1
    assert "not-an-address" in err


def test_drain_and_undrain_change_readiness(ctl):
    assert asked(ctl, "drain", "--wait-s", "5")["done"]
    assert ctl("status")[0] == 1
    assert not asked(ctl, "undrain")["draining"]
    assert ctl("status")[0] == 0


def test_workers_loglevel_reload(ctl):
    assert len(asked(ctl, "workers", "--set", "2")["workers"]) == 2
    assert len(asked(ctl, "workers", "--set", "1")["workers"]) == 1
    assert asked(ctl, "loglevel", "debug") == {"level": "debug"}
    assert asked(ctl, "loglevel") == {"level": "debug"}
    code, _, err = ctl("loglevel", "loud")
    assert code == 1
    assert "debug, info" in err
    assert asked(ctl, "reload")["needs_restart"] == []


def test_no_flows_is_an_empty_list(ctl):
    assert asked(ctl, "flows") == {"flows": [], "matching": 0}
    assert ctl("flows") == (0, "", "no flow\n")
    assert ctl("session", "nobody")[0] == 1
    code, _, err = ctl("flows", "--upstream", "nonsense")
    assert code == 1
    assert "nonsense" in err


def test_flows_of_a_session_and_behind_an_upstream_port(ctl, relay):
    with udp_end() as server:
        target = endpoint_text(server)
        added = ("routes", "add", "ufrag2", "--backend", "a", "--target", target, "--session", "call-17")
        assert ctl(*added)[0] == 0
        with PlainCall(relay.listen, server, "ufrag2") as call:
            call.confirm()
            client = endpoint_text(call.client)
            assert [flow["client"] for flow in asked(ctl, "session", "call-17")["flows"]] == [client]
            code, out, _ = ctl("flows", "--upstream", f"{call.upstream[0]}:{call.upstream[1]}")
            assert (code, client in out) == (0, True)
            assert ctl("session", "call-18")[0] == 1


def test_an_output_that_is_none(ctl):
    code, _, err = ctl("status", "-o", "yaml")
    assert code == 2
    assert "text or json" in err


def test_over_tcp_with_the_token(ctl, relay):
    config = (relay.admin.parent / "relay.toml").read_text()
    address = next(line for line in config.splitlines() if line.startswith("admin_tcp")).split('"')[1]
    token = relay.admin.parent / "token"
    assert ctl("status", where=["--tcp", address, "--token-file", str(token)])[0] == 0
    code, _, err = ctl("status", where=["--tcp", address])
    assert code == 1
    assert "token" in err
    code, _, err = ctl("status", where=["--tcp", "127.0.0.1:1"])
    assert code == 3
    assert "127.0.0.1:1" in err


def test_a_drain_shows_how_far_it_is(ctl, relay):
    with udp_end() as server, PlainCall(relay.listen, server, "drained") as call:
        assert ctl("backends", "add", "live", endpoint_text(server))[0] == 0
        relay.install("drained", backend="live")
        call.confirm()
        code, out, err = ctl("drain", "--wait-s", "1")
        assert code == 1
        assert re.match(r"live flows left: [1-9]; 1 s until the deadline\n", err)
        assert "over            yes" in out
        call.exchange()
        code, out, err = ctl("drain", "--notice-s", "600")
        assert (code, err) == (0, "")
        assert ctl("undrain")[0] == 0
        assert ctl("backends", "remove", "live")[0] == 0


def end_drain(relay):
    """As soon as one is announced."""
    until(lambda: json.loads(relay.request("GET", "/v1/drain")[1])["draining"], "the drain", seconds=20)
    relay.request("DELETE", "/v1/drain")


def test_a_drain_that_somebody_ends_is_not_waited_for(ctl, relay):
    with udp_end() as server, PlainCall(relay.listen, server, "undrained") as call:
        assert ctl("backends", "add", "live", endpoint_text(server))[0] == 0
        relay.install("undrained", backend="live")
        call.confirm()
        someone = threading.Thread(target=end_drain, args=(relay,))
        someone.start()
        code, out, _ = ctl("drain", "--wait-s", "60", "--notice-s", "1")
        someone.join()
        assert code == 1
        assert "draining        no" in out
        assert ctl("backends", "remove", "live")[0] == 0
