"""What the struct says about itself, and what it never says."""

import msgspec
import pytest

from pyfastpath.config import RelayConfig, TokenKey, fields, load
from pyfastpath.types import Secret

SECRET = Secret(bytes(range(16)))


def test_every_key_says_what_it_is():
    for spec in fields(RelayConfig):
        assert spec.help, spec.name
        assert spec.flag == "--" + spec.name.replace("_", "-")
        assert spec.variable.startswith("PYFASTPATH_")


def test_the_configuration_is_frozen():
    with pytest.raises(AttributeError):
        RelayConfig().shards = 3


def test_no_secret_in_repr_or_digest():
    config = RelayConfig(token_keys=(TokenKey(kid=0, key=SECRET),), admin_token=Secret(b"hunter2"))
    text = repr(config)
    assert "redacted" in text
    assert "hunter2" not in text
    assert SECRET.value.hex() not in text
    other = msgspec.structs.replace(config, admin_token=Secret(b"hunter3"))
    assert config.digest() == other.digest()


def test_the_digest_tells_configurations_apart():
    assert RelayConfig().digest() != RelayConfig(coalesce_us=201).digest()
    assert RelayConfig().digest() == RelayConfig().digest()


def test_restart_keys_are_those_a_reload_cannot_change():
    old = load(environ={}, cpus=4)
    new = load(environ={}, flags={"shards": "8", "coalesce_us": "5", "hash_policy": "true"}, cpus=4)
    assert old.restart_keys(new) == ["shards"]
    assert old.restart_keys(old) == []
