"""--print-config loads again; nothing printed shows a secret; the document names every key."""

import pytest

from pyfastpath.config import (
    GatewayConfig,
    RelayConfig,
    TransceiverConfig,
    fields,
    load,
    print_config,
    redacted,
)
from pyfastpath.config.document import document

KEY = "f0e1d2c3b4a5968778695a4b3c2d1e0f"
ENVIRON = {
    "PYFASTPATH_BACKENDS": "web1=192.0.2.9:5000,web2=192.0.2.10:5000",
    "PYFASTPATH_TOKEN_KEYS": f"1:{KEY},2:{KEY}",
    "PYFASTPATH_ADMIN_TOKEN": "correct horse battery",
    "PYFASTPATH_ALLOW_CLIENTS": "127.0.0.0/8",
}


def test_what_is_printed_loads_again_to_the_same(tmp_path):
    config = load(environ=ENVIRON, cpus=4)
    text = print_config(config)
    file = tmp_path / "printed.toml"
    file.write_text(
        text.replace('key = "redacted"', f'key = "{KEY}"').replace('"redacted"', '"correct horse battery"')
    )
    assert load(file, environ={}, cpus=4) == config


def test_secrets_are_redacted():
    config = load(environ=ENVIRON, cpus=4)
    for text in (print_config(config), str(redacted(config))):
        assert KEY not in text
        assert "battery" not in text
        assert "redacted" in text


@pytest.mark.parametrize("daemon", [RelayConfig, TransceiverConfig, GatewayConfig])
def test_the_document_names_every_key(daemon):
    text = document()
    section = text[text.index(f"## `pyfastpath {daemon.COMMAND}`") :]
    for spec in fields(daemon):
        assert f"| `{spec.name}` |" in section
        assert (f"| `{spec.flag}` |" in text) or spec.secret
    for table in ("listen", "backends", "token_keys", "trunk_keys", "transceivers"):
        assert f"## `[[{table}]]`" in text
