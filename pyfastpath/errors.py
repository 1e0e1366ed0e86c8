"""One exception family. Every error is one clear sentence, and a hint that says what to do."""


class FastpathError(Exception):
    """Anything Fastpath refuses. `str()` gives message and hint; the CLI exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}. {self.hint}" if self.hint else self.message


class ConfigError(FastpathError):
    """A setting that cannot be used. Names the key and where it stands (file and line, variable or flag)."""

    exit_code = 2

    def __init__(
        self, message: str, hint: str = "", *, key: str = "", where: str = "", line: int = 0
    ) -> None:
        super().__init__(": ".join(filter(None, (where, key, message))), hint)
        self.key = key
        self.where = where
        self.line = line
        self.others: tuple[ConfigError, ...] = ()  # further mistakes of the same configuration


class WireError(FastpathError):
    """Bytes that are not what they claim to be (STUN, token, trunk, SDP)."""


class PcapError(WireError):
    """A capture file that is damaged, cut off or none at all. `offset` is the byte where it is noticed."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "", *, offset: int = 0) -> None:
        super().__init__(message, hint)
        self.offset = offset


class LayoutError(FastpathError):
    """Shared memory of another layout version, or memory that is no table at all."""


class RouteError(FastpathError):
    """A route, flow or backend operation that is refused: unknown backend, full table, conflict.

    `code` names the refusal for programs; the admin API's errors carry it.
    """

    def __init__(self, message: str, hint: str = "", *, code: str = "refused") -> None:
        super().__init__(message, hint)
        self.code = code


class AdminError(FastpathError):
    """The relay's admin API answered with an error. `status` is its HTTP status."""

    def __init__(self, message: str, hint: str = "", *, status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class UnreachableError(FastpathError):
    """Nobody listens where the relay's admin socket should be."""

    exit_code = 3


class SocketError(FastpathError):
    """The machine refuses: a port in use, a missing privilege, a limit."""

    exit_code = 4
