"""Flags as a table: a command gets what was given by name, and its files are known to be writable before."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from pyfastpath.errors import ConfigError
from pyfastpath.tools import flags as flag

OPTIONS = {
    "name": flag.text("--name", "TEXT", "A name.", variable="SOME_NAME"),
    "more": flag.texts("--more", "TEXT", "Another."),
    "count": flag.number("--count", "N", "How many."),
    "wait_s": flag.seconds("--wait", "How long."),
    "loud": flag.switch("--loud", "Loudly."),
    "out": flag.file("--out", "Where to."),
}


def call(*arguments: str, **environment: str) -> dict[str, Any]:
    """What the command gets for these words on the command line."""
    got: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @flag.with_options(OPTIONS, arguments={"what": Annotated[str, typer.Argument()]})
    def command(**given: Any) -> None:
        got.update(given)

    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code == 0, done.output
    return got


def test_what_is_not_given_is_none():
    assert call("it") == dict.fromkeys(OPTIONS) | {"what": "it"}


def test_everything_by_its_name(tmp_path):
    said = ["--more", "a", "--more", "b", "--count", "3", "--wait", "1.5", "--loud", "--out", str(tmp_path)]
    assert call("it", *said, SOME_NAME="of the environment") == {
        "what": "it",
        "name": "of the environment",
        "more": ["a", "b"],
        "count": 3,
        "wait_s": 1.5,
        "loud": True,
        "out": tmp_path,
    }


def test_files_are_written_where_there_is_a_folder(tmp_path):
    flag.check_folders({"--json": tmp_path / "run.json", "--csv": None})
    flag.write(tmp_path / "run.json", "µ\n")
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == "µ\n"


def test_a_missing_folder_is_told_before_the_run(tmp_path):
    with pytest.raises(ConfigError, match=r"--json: there is no folder .*gone\. Create it"):
        flag.check_folders({"--json": tmp_path / "gone" / "run.json"})


def test_what_cannot_be_written_is_told(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        flag.write(tmp_path, "")


def test_no_file_has_two_tasks(tmp_path):
    """A result written over the capture that it tells about would be a loss."""
    capture, other = tmp_path / "call.pcap", tmp_path / "alias.json"
    capture.write_bytes(b"capture")
    other.symlink_to(capture)
    flag.check_apart({"the capture": capture, "--json": tmp_path / "run.json", "--csv": None})
    flag.check_apart({"--json": Path("/dev/null"), "--csv": Path("/dev/null")})
    with pytest.raises(ConfigError, match=r"--json: .*alias\.json is the capture already"):
        flag.check_apart({"the capture": capture, "--json": other})
    with pytest.raises(ConfigError, match=r"--csv: .*x is --json already"):
        flag.check_apart({"--json": tmp_path / "x", "--csv": tmp_path / "." / "x"})


TELLS = "from pyfastpath.tools import flags\nwith flags.telling():\n    print('x' * {0})\nprint('left')\n"


@pytest.mark.parametrize("characters", [1, 1 << 20], ids=["buffered", "beyond the buffer"])
def test_a_full_standard_output_is_one_error(characters):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", TELLS.format(characters)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1  # as an uncaught error of python -c
    assert done.stderr.splitlines()[-1].startswith(
        "pyfastpath.errors.ConfigError: cannot write to standard output: No space left"
    )
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_has_gone_changes_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", TELLS.format(1 << 20)],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
        timeout=20,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
