"""The relay's control plane: keeper, engine, admin API. `pyfastpath.relay.relay.Relay` is its Python API."""
