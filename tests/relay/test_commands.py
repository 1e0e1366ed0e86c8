"""Commands are values: comparable, immutable, and the identity that no token can name is one."""

import dataclasses

import pytest

from pyfastpath.relay.commands import NO_IDENTITY, InstallRoutes, SetBackendState
from pyfastpath.wire import token

KEY = bytes(range(16))


def test_equal_commands_are_equal_and_none_can_change() -> None:
    assert SetBackendState(1, "up") == SetBackendState(1, "up") != SetBackendState(1, "down")
    command = InstallRoutes([b"ufrag1"], 0, 60, 0, False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        command.ttl_s = 1  # type: ignore[misc]


def test_no_token_can_name_the_identity_of_a_removed_backend() -> None:
    cluster, xcvr, incarnation = NO_IDENTITY
    with pytest.raises(ValueError, match="cluster"):
        token.mint(KEY, 0, expires_s=10**9, cluster=cluster, xcvr=xcvr, incarnation=incarnation, session=1)
