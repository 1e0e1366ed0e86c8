"""Counting: nothing disappears without a name, names are unique, and every name used in the code exists."""

import re
from pathlib import Path

import pytest

from pyfastpath.transceiver import counters
from pyfastpath.transceiver.counters import Counters

SOURCES = Path(counters.__file__).parent


def test_received_is_used_and_dropped() -> None:
    found = Counters()
    for kind in counters.KINDS:
        found.received += 1
        found.used[kind] += 1
    for name, _ in counters.DROP_REASONS:
        found.received += 1
        found.drop(name)
    assert found.conservation_error == 0
    found.received += 1
    assert found.conservation_error == 1


def test_a_drop_without_a_name_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Counters().drop("just_because")


def test_srtp_failures_are_drops() -> None:
    found = Counters()
    found.drop("srtp_replayed")
    found.drop("srtp_replayed")
    failures = found.srtp_failures()
    assert failures["replayed"] == 2
    assert sum(failures.values()) == 2


def test_every_number_is_counted_somewhere() -> None:
    """What is exported but never written would be a 0 that says something false."""
    code = "".join(
        path.read_text() for path in SOURCES.rglob("*.py") if path.stem not in {"counters", "collector"}
    )
    by_method = {"dropped": "drop(", "sessions": "session_moved(", "closed": "session_closed("}
    ways = {name: by_method.get(name, f".{name}") for name in Counters.__slots__ if name != "opened"}
    assert not [name for name, way in ways.items() if way not in code]


def test_every_reason_in_the_code_has_a_name() -> None:
    known = {name for name, _ in counters.DROP_REASONS}
    used = {
        (path.name, name)
        for path in SOURCES.rglob("*.py")
        for name in re.findall(r"\bdrop(?:ped)?\(\s*\"(\w+)\"", path.read_text())
    }
    assert used
    assert not {(path, name) for path, name in used if name not in known}


@pytest.mark.parametrize("names", [counters.DROP_REASONS, counters.SETUP_STEPS, counters.REPAIRS])
def test_every_name_has_its_place_in_the_code(names: counters.Names) -> None:
    code = "".join(path.read_text() for path in SOURCES.rglob("*.py") if path.stem != "counters")
    assert not [name for name, _ in names if f'"{name}"' not in code]


@pytest.mark.parametrize(
    "names", [counters.DROP_REASONS, counters.CLOSE_REASONS, counters.SETUP_STEPS, counters.REPAIRS]
)
def test_names_are_labels_and_texts_say_something(names: counters.Names) -> None:
    assert len(dict(names)) == len(names)
    for name, text in names:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert text
        assert not text.endswith(".")


def test_the_life_of_a_session() -> None:
    found = Counters()
    found.session_moved(None, "created")
    found.session_moved("created", "live")
    assert (found.opened, found.sessions["created"], found.sessions["live"]) == (1, 0, 1)
    found.session_moved("live", None)
    found.session_closed("hangup")
    found.session_closed("the moon")
    assert not any(found.sessions.values())
    assert (found.closed["hangup"], found.closed["other"]) == (1, 1)
