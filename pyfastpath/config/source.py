"""Where a setting came from, so that an error can say it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from pyfastpath.config.lines import Path, find_line
from pyfastpath.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Source:
    """A file, an environment variable, a flag or the defaults.

    lines: only of a file. folder: what relative paths start from. is_text: values are texts to be read.
    command: whose settings they are.
    """

    where: str
    lines: Mapping[Path, int] = field(default_factory=dict)
    folder: FilePath = FilePath()
    is_text: bool = True
    command: str = "relay"

    @property
    def help_hint(self) -> str:
        """Where every key is explained."""
        return f"pyfastpath {self.command} --help explains every key."

    def error(self, path: Path, message: str, hint: str) -> ConfigError:
        """The error for the value at `path`, with its line if this is a file."""
        line = find_line(self.lines, path)
        where = f"{self.where}, line {line}" if line else self.where
        return ConfigError(message, hint, key=dotted(path), where=where, line=line)

    def read_secret(self, name: str, path: Path) -> str:
        """The stripped text of a secret's file."""
        file = self.folder / FilePath(name).expanduser()
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise self.error(
                path, f"cannot read {file}: {reason}", "Name a file this user may read."
            ) from None


def dotted(path: Path) -> str:
    """('backends', 1, 'allow') as backends[1].allow."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The hint for an unknown name."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(sorted(known))}."
