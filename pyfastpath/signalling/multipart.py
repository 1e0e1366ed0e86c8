"""The named parts of a multipart/form-data body (RFC 7578, RFC 2046 section 5.1), whole and in memory."""

import re
from typing import Final

from pyfastpath.signalling.errors import CallError

PARTS_MAX: Final = 16
HEAD_BYTES_MAX: Final = 2048

_BOUNDARY: Final = re.compile(
    r';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;",]{1,70})(?=[\s;]|$))', re.IGNORECASE
)
_NAME: Final = re.compile(
    rb'^content-disposition:[ \t]*form-data\b.*?;[ \t]*name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE
)


def parse_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Name -> content of each part. CallError bad_request says what is wrong with the body."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise _bad("the Content-Type has no boundary")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode(errors="surrogateescape")  # any bytes, as they came
    _, *sections = (b"\r\n" + body).split(delimiter, PARTS_MAX + 1)  # before the first one stands a preamble
    parts: dict[str, bytes] = {}
    for section in sections:
        if section.startswith(b"--"):
            return parts
        name, content = _part(section)
        if name in parts:
            raise _bad(f"it has two parts named {name!r}")
        parts[name] = content
    raise _bad(
        f"it has more than {PARTS_MAX} parts" if len(sections) > PARTS_MAX else "its last boundary is missing"
    )


def _part(section: bytes) -> tuple[str, bytes]:
    """One section behind its delimiter: padding, line end, header lines, an empty line, the content."""
    padding, end_of_line, rest = section.partition(b"\r\n")
    head, empty_line, content = rest.partition(b"\r\n\r\n")
    if padding.strip(b" \t") or not end_of_line or not empty_line or len(head) > HEAD_BYTES_MAX:
        raise _bad("a part has no head of its own")
    name = _NAME.search(head)
    if name is None:
        raise _bad("a part has no name")
    return name[1].decode(errors="replace"), content


def _bad(why: str) -> CallError:
    return CallError(
        f"the multipart body cannot be read: {why}", "Send parts `sdp` and `session`.", code="bad_request"
    )
