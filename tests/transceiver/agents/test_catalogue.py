"""Agents by name: the built-in ones, a class of somebody's, and clear refusals."""

import sys
from pathlib import Path

import pytest

from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.catalogue import BUILT_IN, AgentError, make_agent
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.parrot import Parrot
from pyfastpath.transceiver.agents.tone import Tone


@pytest.mark.parametrize(("name", "kind"), [("echo", Echo), ("tone", Tone), ("parrot", Parrot)])
def test_built_in_agents(name: str, kind: type[Agent]) -> None:
    make = make_agent(name)
    assert type(make()) is kind
    assert make() is not make()
    assert BUILT_IN[name].name == name


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module with an agent and something else."""
    (tmp_path / "my_agents.py").write_text(
        "from pyfastpath.transceiver.agent import Agent\n"
        "class Mine(Agent):\n    name = 'mine'\n"
        "def function():\n    pass\n"
    )
    (tmp_path / "broken_agents.py").write_text("import this_module_does_not_exist\n")
    (tmp_path / "raising_agents.py").write_text("raise RuntimeError('no luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_agents"
    for name in ("my_agents", "broken_agents", "raising_agents"):
        sys.modules.pop(name, None)


def test_a_class_of_yours(module: str) -> None:
    make = make_agent(f"{module}:Mine")
    assert isinstance(make(), Agent)
    assert make() is not make()
    assert make().name == "mine"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("parot", "'parot' is not known. Use echo, tone, parrot, module:Class, or a wss:// address."),
        ("", "'' is not known"),
        (":Mine", "':Mine' is not known"),
        ("wss://model.example/", "'wss://model.example/' is not known"),
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
        make_agent(spec)
    assert says in str(refused.value)
    assert refused.value.key == "agent"
