"""A request for a call: the offer, and the session it wants."""

import pytest

from pyfastpath.signalling.calls import merge_sessions, parse_call
from pyfastpath.signalling.errors import CallError

OFFER = "v=0\r\ns=Grüße\r\n"


def form(**parts: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), content) for name, content in parts.items()) + b"--x--\r\n"


def ask(content_type: str, body: bytes, **query: str):
    return parse_call(content_type, body, query)


def refused(content_type: str, body: bytes) -> CallError:
    with pytest.raises(CallError) as error:
        ask(content_type, body)
    return error.value


def test_an_offer_as_it_is() -> None:
    for content_type in ("application/sdp", "Application/SDP; charset=utf-8"):
        request = ask(content_type, OFFER.encode())
        assert (request.offer, request.session) == (OFFER, {})


def test_the_model_may_stand_in_the_address() -> None:
    assert ask("application/sdp", b"v=0", model="parrot").session == {"model": "parrot"}
    body = form(sdp=b"v=0", session=b'{"model": "tone"}')
    assert ask("multipart/form-data; boundary=x", body, model="parrot").session == {"model": "tone"}


def test_a_form_brings_a_session() -> None:
    body = form(sdp=OFFER.encode(), session=b'{"type": "realtime", "audio": {"output": {"voice": "x"}}}')
    request = ask("multipart/form-data; boundary=x", body)
    assert request.offer == OFFER
    assert request.session == {"type": "realtime", "audio": {"output": {"voice": "x"}}}
    assert ask("multipart/form-data; boundary=x", form(sdp=b"v=0")).session == {}
    assert ask("multipart/form-data; boundary=x", form(sdp=b"v=0", session=b"")).session == {}


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "multipart/mixed; boundary=x"])
def test_another_content_type_is_415(kind: str) -> None:
    error = refused(kind, b"v=0")
    assert (error.status, error.code) == (415, "unsupported_content_type")
    assert "application/sdp or multipart/form-data" in str(error)


def test_an_empty_offer_and_one_that_is_no_text_are_bad_sdp() -> None:
    assert refused("application/sdp", b" \r\n").code == "bad_sdp"
    error = refused("application/sdp", b"v=0\r\no=- 1\r\ns=\xff\r\n")
    assert (error.code, error.line, error.param) == ("bad_sdp", 3, "sdp")
    assert refused("multipart/form-data; boundary=x", form(sdp=b"")).code == "bad_sdp"
    assert refused("multipart/form-data; boundary=x", form(session=b"{}")).param == "sdp"


@pytest.mark.parametrize("session", [b"{", b"[]", b'"x"', b"\xff", b'{"a": NaN}', b"[" * 50_000])
def test_a_session_that_is_no_object_is_refused(session: bytes) -> None:
    error = refused("multipart/form-data; boundary=x", form(sdp=b"v=0", session=session))
    assert (error.status, error.code, error.param) == (400, "bad_session", "session")


def test_the_request_speaks_over_the_key() -> None:
    of_key = {"model": "parrot", "instructions": "from the server"}
    assert merge_sessions(of_key, {"model": "tone"}) == {"model": "tone", "instructions": "from the server"}
    assert merge_sessions(None, {}) == {}
    assert of_key == {"model": "parrot", "instructions": "from the server"}
