"""Session descriptions as the relay touches them (RFC 8866, ICE lines of RFC 8839): pure, line by line.

The relay reads the ufrag and the candidates of each media section and puts its own candidates in their
place. Whatever is not named here passes byte for byte, line ends included.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pyfastpath.errors import WireError

_CANDIDATE_LINES: Final = ("a=candidate:", "a=end-of-candidates", "a=remote-candidates:")
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/]{4,256}")  # RFC 8839, section 5.4: ice-char
_MEDIA: Final = re.compile(r"m=\S+ [0-9]+(?:/[0-9]+)? \S+ \S.*")  # RFC 8866, section 5.14
_HOST_TYPE_PREFERENCE: Final = 126  # RFC 8445, section 5.1.2.2
_RTP_COMPONENT: Final = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate (RFC 8839, section 5.1). `address` may be a name: mDNS candidates are."""

    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    kind: str

    def line(self) -> str:
        """The attribute line without its end."""
        return (
            f"a=candidate:{self.foundation} {self.component} {self.transport} {self.priority} "
            f"{self.address} {self.port} typ {self.kind}"
        )


@dataclass(frozen=True, slots=True)
class MediaIce:
    """What one media section (or, for a section without its own, the session) says about ICE."""

    mid: str | None
    ufrag: str
    candidates: tuple[Candidate, ...]


def host_candidates(addresses: Iterable[tuple[str, int]]) -> tuple[Candidate, ...]:
    """Host candidates for (address, port) pairs, best first: each gets the next lower local preference."""
    return tuple(
        Candidate(
            foundation=str(place + 1),
            component=_RTP_COMPONENT,
            transport="udp",
            priority=(_HOST_TYPE_PREFERENCE << 24) + ((65535 - place) << 8) + (256 - _RTP_COMPONENT),
            address=address,
            port=port,
            kind="host",
        )
        for place, (address, port) in enumerate(addresses)
    )


def parse_candidate(line: str) -> Candidate | None:
    """The candidate of an attribute line, or None when the line is none or does not parse."""
    if not line.startswith("a=candidate:"):
        return None
    parts = line.removeprefix("a=candidate:").split()
    if len(parts) < 8 or parts[6] != "typ" or not (parts[1] + parts[3] + parts[5]).isdecimal():
        return None
    return Candidate(
        foundation=parts[0],
        component=int(parts[1]),
        transport=parts[2].lower(),
        priority=int(parts[3]),
        address=parts[4],
        port=int(parts[5]),
        kind=parts[7],
    )


def media_ice(sdp: str) -> tuple[MediaIce, ...]:
    """ICE of every accepted media section, one entry a ufrag (BUNDLE repeats it; RFC 9143, section 7.3.1).

    Raises WireError when the text is no session description or a section has no usable ufrag.
    """
    session, *media = _sections(sdp)
    session_ufrag = _value(session, "a=ice-ufrag:")
    found: dict[str, MediaIce] = {}
    for section in media:
        if _is_rejected(section):
            continue
        mid = _value(section, "a=mid:")
        ufrag = _value(section, "a=ice-ufrag:") or session_ufrag
        if ufrag is None:
            raise WireError(f"media section {mid or len(found)} has no a=ice-ufrag: pass a WebRTC answer")
        if _UFRAG.fullmatch(ufrag) is None:
            raise WireError(f"ice-ufrag {ufrag!r} is not 4 to 256 characters of A-Z a-z 0-9 + /")
        candidates = tuple(one for one in map(parse_candidate, map(str.rstrip, section)) if one)
        known = found.get(ufrag)
        found[ufrag] = MediaIce(mid, ufrag, candidates) if known is None else _joined(known, candidates)
    if not found:
        raise WireError("the session description accepts no media section: nothing to route")
    return tuple(found.values())


def replace_candidates(sdp: str, candidates: tuple[Candidate, ...]) -> str:
    """Put `candidates` and end-of-candidates in the place of all others in every accepted section.

    The default destination (m= port, c= and a=rtcp lines) becomes the first candidate, as RFC 8839,
    section 4.2.1.2, wants it to be one of them. A section that is rejected loses its candidates only.
    """
    session, *media = _sections(sdp)
    out = list(_without_candidates(session))
    if media and candidates:
        out = [_with_default(line, candidates[0]) for line in out]
    for section in media:
        kept = list(_without_candidates(section))
        if candidates and not _is_rejected(section):
            kept = _with_candidates(section, kept, candidates)
        out += kept
    return "".join(out)


def strip_candidates(sdp: str) -> str:
    """Remove every candidate line: a full-ICE server given such an offer waits for the client's checks."""
    return "".join(line for section in _sections(sdp) for line in _without_candidates(section))


def _sections(sdp: str) -> list[list[str]]:
    """The session part and every media section, as lines with their ends (CRLF; some tools write LF)."""
    if not sdp.startswith("v=0"):
        raise WireError("not a session description: it must begin with v=0")
    sections: list[list[str]] = [[]]
    for line in re.findall(r"[^\n]*\n|[^\n]+", sdp):
        if line.startswith("m="):
            if _MEDIA.fullmatch(line.rstrip("\r\n")) is None:
                raise WireError(f"{line[:60]!r} is not m=kind port protocol formats: pass a WebRTC answer")
            sections.append([])
        sections[-1].append(line)
    return sections


def _value(section: list[str], prefix: str) -> str | None:
    for line in section:
        if line.startswith(prefix):
            return line[len(prefix) :].strip()
    return None


def _joined(known: MediaIce, more: tuple[Candidate, ...]) -> MediaIce:
    new = tuple(one for one in more if one not in known.candidates)
    return MediaIce(known.mid, known.ufrag, known.candidates + new)


def _is_rejected(section: list[str]) -> bool:
    """Port 0 and not carried by a bundle (RFC 8859 and RFC 9143: a bundle-only section has port 0 too)."""
    parts = section[0].split()
    return len(parts) > 1 and parts[1] == "0" and _value(section, "a=bundle-only") is None


def _without_candidates(section: list[str]) -> Iterator[str]:
    return (line for line in section if not line.startswith(_CANDIDATE_LINES))


def _with_candidates(section: list[str], kept: list[str], candidates: tuple[Candidate, ...]) -> list[str]:
    """The section's kept lines with the new candidates where its first old one stood, else at its end."""
    end = _line_end(section[0])
    first = next((i for i, line in enumerate(section) if line.startswith(_CANDIDATE_LINES)), len(kept))
    lines = [_with_default(line, candidates[0]) for line in kept]
    if not lines[-1].endswith("\n"):  # a text that breaks off, between CR and LF perhaps
        lines[-1] = lines[-1].rstrip("\r") + end
    new = [candidate.line() + end for candidate in candidates] + ["a=end-of-candidates" + end]
    return lines[:first] + new + lines[first:]


def _with_default(line: str, candidate: Candidate) -> str:
    """m=, c= and a=rtcp lines name the default destination; every other line stays as it is."""
    family = f"IP{ipaddress.ip_address(candidate.address).version}"
    end = _line_end(line)
    if line.startswith("c="):
        return f"c=IN {family} {candidate.address}{end}"
    if line.startswith("a=rtcp:"):
        return f"a=rtcp:{candidate.port} IN {family} {candidate.address}{end}"
    if line.startswith("m="):
        media, port, rest = line.split(" ", 2)
        return line if port == "0" else f"{media} {candidate.port} {rest}"
    return line


def _line_end(line: str) -> str:
    return "\r\n" if line.endswith("\r\n") else "\n"
