"""Which agent answers a call: the configured one, or a built-in one that the caller names as its model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.catalogue import BUILT_IN, make_agent
from pyfastpath.transceiver.agents.websocket import WebSocketAgents, read_key


class Casting:
    """Makes one agent a call."""

    def __init__(self, name: str, key_file: str = "") -> None:
        """name: echo, tone, parrot, module:Class or a ws(s):// address, whose key is in a file.

        ConfigError when there is no such agent: before the first call, not in it.
        """
        self._server: WebSocketAgents | None = None
        if name.startswith(("ws://", "wss://")):
            self._server = WebSocketAgents(name, read_key(Path(key_file)) if key_file else None)
            self._default: Callable[[], Agent] = self._server.make
            return
        if key_file:
            raise ConfigError(f"agent {name} takes no key", "Remove agent_key_file.", key="agent_key_file")
        if ":" in name and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # `pyfastpath` is a script: its own folder stands there instead
        self._default = make_agent(name)

    def make(self, session: Mapping[str, Any]) -> Agent:
        """The agent for a session object. A model that is not built in is the configured agent's to read."""
        model = session.get("model")
        return BUILT_IN[model]() if isinstance(model, str) and model in BUILT_IN else self._default()

    async def close(self) -> None:
        """Release what the agents of an external server share."""
        if self._server is not None:
            await self._server.close()
