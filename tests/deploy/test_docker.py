"""The image: hadolint reads it, what it copies is what a wheel is made of, and it is no root's."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from setuptools import find_packages

from pyfastpath.config import RelayConfig
from tests.support.require import require

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), lines that go on joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def test_hadolint_finds_nothing_wrong() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = str(hadolint) if hadolint.exists() else require("hadolint")
    done = subprocess.run([command, "--no-color", str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_is_what_a_wheel_is_made_of() -> None:
    """tests/test_setup.py builds that wheel and runs it elsewhere; here is what goes into it."""
    copied: set[str] = set()
    for kind, arguments in instructions():
        if kind == "COPY" and not arguments.startswith("--from"):
            *sources, _ = arguments.split()
            copied |= set(sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = find_packages(str(ROOT), include=project["tool"]["setuptools"]["packages"]["find"]["include"])
    needed = {
        "pyproject.toml",
        "setup.py",
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    assert copied == needed | {package.split(".")[0] for package in packages}


def test_the_wheel_goes_where_the_second_stage_finds_it() -> None:
    text = FILE.read_text()
    assert "--outdir /dist" in text
    assert '"$(ls /dist/*.whl)[transceiver]"' in text
    assert "COPY --from=build /opt/fastpath /opt/fastpath" in text
    assert "PATH=/opt/fastpath/bin:$PATH" in text


def test_it_runs_as_nobody_in_particular_and_stops_by_draining() -> None:
    said = instructions()
    last_stage = said[max(n for n, (kind, _) in enumerate(said) if kind == "FROM") :]
    (user,) = [arguments for kind, arguments in last_stage if kind == "USER"]
    assert int(user.split(":")[0]) > 0
    names = [kind for kind, _ in last_stage]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert ("STOPSIGNAL", "SIGTERM") in last_stage
    assert ("ENTRYPOINT", '["pyfastpath"]') in last_stage
    assert not any("gcc" in arguments for _, arguments in last_stage)


def test_its_health_check_asks_the_default_health_listener() -> None:
    text = FILE.read_text()
    assert f"FASTPATH_HEALTH={RelayConfig().health_listen}" in text
    assert "/healthz" in text[text.index("HEALTHCHECK") :]
