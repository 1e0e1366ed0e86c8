"""The page: the files of `static/`, read once at the start. What is not among them is not found."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

FOLDER: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; media-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HTML_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}
# not left to mimetypes, which goes by the machine's own list
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is served. etag: of its content, quoted."""

    content: bytes
    content_type: str
    etag: str
    headers: dict[str, str]


def read_page(folder: Path = FOLDER) -> dict[str, File]:
    """Every file below `folder`, by its path from there with slashes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            found[path.relative_to(folder).as_posix()] = _file(path)
    return found


def _file(path: Path) -> File:
    content = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_html = kind == "text/html"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return File(
        content=content,
        content_type=kind,
        etag=f'"{hashlib.sha256(content).hexdigest()[:24]}"',
        headers={**HEADERS, **(HTML_HEADERS if is_html else {"Cache-Control": "no-cache"})},
    )


class Page:
    """Handlers for / and /static/…"""

    def __init__(self, files: dict[str, File]) -> None:
        self._files = files

    async def index(self, request: web.Request) -> web.Response:
        """GET /"""
        return self._serve(request, INDEX)

    async def static(self, request: web.Request) -> web.Response:
        """GET /static/{name}: a name of the list made at the start, never a path."""
        return self._serve(request, request.match_info["name"])

    def _serve(self, request: web.Request, name: str) -> web.Response:
        file = self._files.get(name)
        if file is None:
            raise web.HTTPNotFound
        headers = {**file.headers, "ETag": file.etag}
        if (
            file.etag in request.headers.get("If-None-Match", "")
            and "no-store" not in headers["Cache-Control"]
        ):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.content, headers={**headers, "Content-Type": file.content_type})
