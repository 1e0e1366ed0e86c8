"""Who may call: API keys of the configuration, and ephemeral keys `ek_…` for browsers.

An ephemeral key is a sealed text: its expiry and the session it opens are inside, so no gateway stores it.
"""

import hashlib
import hmac
import json
import zlib
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pyfastpath.errors import ConfigError
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.sealing import Sealer
from pyfastpath.types import NESTING_MAX, is_deeper_than

PREFIX: Final = "ek_"
LIFETIME_DEFAULT_S: Final = 600
LIFETIME_MIN_S: Final = 10
LIFETIME_MAX_S: Final = 7200
NONCE_BYTES: Final = 8
SECRET_CHARACTERS_MAX: Final = 24 << 10  # it travels in a header
_HEAD_BYTES: Final = 5 + NONCE_BYTES  # expiry (Unix seconds) and a nonce, so that no two keys are the same
_HINT: Final = "Send `Authorization: Bearer <key>`."


class ExpiresAfter(msgspec.Struct, frozen=True, kw_only=True):
    """When an ephemeral key ends: seconds after it was made."""

    anchor: Annotated[str, Meta(pattern="^created_at$")] = "created_at"
    seconds: Annotated[int, Meta(ge=LIFETIME_MIN_S, le=LIFETIME_MAX_S)] = LIFETIME_DEFAULT_S


class SecretRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /v1/realtime/client_secrets."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who asks. session: what an ephemeral key was made for; None for an API key or without any."""

    session: dict[str, Any] | None = None
    expires_s: int | None = None  # of an ephemeral key, Unix time
    is_known: bool = False  # an API key of the configuration, or an ephemeral key made here


class Keys:
    """Every key that is good here. Without API keys anybody may call, as on a developer's machine."""

    def __init__(self, api_keys: tuple[bytes, ...], call_key: bytes) -> None:
        if not all(api_keys):
            raise ConfigError("an API key is empty", "Remove it, or write one.", key="api_keys")
        self._digests = tuple(hashlib.sha256(key).digest() for key in api_keys)
        self._sealer = Sealer(call_key, "client secret")

    @property
    def are_required(self) -> bool:
        """Whether a request needs a key at all."""
        return bool(self._digests)

    def issue(self, request: SecretRequest, *, wall_s: int, nonce: bytes) -> tuple[str, int]:
        """(ek_…, expiry in Unix seconds). nonce: NONCE_BYTES fresh random bytes."""
        expires_s = wall_s + request.expires_after.seconds
        session = zlib.compress(json.dumps(request.session, separators=(",", ":")).encode())
        value = PREFIX + self._sealer.seal(expires_s.to_bytes(5, "big") + nonce + session)
        if len(value) > SECRET_CHARACTERS_MAX:
            raise CallError(
                f"the session makes a key of {len(value)} characters, at most {SECRET_CHARACTERS_MAX} fit",
                "Shorten instructions and tools, or send them by session.update.",
                code="bad_session",
                param="session",
            )
        return value, expires_s

    def check(self, authorization: str, *, wall_s: int, late: bool = False) -> Bearer:
        """Who an Authorization header names. CallError when it is missing but needed, wrong or expired.

        late: an ephemeral key that has expired is good still, to end a call that it has begun.
        """
        scheme, _, given = authorization.strip().partition(" ")
        given = given.strip()
        if not authorization.strip():
            if self.are_required:
                raise CallError("a key is needed", _HINT, code="unauthorized")
            return Bearer()
        if scheme.lower() != "bearer":
            raise CallError("the Authorization header has no bearer key", _HINT, code="unauthorized")
        if self._is_api_key(given):
            return Bearer(is_known=True)
        if given.startswith(PREFIX):
            return self._open(given, wall_s, late)
        if self.are_required:
            raise CallError("this key is not known here", _HINT, code="unauthorized")
        return Bearer()

    def _is_api_key(self, given: str) -> bool:
        """Compared as digests, and with every key, so that the time tells nothing."""
        digest = hashlib.sha256(given.encode(errors="surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def _open(self, given: str, wall_s: int, late: bool) -> Bearer:
        content = self._sealer.open(given.removeprefix(PREFIX))
        if content is None or len(content) < _HEAD_BYTES:
            raise CallError(
                "this ephemeral key was not made here",
                "Get one from POST /v1/realtime/client_secrets.",
                code="unauthorized",
            )
        expires_s = int.from_bytes(content[:5], "big")
        if wall_s > expires_s and not late:
            raise CallError(
                f"this ephemeral key expired {wall_s - expires_s} s ago", "Get a new one.", code="expired_key"
            )
        session: dict[str, Any] = json.loads(zlib.decompress(content[_HEAD_BYTES:]))
        return Bearer(session=session, expires_s=expires_s, is_known=True)


def parse_secret_request(body: bytes) -> SecretRequest:
    """The body of POST /v1/realtime/client_secrets; an empty one asks for the defaults."""
    try:
        wanted = msgspec.json.decode(body or b"{}", type=SecretRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = str(error).replace("`", "")
        param = message.rpartition("$.")[2] if "$." in message else None
        raise CallError(
            f"the body is not a request for a client secret: {message}",
            f"Send expires_after (seconds: {LIFETIME_MIN_S} to {LIFETIME_MAX_S}) and session, or neither.",
            code="bad_request",
            param=param,
        ) from None
    if is_deeper_than(NESTING_MAX, wanted.session):
        raise CallError(
            f"the session is nested deeper than {NESTING_MAX} levels",
            "Flatten it.",
            code="bad_session",
            param="session",
        )
    return wanted
