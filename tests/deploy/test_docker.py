"""The image: hadolint reads it, what it copies is what a wheel is made of, and it is no root's."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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


def test_what_is_copied_is_enough_for_a_wheel(tmp_path: Path) -> None:
    for kind, arguments in instructions():
        if kind != "COPY" or arguments.startswith("--from"):
            continue
        *sources, target = arguments.split()
        for source in sources:
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("*.so", "__pycache__", "*.c")
                shutil.copytree(ROOT / source, tmp_path / target, ignore=ignore)
            else:
                shutil.copy(ROOT / source, tmp_path)
    said = "import setuptools.build_meta as b; print(b.prepare_metadata_for_build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"Version: {version}" in metadata.read_text()
    assert list(tmp_path.glob("*.dist-info/**/LICENSE"))
    listed = [path.relative_to(ROOT) for path in (ROOT / "pyfastpath").rglob("*") if path.suffix != ".pyc"]
    assert all((tmp_path / path).exists() for path in listed if "__pycache__" not in path.parts)


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
    from pyfastpath.config import RelayConfig

    text = FILE.read_text()
    assert f"FASTPATH_HEALTH={RelayConfig().health_listen}" in text
    assert "/healthz" in text[text.index("HEALTHCHECK") :]
