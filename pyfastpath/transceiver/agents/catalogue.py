"""From the name of an agent to something that makes one for each call: `--agent` of the command line.

echo | tone | parrot            built in
package.module:Class            a class of yours, found on Python's path
wss://… or ws://…               an external server that speaks the Realtime events
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.parrot import Parrot
from pyfastpath.transceiver.agents.tone import Tone
from pyfastpath.transceiver.agents.websocket import WebSocketAgents, read_key
from pyfastpath.transceiver.requests import SessionError

log = logging.getLogger("pyfastpath.agents")

BUILT_IN: Final[dict[str, type[Agent]]] = {agent.name: agent for agent in (Echo, Tone, Parrot)}
_HINT: Final = f"Use {', '.join(BUILT_IN)}, module:Class, or a wss:// address."


class AgentError(ConfigError):
    """An agent that cannot be found, or that is none."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint, key="agent")


def make_agent(spec: str) -> Callable[[], Agent]:
    """What makes an agent of this process for each call. Raises AgentError at once, not at the first call."""
    built_in = BUILT_IN.get(spec)
    if built_in is not None:
        return built_in
    module, colon, name = spec.partition(":")
    if not colon or not module or not name:
        raise AgentError(f"agent {spec!r} is not known", _HINT)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise AgentError(f"agent {spec!r}: {error}", "Is its folder on PYTHONPATH?") from None
    except Exception as error:  # whatever a module of somebody else's does
        raise AgentError(
            f"agent {spec!r}: importing {module} failed: {error!r}", "Try it in Python."
        ) from error
    if found is None:
        raise AgentError(f"agent {spec!r}: {module} has no {name}", "Write it as module:Class.")
    if not isinstance(found, type) or not issubclass(found, Agent):
        raise AgentError(
            f"agent {spec!r} is no agent", "Derive the class from pyfastpath.transceiver.agent.Agent."
        )
    return found


class Catalogue:
    """The one agent that a process serves with. key_file: holds the key for an external server.

    Raises AgentError, or ConfigError for an address or a key that is none.
    """

    def __init__(self, spec: str, key_file: str = "") -> None:
        self._server: WebSocketAgents | None = None
        if spec.startswith(("ws://", "wss://")):
            self._server = WebSocketAgents(spec, read_key(Path(key_file)) if key_file else None)
            self._make: Callable[[], Agent] = self._server.make
        else:
            self._make = make_agent(spec)

    def make(self, session: Mapping[str, Any]) -> Agent:
        """An agent for one call, whatever the session object asks for. SessionError when it cannot be."""
        try:
            return self._make()
        except Exception as error:  # a fault of an agent's concerns its call alone
            log.exception("the agent could not be made")
            raise SessionError(
                f"the agent could not be made: {error!r}",
                "The transceiver's log has more.",
                code="agent_failed",
            ) from error

    async def close(self) -> None:
        """Release what an external server needs."""
        if self._server is not None:
            await self._server.close()
