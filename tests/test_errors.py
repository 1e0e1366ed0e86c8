"""One family; every error is a sentence and a hint."""

import inspect

import pytest

from pyfastpath import errors


def test_every_error_is_of_one_family():
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(kind, errors.FastpathError)


def test_message_and_hint_are_two_sentences():
    for message in ("port 1 is in use", "port 1 is in use."):
        assert str(errors.SocketError(message, "Choose another.")) == "port 1 is in use. Choose another."
    assert str(errors.SocketError("port 1 is in use")) == "port 1 is in use"


def test_a_config_error_names_where_and_key():
    error = errors.ConfigError("is odd", "Make it even.", key="shards", where="relay.toml, line 3", line=3)
    assert str(error) == "relay.toml, line 3: shards: is odd. Make it even."
    assert (error.key, error.line) == ("shards", 3)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.FastpathError, 1),
        (errors.AdminError, 1),
        (errors.ConfigError, 2),
        (errors.UnreachableError, 3),
        (errors.SocketError, 4),
    ],
)
def test_exit_codes_are_part_of_the_interface(kind, code):
    assert kind.exit_code == code
