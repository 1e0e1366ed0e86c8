"""Agents by name: the built-in ones, a class of somebody's, an external server, and clear refusals."""

import sys
from pathlib import Path

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.catalogue import BUILT_IN, AgentError, Catalogue, make_agent
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.parrot import Parrot
from pyfastpath.transceiver.agents.tone import Tone
from pyfastpath.transceiver.agents.websocket import WebSocketAgent
from pyfastpath.transceiver.requests import SessionError


@pytest.mark.parametrize(("name", "kind"), [("echo", Echo), ("tone", Tone), ("parrot", Parrot)])
def test_built_in_agents(name: str, kind: type[Agent]) -> None:
    make = make_agent(name)
    assert type(make()) is kind
    assert make() is not make()
    assert BUILT_IN[name].name == name


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module with a good agent, a bad one and something else."""
    (tmp_path / "my_agents.py").write_text(
        "from pyfastpath.transceiver.agent import Agent\n"
        "class Mine(Agent):\n    name = 'mine'\n"
        "class Greedy(Agent):\n    def __init__(self, wish):\n        pass\n"
        "def function():\n    pass\n"
    )
    (tmp_path / "broken_agents.py").write_text("import this_module_does_not_exist\n")
    (tmp_path / "raising_agents.py").write_text("raise RuntimeError('no luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_agents"
    for name in ("my_agents", "broken_agents", "raising_agents"):
        sys.modules.pop(name, None)


async def test_a_class_of_yours(module: str) -> None:
    catalogue = Catalogue(f"{module}:Mine")
    agent = catalogue.make({})
    assert isinstance(agent, Agent)
    assert agent.name == "mine"
    await catalogue.close()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("parot", "'parot' is not known. Use echo, tone, parrot, module:Class, or a wss:// address."),
        ("", "'' is not known"),
        (":Mine", "':Mine' is not known"),
        ("my_agents:", "'my_agents:' is not known"),
        ("my_agents:Yours", "my_agents has no Yours"),
        ("my_agents:function", "is no agent. Derive the class from"),
        ("no_such_module:Mine", "No module named 'no_such_module'. Is its folder on PYTHONPATH?"),
        ("broken_agents:Mine", "No module named 'this_module_does_not_exist'"),
        ("raising_agents:Mine", "importing raising_agents failed: RuntimeError('no luck')"),
        ("..up:Mine", "importing ..up failed"),
    ],
)
def test_what_is_no_agent_is_refused_at_once(module: str, spec: str, says: str) -> None:
    with pytest.raises(AgentError) as refused:
        Catalogue(spec)
    assert says in str(refused.value)
    assert refused.value.key == "agent"


def test_an_agent_that_cannot_be_made_ends_its_own_call_only(module: str) -> None:
    catalogue = Catalogue(f"{module}:Greedy")
    with pytest.raises(SessionError, match="missing 1 required positional argument") as refused:
        catalogue.make({})
    assert refused.value.code == "agent_failed"


async def test_an_external_server(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-123\n")
    catalogue = Catalogue("wss://model.example/v1/realtime", str(key))
    assert isinstance(catalogue.make({}), WebSocketAgent)
    await catalogue.close()
    with pytest.raises(ConfigError, match="cannot be read"):
        Catalogue("wss://model.example/", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="unencrypted"):
        Catalogue("ws://model.example/", str(key))
