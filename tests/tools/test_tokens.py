"""Minting for a backend, and the verdict of a relay of the same configuration."""

import pytest

from pyfastpath.config import load
from pyfastpath.errors import ConfigError, FastpathError, WireError
from pyfastpath.tools import tokens

KEY = "000102030405060708090a0b0c0d0e0f"
NOW_S = 1_900_000_000  # a multiple of 32, the unit of expiry


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "relay.toml"
    file.write_text(
        f"cluster = 5\ntoken_keys = ['1:{KEY}', '4:{KEY[::-1]}']\n"
        "[[backends]]\nid = 'x1'\naddress = '127.0.0.1:5000'\ntransceiver = 9\nincarnation = 3\n"
        "[[backends]]\nid = 'plain'\naddress = '127.0.0.1:5001'\n"
    )
    return load(file, environ={})


def minted(config, **changes):
    wanted = {"traffic_class": "voice", "wall_s": NOW_S, "life_s": 3200, "session": 77} | changes
    kid = wanted.pop("kid", None)
    to = wanted.pop("to", None) or tokens.destination_of(config, "x1")
    return tokens.mint(tokens.keys_of(config), kid, to, **wanted)


def test_what_is_minted_is_what_is_read(config):
    said = tokens.inspect(config, minted(config), NOW_S)
    assert (said["kid"], said["backend"], said["cluster"], said["session"]) == (4, "x1", 5, "00000004d")
    assert said["expires_in_s"] == 3200


@pytest.mark.parametrize(
    ("changes", "at_s", "verdict"),
    [
        ({}, NOW_S, "token"),
        ({}, NOW_S + 3200 + 64, "token"),
        ({}, NOW_S + 3200 + 65, "expired"),
        ({}, NOW_S - 24 * 3600, "expired"),
        ({"to": tokens.Destination(5, 9, 4)}, NOW_S, "unknown_backend"),
        ({"to": tokens.Destination(6, 9, 3)}, NOW_S, "unknown_backend"),
        ({"kid": 1}, NOW_S, "token"),
    ],
)
def test_the_verdict_is_the_relays_route_decision(config, changes, at_s, verdict):
    assert tokens.inspect(config, minted(config, **changes), at_s)["verdict"] == verdict


def test_a_forgery_is_refused(config):
    ufrag = minted(config)
    with pytest.raises(WireError):
        tokens.inspect(config, ufrag[:-1] + ("a" if ufrag[-1] != "a" else "b"), NOW_S)


def test_no_token_for_a_backend_without_a_number(config):
    with pytest.raises(FastpathError, match="transceiver"):
        tokens.destination_of(config, "plain")
    with pytest.raises(FastpathError, match="Configured: x1, plain"):
        tokens.destination_of(config, "nobody")


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"kid": 2}, "kid 2"), ({"life_s": 0}, "lives"), ({"life_s": 90_000}, "lives"),
     ({"to": tokens.Destination(4096, 0, 0)}, "cluster")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_bound(config, changes, word):
    with pytest.raises(FastpathError, match=word):
        minted(config, **changes)


def test_without_keys_there_is_a_hint():
    with pytest.raises(ConfigError, match="PYFASTPATH_TOKEN_KEYS"):
        tokens.keys_of(load(environ={}))
