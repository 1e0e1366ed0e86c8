"""The lines of a session description, numbered and by section (RFC 8866): what `offer` reads from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pyfastpath.errors import WireError

OFFER_BYTES_MAX: Final = 65_536
SECTIONS_MAX: Final = 64  # each is answered with a section of its own

OfferCode = Literal[
    "bad_sdp", "no_audio", "no_bundle", "no_rtcp_mux", "bad_fingerprint", "bad_ice", "no_opus", "too_large"
]

_LINE: Final = re.compile(r"[a-z]=[^\x00-\x08\x0a-\x1f\x7f]*")
_MEDIA: Final = re.compile(r"m=([\w.-]+) ([0-9]{1,5})(?:/[0-9]+)? ([\w/.-]+)((?: [\w.*-]+)+) *", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,10}")


class OfferError(WireError):
    """An offer that is refused. `line` counts from 1; 0 means the whole of it. `code` names the reason."""

    def __init__(self, code: OfferCode, line: int, message: str, hint: str = "") -> None:
        super().__init__(f"line {line}: {message}" if line else message, hint)
        self.code = code
        self.line = line


@dataclass(slots=True)
class Section:
    """The session part, or one media section: numbered lines."""

    line: int
    lines: list[tuple[int, str]]
    kind: str = ""
    port: int = 0
    protocol: str = ""
    formats: tuple[str, ...] = ()

    def values(self, name: str) -> Iterator[tuple[int, str]]:
        """(line, value) of every a=name:value."""
        prefix = f"a={name}:"
        return (
            (number, text[len(prefix) :].strip()) for number, text in self.lines if text.startswith(prefix)
        )

    def value(self, name: str) -> tuple[int, str] | None:
        """The first of `values`."""
        return next(self.values(name), None)

    def has(self, name: str) -> bool:
        """Whether the flag a=name stands here."""
        return any(text.rstrip() == f"a={name}" for _, text in self.lines)

    @property
    def mid(self) -> str:
        """a=mid, or empty."""
        found = self.value("mid")
        return found[1] if found else ""

    @property
    def offered(self) -> bool:
        """Not rejected already: port 0 without a=bundle-only means so (RFC 9143, section 6)."""
        return self.port != 0 or self.has("bundle-only")


def numbered_lines(sdp: str) -> list[tuple[int, str]]:
    """Every line with its number, without its end (CRLF; some tools write LF). Raises OfferError."""
    size = len(sdp.encode(errors="surrogatepass"))
    if size > OFFER_BYTES_MAX:
        raise OfferError(
            "too_large", 0, f"{size} bytes of session description; {OFFER_BYTES_MAX} are allowed"
        )
    numbered = [(number, text.removesuffix("\r")) for number, text in enumerate(sdp.split("\n"), start=1)]
    while numbered and not numbered[-1][1].strip():
        numbered.pop()
    for number, text in numbered:
        if _LINE.fullmatch(text) is None:
            raise OfferError("bad_sdp", number, f"{text[:60]!r} is not of the form x=value (RFC 8866)")
    return numbered


def sections_of(sdp: str) -> list[Section]:
    """The session part and the media sections, with the m= lines read. Raises OfferError."""
    lines = numbered_lines(sdp)
    if not lines or lines[0][1].rstrip() != "v=0":
        raise OfferError("bad_sdp", 1, "not a session description: it must begin with v=0")
    found = [Section(1, [])]
    for number, text in lines:
        if text.startswith("m="):
            found.append(_media_section(number, text))
            if len(found) > SECTIONS_MAX + 1:
                raise OfferError("too_large", number, f"more than {SECTIONS_MAX} media sections")
        found[-1].lines.append((number, text))
    return found


def _media_section(number: int, text: str) -> Section:
    match = _MEDIA.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise OfferError(
            "bad_sdp", number, f"{text[:60]!r} is not m=kind port protocol formats (RFC 8866, 5.14)"
        )
    return Section(number, [], match[1], int(match[2]), match[3], tuple(match[4].split()))


def integer(text: str) -> int | None:
    """A number of at most ten digits, or None."""
    return int(text) if _NUMBER.fullmatch(text) else None
