"""What the gateway refuses, in the shape OpenAI's client libraries read.

`{"error": {"type", "code", "message", "param"}}`; a refused offer adds "line", counted from 1.
"""

from typing import Any, Final

from pyfastpath.errors import FastpathError

_BY_CODE: Final = {
    "bad_request": (400, "invalid_request_error"),
    "bad_sdp": (400, "invalid_request_error"),
    "bad_session": (400, "invalid_request_error"),
    "unauthorized": (401, "authentication_error"),
    "expired_key": (401, "authentication_error"),
    "forbidden": (403, "invalid_request_error"),
    "not_found": (404, "invalid_request_error"),
    "unknown_call": (404, "invalid_request_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "too_slow": (408, "invalid_request_error"),
    "conflict": (409, "invalid_request_error"),
    "precondition_failed": (412, "invalid_request_error"),
    "too_large": (413, "invalid_request_error"),
    "unsupported_content_type": (415, "invalid_request_error"),
    "precondition_required": (428, "invalid_request_error"),
    "rate_limited": (429, "rate_limit_error"),
    "too_many_streams": (429, "rate_limit_error"),
    "internal": (500, "server_error"),
    "transceiver_failed": (502, "server_error"),
    "no_capacity": (503, "server_error"),
    "draining": (503, "server_error"),
    "transceiver_unreachable": (503, "server_error"),
}
"""HTTP status and error type by code. A code not named here (a transceiver's word on an offer) is a 400."""


class CallError(FastpathError):
    """A request that is refused. `code` decides status and type; `why` is for the log alone."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        code: str,
        param: str | None = None,
        line: int | None = None,
        retry_after_s: int | None = None,
        why: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.code = code
        self.param = param
        self.line = line
        self.retry_after_s = retry_after_s
        self.why = why

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _BY_CODE.get(self.code, (400, ""))[0]

    @property
    def kind(self) -> str:
        """The error's type, one of OpenAI's."""
        return _BY_CODE.get(self.code, (400, "invalid_request_error"))[1]

    def body(self) -> dict[str, Any]:
        """What is sent as JSON."""
        error: dict[str, Any] = {
            "type": self.kind,
            "code": self.code,
            "message": str(self),
            "param": self.param,
        }
        if self.line is not None:
            error["line"] = self.line
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """What goes with it: when to come back, and how to ask with a key."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="fastpath"'
        return headers
