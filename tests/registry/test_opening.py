"""Which registry an address names."""

from pathlib import Path

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.registry.file import FileRegistry
from pyfastpath.registry.memory import MemoryRegistry
from pyfastpath.registry.opening import open_registry
from pyfastpath.registry.remote import RemoteRegistry


async def test_every_form_has_its_driver(tmp_path: Path) -> None:
    for address, driver in [
        ("memory", MemoryRegistry),
        (f"file:{tmp_path}/registry", FileRegistry),
        ("unix:/run/gateway.sock", RemoteRegistry),
        ("http://10.0.0.1:8443", RemoteRegistry),
        ("https://gateway.example", RemoteRegistry),
    ]:
        registry = open_registry(address)
        assert type(registry) is driver
        await registry.close()
    assert (tmp_path / "registry").is_dir()


@pytest.mark.parametrize("address", ["", "file:", "unix:", "redis:x", "http:h", "http://a/b", "memory:x"])
def test_another_address_is_refused_with_the_forms(address: str) -> None:
    with pytest.raises(ConfigError, match="Write memory, file:DIRECTORY, unix:SOCKET or http://host:port"):
        open_registry(address)
