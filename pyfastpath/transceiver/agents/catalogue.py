"""From the name of an agent of this process to something that makes one for each call.

    echo | tone | parrot            built in
    package.module:Class            a class of yours, found on Python's path

External servers (wss://…) are no agents of this process: `casting` has them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final

from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.parrot import Parrot
from pyfastpath.transceiver.agents.tone import Tone

BUILT_IN: Final[dict[str, type[Agent]]] = {agent.name: agent for agent in (Echo, Tone, Parrot)}
_HINT: Final = f"Use {', '.join(BUILT_IN)}, module:Class, or a wss:// address."


class AgentError(ConfigError):
    """An agent that cannot be found, or that is none."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint, key="agent")


def make_agent(spec: str) -> Callable[[], Agent]:
    """What makes an agent for each call. Raises AgentError at once, not at the first call."""
    built_in = BUILT_IN.get(spec)
    if built_in is not None:
        return built_in
    module, _, name = spec.partition(":")
    if not module or not name.isidentifier():
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
