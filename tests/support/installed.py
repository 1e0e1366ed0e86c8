"""Versions of this package as `pip install` would leave them, and which of them is installed now.

    installed = Installed(tmp_path)
    installed.version("2.0", layout=1)
    with installed.running(...) as relay:
        installed.switch("2.0")
        relay.request("POST", "/v1/upgrade")

Each is a copy of pyfastpath; the compiled modules are those of the build under test. A folder on PYTHONPATH
points at the installed one.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastpath
import pyfastpath
from tests.support.relay import Relay, running_relay

PACKAGE = Path(str(pyfastpath.__file__)).parent
COMPILED = Path(str(fastpath.__file__)).parent
CRASH = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"


class Installed:
    """Versions under `folder`. compiled: the fastpath of another build than the one under test."""

    def __init__(self, folder: Path, compiled: Path = COMPILED) -> None:
        self._folder, self.compiled = folder, compiled
        self._current = folder / "installed"
        self.version(pyfastpath.__version__)
        self.switch(pyfastpath.__version__)

    def version(self, name: str, *, layout: int = 0) -> Path:
        """Make a version; its package's folder. layout: by how much that of its tables is raised."""
        package = self._folder / name / "pyfastpath"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "static", "*.so"))
        (self._folder / name / "fastpath").symlink_to(self.compiled)
        start = f'import os\nos.environ["FASTPATH_LAYOUT_BUMP"] = "{layout}"\n__version__ = "{name}"\n'
        (package / "__init__.py").write_text(start)
        return package

    def broken_import(self, name: str) -> None:
        """A version that cannot even be imported."""
        (self.version(name) / "relay" / "orders.py").write_text("raise ImportError('a file is missing')\n")

    def crash_at_start(self, name: str, *, layout: int = 0) -> None:
        """A version that gets ready and dies of the word."""
        engine = self.version(name, layout=layout) / "relay" / "control.py"
        text = engine.read_text()
        head = "    def start(self) -> None:\n"
        assert head in text
        body = "".join(f"        {line}\n" for line in CRASH.splitlines())
        engine.write_text(text.replace(head, head + body))

    def switch(self, name: str) -> None:
        """Install one in place of what was."""
        fresh = self._folder / "next"
        fresh.symlink_to(self._folder / name)
        fresh.replace(self._current)

    @contextmanager
    def running(self, **config: Any) -> Iterator[Relay]:
        """A relay of the installed version."""
        before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
        os.environ |= {"PYTHONPATH": str(self._current), "PYTHONSAFEPATH": "1"}
        try:
            with running_relay(self._folder, **config) as relay:
                yield relay
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
