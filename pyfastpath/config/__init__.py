"""One frozen configuration: defaults <- file <- environment <- flags.

`load` makes a RelayConfig or raises a ConfigError that names the key and the line.
"""

from pyfastpath.config.document import print_config, redacted
from pyfastpath.config.load import default_admin_socket, load
from pyfastpath.config.model import Backend, Field, Listen, RelayConfig, TokenKey, TrunkKey, fields

__all__ = [
    "Backend",
    "Field",
    "Listen",
    "RelayConfig",
    "TokenKey",
    "TrunkKey",
    "default_admin_socket",
    "fields",
    "load",
    "print_config",
    "redacted",
]
