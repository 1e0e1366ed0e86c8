"""A relay that runs: where it listens, routes by the thousand, and what it dropped."""

import socket
import time

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools import live_relay
from pyfastpath.tools.live_relay import (
    RefusedError,
    add_backend,
    drops,
    install_routes,
    ipv4_listener,
    say_drops,
)
from pyfastpath.tools.own_relay import own_relay

SINK = {"id": "sink", "address": "127.0.0.1:9"}


@pytest.mark.parametrize(
    ("listeners", "target"),
    [
        (["127.0.0.1:3478"], "127.0.0.1:3478"),
        (["[::1]:3478", "0.0.0.0:4000"], "127.0.0.1:4000"),
        (["10.1.2.3:3478", "127.0.0.1:1"], "10.1.2.3:3478"),
    ],
)
def test_the_target_is_a_listener_of_the_relay(listeners, target):
    assert str(ipv4_listener({"listeners": listeners})) == target


def test_a_relay_without_ipv4_needs_a_target():
    with pytest.raises(ConfigError, match=r"listens on no IPv4 address\. Name one .*--target"):
        ipv4_listener({"listeners": ["[::1]:3478"]})


def test_routes_by_several_requests_and_drops_by_reason(monkeypatch):
    monkeypatch.setattr(live_relay, "ROUTES_A_REQUEST", 100)
    with own_relay(backends=[SINK]) as relay:
        install_routes(relay.admin, ({"ufrag": f"ufrag{n:05d}", "backend": "sink"} for n in range(250)))
        assert relay.admin.get("status")["routes"]["installed"] == 250
        before = drops(relay.admin)["not_webrtc"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\x40 nothing of ours", relay.listen)
        deadline_s = time.monotonic() + 10
        while drops(relay.admin)["not_webrtc"] == before:
            assert time.monotonic() < deadline_s, "the relay dropped something and does not say so"
            time.sleep(0.05)


def test_a_refused_route_makes_the_run_invalid():
    with own_relay(backends=[SINK]) as relay:
        rows = [{"ufrag": "ufrag001", "backend": "sink"}, {"ufrag": "ufrag002", "backend": "nobody"}]
        with pytest.raises(RefusedError, match=r"refused 1 of 2 routes: .*nobody") as told:
            install_routes(relay.admin, rows)
        assert told.value.exit_code == 4


def test_a_relay_that_has_no_room_for_a_mode_names_the_other():
    with own_relay(backends=[], settings={"plain_ports": 0}) as relay:
        with pytest.raises(ConfigError, match=r"--upstream: .*no upstream ports.* Add --upstream trunk"):
            add_backend(relay.admin, "ours", "127.0.0.1:9", "plain")
        with pytest.raises(ConfigError, match=r"--upstream: this relay has no trunk .*--upstream plain"):
            add_backend(relay.admin, "ours", "127.0.0.1:9", "trunk")
        with pytest.raises(RefusedError, match="is not ip:port"):
            add_backend(relay.admin, "ours", "127.0.0.1", "plain")


def test_a_missing_trunk_key_is_named():
    assert say_drops({"no_route": 1200}) == "The relay dropped: 1,200 no_route."
    assert say_drops({"bad_tag": 2}).endswith(
        "pass it, --trunk-key ID:HEX (trunk_keys of its configuration)."
    )
