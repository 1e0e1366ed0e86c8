"""A registry by its address in the configuration."""

from pathlib import Path

from pyfastpath.errors import ConfigError
from pyfastpath.registry.file import FileRegistry
from pyfastpath.registry.memory import MemoryRegistry
from pyfastpath.registry.record import Registry
from pyfastpath.registry.remote import RemoteRegistry

FORMS = "memory, file:DIRECTORY, unix:SOCKET or http://host:port"


def open_registry(address: str, token: bytes = b"") -> Registry:
    """The registry that `address` names; `token` goes with requests to a gateway's admin API.

    ConfigError for an address of no known form, RegistryError when a directory cannot be made.
    """
    kind, _, rest = address.partition(":")
    if address == "memory":
        return MemoryRegistry()
    if kind == "file" and rest:
        return FileRegistry(Path(rest))
    try:
        return RemoteRegistry(address, token)
    except ValueError:
        raise ConfigError(f"{address!r} is no registry", f"Write {FORMS}.", key="registry") from None
