"""Logging: ISO-8601 in UTC, one line a record, as text or JSON; a file that SIGHUP reopens.

Nothing logs per datagram. Configuration reaches a record only through repr, which redacts secrets.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyfastpath.errors import ConfigError

log = logging.getLogger("pyfastpath.log")

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_STANDARD = set(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z info pyfastpath.keeper: message key=value`, always one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line: line ends inside become the two characters \\n."""
        text = record.getMessage()
        text += "".join(f" {name}={value!r}" for name, value in _extra(record).items())
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        head = f"{_time(record)} {record.levelname.lower()} {record.name}: "
        return head + text.replace("\r", "\\r").replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and whatever `extra=` brought."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one JSON line."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=repr, ensure_ascii=False)


class ReopenableHandler(logging.StreamHandler[Any]):
    """Standard error, or a file that `reopen` opens anew after logrotate moved it.

    required: ConfigError when the file cannot be opened; else standard error has the log until a `reopen`
    succeeds.
    """

    def __init__(self, file: str = "", *, required: bool = True) -> None:
        self.file = file
        self._failures = 0  # records in a row that the disk did not take
        try:
            super().__init__(_open(file))
        except ConfigError:
            if required:
                raise
            super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; after others that could not be written, say so."""
        failures = self._failures
        super().emit(record)
        if failures and failures == self._failures:
            self._failures = 0
            log.warning("the disk did not take %d records when they came: some are missing here", failures)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk costs records, not a traceback for each."""
        if isinstance(sys.exc_info()[1], OSError):
            self._failures += 1
        else:
            super().handleError(record)

    def reopen(self) -> None:
        """Go on in a file of the same name; what was open is closed. Standard error stays.

        A file that cannot be opened is said in the old one, which goes on: no relay ends for its log.
        """
        if not self.file:
            return
        try:
            fresh = _open(self.file)
        except ConfigError as error:
            log.error("not reopened: %s", error)  # noqa: TRY400 - its sentence says it all
            return
        with self.lock or contextlib.nullcontext():
            old, self.stream = self.stream, fresh
        with contextlib.suppress(OSError):  # what a full disk did not take before, it may not take now
            if old is not sys.stderr:
                old.close()


def _open(file: str) -> Any:
    """ConfigError when the file cannot be opened."""
    # Line buffered: a record is on disk when the call returns, also for the reader of a killed engine's log.
    try:
        return Path(file).open("a", buffering=1, encoding="utf-8") if file else sys.stderr
    except OSError as error:
        raise ConfigError(
            f"cannot open {file}: {error.strerror}", "Name a file this user may write.", key="log_file"
        ) from error


def setup(
    level: str = "info", form: str = "text", file: str = "", *, required: bool = True
) -> ReopenableHandler:
    """Send all records to `file` (default standard error) in `form` text or json, from `level` on.

    Returns the handler, whose `reopen` belongs to SIGHUP. ConfigError when the file is required and cannot be
    opened.
    """
    handler = ReopenableHandler(file, required=required)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    set_level(level)
    return handler


def set_level(level: str) -> None:
    """Change the least level that is logged, while running. KeyError for an unknown one."""
    logging.getLogger().setLevel(LEVELS[level])
