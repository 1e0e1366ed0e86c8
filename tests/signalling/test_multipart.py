"""Forms as clients send them, and as nobody should."""

import random
import uuid

import aiohttp
import pytest

from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.multipart import PARTS_MAX, parse_form

TYPE = "multipart/form-data; boundary=----XyZ"
# As Chromium sends FormData (WHATWG) and as Python's httpx does, with a type for each part.
CHROMIUM = (
    b'------XyZ\r\nContent-Disposition: form-data; name="sdp"\r\n\r\nv=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n\r\n'
    b'------XyZ\r\nContent-Disposition: form-data; name="session"\r\n\r\n{"type":"realtime"}\r\n'
    b"------XyZ--\r\n"
)
HTTPX = (
    b'------XyZ\r\nContent-Disposition: form-data; name="sdp"; filename="sdp"\r\n'
    b"Content-Type: application/sdp\r\n\r\nv=0\r\n\r\n------XyZ--\r\n"
)


def test_a_browsers_form() -> None:
    assert parse_form(TYPE, CHROMIUM) == {
        "sdp": b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n",
        "session": b'{"type":"realtime"}',
    }


def test_a_part_may_say_more_about_itself() -> None:
    assert parse_form(TYPE, HTTPX) == {"sdp": b"v=0\r\n"}


def test_the_name_is_the_name_and_not_the_filename() -> None:
    body = b'--x\r\nContent-Disposition: form-data; filename="sdp"; name="session"\r\n\r\n{}\r\n--x--'
    assert parse_form('multipart/form-data; boundary="x"', body) == {"session": b"{}"}


def test_a_preamble_an_epilogue_and_padding_are_passed_over() -> None:
    body = b'hello\r\n--x  \r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\nbye'
    assert parse_form("multipart/form-data;boundary=x", body) == {"a": b"1"}


async def test_what_aiohttp_writes() -> None:
    rows = {f"part{n}": random.Random(n).randbytes(200) for n in range(PARTS_MAX)}
    form = aiohttp.FormData()
    for name, content in rows.items():
        form.add_field(name, content, filename=name)
    payload = form()
    assert parse_form(payload.headers["Content-Type"], await payload.as_bytes()) == rows


@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        ("multipart/form-data", CHROMIUM, "no boundary"),
        ("multipart/form-data; boundary=" + "x" * 71, CHROMIUM, "no boundary"),
        ("multipart/form-data; boundary=other", CHROMIUM, "last boundary is missing"),
        (TYPE, CHROMIUM[:-8], "last boundary is missing"),
        (TYPE, b"", "last boundary is missing"),
        (TYPE, CHROMIUM.replace(b"session", b"sdp"), "two parts named 'sdp'"),
        (TYPE, CHROMIUM.replace(b'name="sdp"', b"name=sdp"), "no name"),
        (TYPE, CHROMIUM.replace(b"form-data", b"attachment"), "no name"),
        (TYPE, b"------XyZ\r\n\r\n1\r\n------XyZ--", "no head"),
        (TYPE, b"------XyZsdp\r\nA: b\r\n\r\n1\r\n------XyZ--", "no head"),
        (TYPE, b"------XyZ\r\nA: " + b"b" * 3000 + b"\r\n\r\n1\r\n------XyZ--", "no head"),
    ],
)
def test_what_is_no_form_is_refused_with_the_reason(content_type: str, body: bytes, why: str) -> None:
    with pytest.raises(CallError, match=why) as refused:
        parse_form(content_type, body)
    assert refused.value.code == "bad_request"


def test_too_many_parts_are_refused() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n'
    body = b"".join(part % number for number in range(PARTS_MAX + 1)) + b"--x--"
    with pytest.raises(CallError, match="more than 16 parts"):
        parse_form("multipart/form-data; boundary=x", body)


def test_random_bytes_are_refused_or_read_but_never_an_accident() -> None:
    draw = random.Random(1)
    pieces = [b"--x", b"--", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="a"', b"\0", b"v=0"]
    for _ in range(3000):
        body = b"".join(draw.choices(pieces, k=draw.randrange(14)))
        try:
            parse_form("multipart/form-data; boundary=x", body)
        except CallError as error:
            assert error.code == "bad_request"


def test_the_boundary_may_be_any_uuid() -> None:
    boundary = str(uuid.UUID(int=7))
    body = CHROMIUM.replace(b"----XyZ", boundary.encode())
    assert list(parse_form(f"multipart/form-data; boundary={boundary}; charset=utf-8", body)) == [
        "sdp",
        "session",
    ]
