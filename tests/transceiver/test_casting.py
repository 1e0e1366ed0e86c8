"""Which agent answers: the configured one, a built-in one the caller asked for, or an error at the start."""

import sys

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.parrot import Parrot
from pyfastpath.transceiver.agents.tone import Tone
from pyfastpath.transceiver.agents.websocket import WebSocketAgent
from pyfastpath.transceiver.casting import Casting

AGENT = """
from pyfastpath.transceiver.agent import Agent

class Mine(Agent):
    name = "mine"

class NoAgent:
    pass
"""


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("echo", Echo),
        ("tone", Tone),
        ("parrot", Parrot),
        ("gpt-realtime", Parrot),
        (None, Parrot),
        (7, Parrot),
    ],
)
def test_a_caller_may_name_a_built_in_agent(model, kind):
    assert type(Casting("parrot").make({"model": model})) is kind


def test_each_call_has_an_agent_of_its_own():
    casting = Casting("echo")
    assert casting.make({}) is not casting.make({})


def test_a_class_of_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "my_agents_here.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    casting = Casting("my_agents_here:Mine")
    assert casting.make({"model": "gpt-realtime"}).name == "mine"
    assert type(casting.make({"model": "echo"})) is Echo
    for wrong in ("my_agents_here:NoAgent", "my_agents_here:Nobody", "no_such_module_here:Mine"):
        with pytest.raises(ConfigError):
            Casting(wrong)


async def test_an_external_server_with_its_key(tmp_path):
    key = tmp_path / "key"
    key.write_text("sk-test\n")
    casting = Casting("wss://model.example.org/v1", str(key))
    assert isinstance(casting.make({}), WebSocketAgent)
    assert type(casting.make({"model": "echo"})) is Echo
    await casting.close()


@pytest.mark.parametrize(
    ("name", "key_file", "key"),
    [
        ("nobody", "", "agent"),
        ("wss://", "", "agent"),
        ("wss://model.example.org", "/no/such/file", "agent_key_file"),
        ("echo", "/etc/hostname", "agent_key_file"),
    ],
)
def test_what_cannot_be_cast_is_said_at_the_start(name, key_file, key):
    with pytest.raises(ConfigError) as caught:
        Casting(name, key_file)
    assert caught.value.key == key


async def test_closing_without_a_server_is_nothing():
    await Casting("tone").close()
