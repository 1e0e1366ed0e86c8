"""One line on standard error that says what goes on; nothing when that is no terminal."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import TextIO

_ERASE = "\r\x1b[K"


class Progress:
    """`with Progress() as progress: progress.show("…")`: each text replaces the one before."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._live = self._out.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("")

    def show(self, text: str) -> None:
        """Replace the line; what does not fit is cut."""
        self._write(text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        if self._live:
            self._out.write(_ERASE + text)
            self._out.flush()
