"""What a keeper tells an engine at its start: the configuration, and which descriptor is what.

The engine may be of another version (upgrade): keys that one of them does not know are left out.
"""

from typing import Any, Final

import msgspec

from pyfastpath.config import RelayConfig
from pyfastpath.relay.opening import Opening
from pyfastpath.types import Secret

MANIFEST_VARIABLE: Final = "PYFASTPATH_MANIFEST"


class Manifest(msgspec.Struct, frozen=True):
    """For one engine. file, flags: where the configuration came from.

    config: of the keeper's start, for its first engine; none for later ones, which go by what the last one
    left in the note (a reload may have changed it).
    """

    opening: Opening
    config: dict[str, Any] | None = None
    file: str = ""
    flags: dict[str, str | list[str]] = {}

    def __repr__(self) -> str:
        return (
            f"Manifest(file={self.file!r}, with {'a' if self.config else 'no'} configuration)"  # no secrets
        )

    def encode(self) -> bytes:
        """As JSON, secrets included: only for the engine, never for a log."""
        return msgspec.json.encode(self)


def decode_manifest(data: bytes) -> Manifest:
    """The inverse of Manifest.encode."""
    return msgspec.json.decode(data, type=Manifest)


def plain_config(config: RelayConfig) -> dict[str, Any]:
    """A configuration as JSON values, secrets included."""
    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=_secret_out)
    return plain


def config_of(plain: dict[str, Any]) -> RelayConfig:
    """The inverse. What this version does not know is left out, what the other did not know is default."""
    known = {key: value for key, value in plain.items() if key in RelayConfig.__struct_fields__}
    return msgspec.convert(known, RelayConfig, dec_hook=_secret_in)


def _secret_out(value: object) -> str:
    if isinstance(value, Secret):
        return value.value.hex()
    raise TypeError(f"a configuration holds no {type(value).__name__}")


def _secret_in(kind: type, value: str) -> Secret:
    if kind is Secret:
        return Secret(bytes.fromhex(value))
    raise TypeError(f"a configuration holds no {kind.__name__}")
