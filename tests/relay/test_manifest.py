"""What a keeper tells an engine, also one of another version."""

from collections.abc import Iterator

import pytest

from pyfastpath.relay.manifest import Manifest, config_of, decode_manifest, plain_config
from pyfastpath.relay.opening import Opening, open_relay
from tests.relay.conftest import MakeConfig


@pytest.fixture
def opening(make_config: MakeConfig) -> Iterator[Opening]:
    made = open_relay(make_config(backends=["a=127.0.0.1:1"]))
    yield made
    made.close()


def test_a_manifest_reaches_the_engine_with_its_secrets(make_config: MakeConfig, opening: Opening) -> None:
    config = make_config(
        token_keys=["3:" + "ab" * 16],
        trunk_keys=["1:" + "cd" * 16],
        trunk_key_id="1",
        backends=["a=127.0.0.1:1"],
    )
    told = Manifest(opening=opening, config=plain_config(config), file="relay.toml", flags={"spin": "false"})
    heard = decode_manifest(told.encode())
    assert (heard.opening, heard.file, heard.flags) == (opening, "relay.toml", {"spin": "false"})
    assert heard.config is not None
    assert config_of(heard.config) == config
    assert "ab" * 16 not in repr(told)


def test_a_later_engine_is_told_no_configuration(opening: Opening) -> None:
    assert decode_manifest(Manifest(opening=opening).encode()).config is None


def test_keys_of_another_version_are_left_out(make_config: MakeConfig) -> None:
    config = make_config(coalesce_us="7")
    plain = plain_config(config)
    del plain["spin"]
    assert config_of(plain | {"of_tomorrow": [1, 2]}) == config
