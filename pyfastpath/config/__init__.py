"""One frozen configuration a daemon: defaults <- file <- environment <- flags.

`load` makes a RelayConfig, TransceiverConfig or GatewayConfig, or raises a ConfigError that names the key
and the line.
"""

from pyfastpath.config.document import print_config, redacted
from pyfastpath.config.fields import Config, Field, fields
from pyfastpath.config.gateway import GatewayConfig, Transceiver
from pyfastpath.config.load import default_admin_socket, load
from pyfastpath.config.model import Backend, Listen, RelayConfig, TokenKey, TrunkKey
from pyfastpath.config.transceiver import TransceiverConfig

__all__ = [
    "Backend",
    "Config",
    "Field",
    "GatewayConfig",
    "Listen",
    "RelayConfig",
    "TokenKey",
    "Transceiver",
    "TransceiverConfig",
    "TrunkKey",
    "default_admin_socket",
    "fields",
    "load",
    "print_config",
    "redacted",
]
