"""Values of flags: what is read, which of several keys is taken, and one sentence for what cannot be."""

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.flag_values import (
    one_of,
    read_endpoint,
    read_ipv4,
    read_token_key,
    read_transceiver,
    read_trunk_key,
)
from pyfastpath.types import Endpoint

ONE, TWO = "00" * 16, "ff" * 16


def test_addresses():
    assert read_endpoint("--server", "[::1]:3478") == Endpoint.parse("[::1]:3478")
    assert read_ipv4("--target", "192.0.2.1:0") == Endpoint.parse("192.0.2.1:0")


def test_tokens_are_minted_with_the_highest_key_as_gateways_do_it():
    assert read_token_key(f"2:{TWO}") == (2, bytes.fromhex(TWO))
    assert read_token_key(f"1:{ONE}, 3:{TWO},0:{ONE}") == (3, bytes.fromhex(TWO))


def test_of_trunk_keys_it_is_the_lowest_as_relays_choose_it():
    assert read_trunk_key(f"3:{ONE},0:{TWO}") == (0, bytes.fromhex(TWO))
    assert read_trunk_key("") is None
    assert read_trunk_key(None) is None


def test_transceivers():
    assert read_transceiver("42") == (0, 42, 0)
    assert read_transceiver("7/42/3") == (7, 42, 3)
    assert read_transceiver("65534", 2) == (0, 65_534, 0)


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda: read_endpoint("--sink", "x"), r"--sink: 'x' is not ip:port.*Write it as 192\.0\.2\.1:3478"),
        (lambda: read_ipv4("--source", "[::1]:1"), r"--source: \[::1\]:1 is IPv6"),
        (lambda: read_token_key(""), "--token-key: minting tokens takes a key"),
        (lambda: read_token_key(f"7:{ONE}"), "--token-key: this is no key. Write ID:HEX, an id 0 to 6"),
        (lambda: read_token_key(f"1:{ONE},2:ab"), "--token-key: this is no key"),
        (lambda: read_trunk_key(f"4:{ONE}"), "--trunk-key: this is no key. Write ID:HEX, an id 0 to 3"),
        (lambda: read_transceiver("x"), "--transceiver: 'x' names no transceiver"),
        (lambda: read_transceiver("65535", 2), "--transceiver: 65535 does not fit into a token"),
        (lambda: read_transceiver("4096/1"), "--transceiver: 4096/1 does not fit"),
        (lambda: read_transceiver("1/1/16"), "--transceiver: 1/1/16 does not fit"),
        (lambda: one_of("--mode", "x", ("up", "down")), "--mode: 'x' is unknown. Choose up, down"),
    ],
)
def test_mistakes_are_named(read, says):
    with pytest.raises(ConfigError, match=says):
        read()
