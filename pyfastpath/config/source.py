"""Where a setting came from, so that an error can say it."""

from __future__ import annotations

import difflib
import errno
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from pyfastpath.config.lines import Path, find_line
from pyfastpath.errors import ConfigError

BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
CHARACTERS_MAX: Final = 1 << 20  # of a configuration, or of a secret


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
        try:
            return read_text(self.folder / FilePath(name).expanduser()).strip()
        except OSError as error:
            reason = error.strerror
        except UnicodeDecodeError:
            reason = "it is not text"
        except RuntimeError:
            reason = "nobody has such a home directory"
        except ValueError:
            reason = "no file has a null character in its name"
        shown = str(self.folder / name)
        raise self.error(
            path,
            f"cannot read {shown if shown.isprintable() else ascii(shown)}: {reason}",
            "Name a file this user may read.",
        )


def read_text(file: FilePath) -> str:
    """A file's text. OSError, of a file that is too long too: a device may have no end."""
    with file.open(encoding="utf-8") as opened:
        text = opened.read(CHARACTERS_MAX + 1)
    if len(text) > CHARACTERS_MAX:
        raise OSError(errno.EFBIG, f"it is longer than {CHARACTERS_MAX} characters")
    return text


def dotted(path: Path) -> str:
    """('backends', 1, 'allow') as backends[1].allow; a key that is not bare in quotes, as TOML has it."""
    named = (f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path)
    return "".join(named).removeprefix(".")


def _key(name: str) -> str:
    """On one line whatever is in it: a message is one."""
    return name if BARE_KEY.fullmatch(name) else json.dumps(name)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The hint for an unknown name."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(sorted(known))}."
