"""The page's files: what is served, with which headers, and that nothing else ever is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from pyfastpath.signalling import gateway as gateway_module
from pyfastpath.signalling.page import FOLDER, read_page
from tests.signalling.rig import Rig, running


async def test_the_page_has_sane_headers(rig: Rig) -> None:
    reply = await rig.http.get("/")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(one.split(" ", 1) for one in reply.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"unsafe|https?:|\*", reply.headers["Content-Security-Policy"])
    assert "microphone=(self)" in reply.headers["Permissions-Policy"]


async def test_every_file_of_the_page_is_served_as_what_it_is(rig: Rig) -> None:
    kinds = {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
    }
    for path in FOLDER.iterdir():
        reply = await rig.http.get(f"/static/{path.name}")
        assert reply.status == 200
        assert await reply.read() == path.read_bytes()
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        if path.suffix in kinds:
            assert reply.headers["Content-Type"] == kinds[path.suffix]
            assert reply.headers["Cache-Control"] == "no-cache"


async def test_whatever_the_page_names_is_there(rig: Rig) -> None:
    html = await (await rig.http.get("/")).text()
    named = re.findall(r'(?:src|href)="((?!#|https?:|data:)[^"]+)"', html)
    assert named
    for name in named:
        assert (await rig.http.get("/" + name.lstrip("/"))).status == 200, name
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html), "no outside host"


async def test_a_known_file_is_not_sent_twice(rig: Rig) -> None:
    first = await rig.http.get("/static/base.css")
    again = await rig.http.get("/static/base.css", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    other = await rig.http.get("/static/base.css", headers={"If-None-Match": '"other"'})
    assert other.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/....//app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/..\\app.py",
        "/static/index.html/../../app.py",
        "/static/./base.css",
        "/static/base.css%00",
        "/static/%252e%252e/app.py",
        "/static/%252e%252e%252fapp.py",
        "/static/..%5capp.py",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/static/%c0%ae%c0%ae/app.py",
        "/static/%e0%80%ae%e0%80%ae/app.py",
        "/static/.%00./app.py",
        "/static/base.css%00/../../app.py",
        "/static/base.css/../../app.py",
        "/static/base.css;/../../app.py",
        "/static//..//app.py",
        "/static/../static/../app.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "file:///etc/passwd",
        "http://x/static/../app.py",
        "/static/C:\\windows\\win.ini",
        "/static/page.py",
        "/static/STYLE.CSS",
        "/static/",
        "/static",
        "/../pyproject.toml",
        "//etc/passwd",
        "/app.py",
    ],
)
async def test_no_path_leads_out_of_the_folder(rig: Rig, path: str) -> None:
    """Sent byte for byte: a client library would tidy them up."""
    address = rig.gateway.address
    assert address is not None
    reader, writer = await asyncio.open_connection(str(address.address), address.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    reply = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert re.match(rb"HTTP/1.[01] (404|400) ", reply), reply
    assert b"import" not in reply
    assert b"root:" not in reply


async def test_what_is_put_into_the_folder_later_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No path is opened for a request, so no link leads anywhere."""
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "index.html").write_text("the page")
    (folder / "a.js").write_text("1")
    monkeypatch.setattr(gateway_module, "read_page", lambda: read_page(folder))
    async with running(tmp_path) as rig:
        (folder / "passwd").symlink_to("/etc/passwd")
        (folder / "etc").symlink_to("/etc")
        (folder / "a.js").unlink()
        (folder / "a.js").symlink_to("/etc/passwd")
        for name in ("passwd", "etc/passwd", "etc"):
            assert (await rig.http.get(f"/static/{name}")).status == 404
        assert await (await rig.http.get("/static/a.js")).text() == "1"


async def test_without_a_page_there_is_none(tmp_path: Path) -> None:
    async with running(tmp_path, page=False) as rig:
        for path in ("/", "/static/base.css"):
            assert (await rig.http.get(path)).status == 404


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.js").write_text("1")
    (tmp_path / ".hidden").write_text("2")
    (tmp_path / "b.bin").write_bytes(b"3")
    files = read_page(tmp_path)
    assert sorted(files) == ["b.bin", "sub/a.js"]
    assert files["b.bin"].content_type == "application/octet-stream"
    assert files["sub/a.js"].etag != files["b.bin"].etag
