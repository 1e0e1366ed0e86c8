"""The interpreter and this tree where any user can reach them, for children that are no longer root.

Both may lie in a folder that is root's alone (/root, a checkout of mode 0700). In a mount namespace of their
own the children see that folder empty and open, and in it nothing but what they need.
"""

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = (ROOT / "pyfastpath", ROOT / "fastpath", Path(sys.prefix).resolve(), Path(sys.base_prefix))
PYTHON = str(Path(sys.prefix).resolve() / "bin" / "python")


@contextmanager
def reachable() -> Iterator[list[str]]:
    """A prefix for a command line; the command finds this tree on PYTHONPATH. Needs root and namespaces."""
    stage = Path(tempfile.mkdtemp(prefix="fastpath-stage-"))
    try:
        yield ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _script(stage), "sh"]
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(stage)], check=True)


def _script(stage: Path) -> str:
    """Put aside what is needed, cover what nobody may enter, put back; then become the command."""
    closed = {path: _closed(path) for path in NEEDED}
    hidden = {path: top for path, top in closed.items() if top is not None}
    lines = [f"export PYTHONPATH={shlex.quote(str(ROOT))} PYTHONDONTWRITEBYTECODE=1"]
    for number, path in enumerate(hidden):
        aside = shlex.quote(str(stage / str(number)))
        lines += [f"mkdir {aside}", f"mount --bind {shlex.quote(str(path))} {aside}"]
    lines += [
        f"mount -t tmpfs -o mode=755 none {shlex.quote(str(top))}" for top in sorted(set(hidden.values()))
    ]
    for number, path in enumerate(hidden):
        place, aside = shlex.quote(str(path)), shlex.quote(str(stage / str(number)))
        lines += [f"mkdir -p {place}", f"mount --bind {aside} {place}"]
    return "\n".join([*lines, 'exec "$@"'])


def _closed(path: Path) -> Path | None:
    """The topmost folder above `path` that only its owner may enter."""
    above = reversed(path.parents)
    return next((folder for folder in above if not folder.stat().st_mode & 0o001), None)
