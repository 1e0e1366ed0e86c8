"""The machine card: there on every machine, and honest about what was measured."""

import json
import os
import platform
import subprocess
from pathlib import Path

from pyfastpath import __version__
from pyfastpath.tools import machine


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "init.defaultBranch=main")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_card_says_what_matters_and_is_json():
    card = machine.card()
    assert card["kernel"] == platform.release()
    assert card["cpus"] == len(os.sched_getaffinity(0))
    assert card["cpu"]
    assert card["uvloop"]
    assert json.loads(json.dumps(card)) == card


def test_what_is_not_installed_has_no_version():
    assert machine.versions("no-such-distribution", "typer")["no-such-distribution"] == ""
    assert machine.output("no-such-program") == ""
    assert machine.output("false") == ""


def test_the_commit_is_that_of_the_program_and_says_when_the_tree_differs(tmp_path, monkeypatch):
    own = tmp_path / "machine.py"
    own.write_text("first\n")
    git(tmp_path, "init")
    git(tmp_path, "add", "machine.py")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.setattr(machine, "TREE", tmp_path)
    monkeypatch.setattr(machine, "__file__", str(own))
    head = git(tmp_path, "rev-parse", "--short=10", "HEAD")
    assert machine.commit() == head
    own.write_text("second\n")
    assert machine.commit() == f"{head}-dirty"


def test_an_installation_inside_a_repository_of_others_names_its_version(tmp_path, monkeypatch):
    git(tmp_path, "init")
    (tmp_path / "theirs").write_text("")
    git(tmp_path, "add", "theirs")
    git(tmp_path, "commit", "-m", "theirs")
    monkeypatch.setattr(machine, "TREE", tmp_path)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert machine.commit() == __version__
