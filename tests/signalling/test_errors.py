"""Errors have the shape and the types OpenAI's client libraries read."""

import pytest

from pyfastpath.signalling.errors import CallError


def test_an_error_is_type_code_message_and_param() -> None:
    error = CallError("the offer is empty", "Send one.", code="bad_sdp", param="sdp")
    assert error.status == 400
    assert error.body() == {
        "error": {
            "type": "invalid_request_error",
            "code": "bad_sdp",
            "message": "the offer is empty. Send one.",
            "param": "sdp",
        }
    }
    assert error.headers() == {}


def test_a_refused_offer_names_the_line() -> None:
    assert CallError("no Opus", code="no_opus", line=7).body()["error"]["line"] == 7


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("unauthorized", 401, "authentication_error"),
        ("expired_key", 401, "authentication_error"),
        ("unknown_call", 404, "invalid_request_error"),
        ("too_slow", 408, "invalid_request_error"),
        ("precondition_failed", 412, "invalid_request_error"),
        ("too_large", 413, "invalid_request_error"),
        ("unsupported_content_type", 415, "invalid_request_error"),
        ("precondition_required", 428, "invalid_request_error"),
        ("rate_limited", 429, "rate_limit_error"),
        ("no_capacity", 503, "server_error"),
        ("draining", 503, "server_error"),
        ("no_audio", 400, "invalid_request_error"),
        ("something_a_newer_transceiver_says", 400, "invalid_request_error"),
    ],
)
def test_the_code_decides_status_and_type(code: str, status: int, kind: str) -> None:
    error = CallError("x", code=code)
    assert (error.status, error.kind) == (status, kind)


def test_when_to_come_back_and_how_to_ask_are_headers() -> None:
    assert CallError("x", code="no_capacity", retry_after_s=2).headers() == {"Retry-After": "2"}
    assert CallError("x", code="unauthorized").headers()["WWW-Authenticate"].startswith("Bearer")
