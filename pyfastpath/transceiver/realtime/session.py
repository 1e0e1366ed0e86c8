"""The session object: what `session.update` may say, checked, merged and shown.

Fields nobody here knows are kept and shown: they may mean something to the agent. Keys of the beta interface
(`turn_detection`, `voice`, … at the top) are taken as their present ones.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from pyfastpath.transceiver.realtime.events import EventError, Json, check

Duration = Annotated[int, msgspec.Meta(ge=0, le=60_000)]


class AudioFormat(msgspec.Struct):
    """Accepted as the libraries send it; over WebRTC audio is Opus whatever it says."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: int | None = None


class ServerVad(msgspec.Struct, tag_field="type", tag="server_vad"):
    """The energy gate, or whatever detects speech in its place, with its documented defaults."""

    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Duration = 300
    silence_duration_ms: Duration = 500
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(msgspec.Struct, tag_field="type", tag="semantic_vad"):
    """Turn detection by meaning; here it is the same gate."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


class NoiseReduction(msgspec.Struct):
    """For an agent that wants it."""

    type: Literal["near_field", "far_field"]


class Transcription(msgspec.Struct):
    """For an agent that transcribes."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class AudioInput(msgspec.Struct):
    """What the user says."""

    format: AudioFormat | msgspec.UnsetType = msgspec.UNSET
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: ServerVad | SemanticVad | None = None


class AudioOutput(msgspec.Struct):
    """What the agent says."""

    format: AudioFormat | msgspec.UnsetType = msgspec.UNSET
    voice: str | Json | None = None
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=1.5)] = 1.0


class Audio(msgspec.Struct):
    """Both directions."""

    input: AudioInput | msgspec.UnsetType = msgspec.UNSET
    output: AudioOutput | msgspec.UnsetType = msgspec.UNSET


class SessionFields(msgspec.Struct):
    """The fields whose types are checked."""

    type: Literal["realtime"] = "realtime"
    model: str | None = None
    instructions: str | None = None
    output_modalities: list[Literal["audio", "text"]] | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | Literal["inf"] | None = None
    audio: Audio | msgspec.UnsetType = msgspec.UNSET
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    tracing: Literal["auto"] | Json | None = None
    prompt: Json | None = None
    truncation: str | Json | None = None
    include: list[str] | None = None
    temperature: float | None = None


# Beta key -> where it stands today.
BETA_KEYS: Final = {
    "modalities": ("output_modalities",),
    "max_response_output_tokens": ("max_output_tokens",),
    "input_audio_format": ("audio", "input", "format"),
    "input_audio_noise_reduction": ("audio", "input", "noise_reduction"),
    "input_audio_transcription": ("audio", "input", "transcription"),
    "turn_detection": ("audio", "input", "turn_detection"),
    "output_audio_format": ("audio", "output", "format"),
    "voice": ("audio", "output", "voice"),
    "speed": ("audio", "output", "speed"),
}
BETA_FORMATS: Final = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
OURS: Final = frozenset(
    {"id", "object", "expires_at"}
)  # a client that sends our object back changes none of it
SESSION_BYTES_MAX: Final = 256 * 1024
MERGED: Final = frozenset({"audio", "input", "output"})  # objects of which an update may name a part


def default_session(session_id: str) -> Json:
    """The session object before the client said anything."""
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": "fastpath",
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
        "audio": {
            "input": {
                "format": BETA_FORMATS["pcm16"],
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": msgspec.to_builtins(ServerVad()),
            },
            "output": {"format": BETA_FORMATS["pcm16"], "speed": 1.0},
        },
    }


def update_session(session: Json, update: Json) -> Json:
    """A new session object: `session` with what `update` names. Raises EventError naming the parameter."""
    wanted = {key: value for key, value in from_beta(update).items() if key not in OURS}
    try:
        fields = check(wanted, SessionFields, inside="session")
    except EventError as error:
        raise _as_sent(error, update) from None
    if fields.audio and fields.audio.input and fields.audio.input.turn_detection:
        defaults = msgspec.to_builtins(fields.audio.input.turn_detection)
        whole = defaults | wanted["audio"]["input"]["turn_detection"]
        wanted = _merged(wanted, {"audio": {"input": {"turn_detection": whole}}})
    result = _merged(session, wanted)
    if len(msgspec.json.encode(result)) > SESSION_BYTES_MAX:
        raise EventError(
            "session_too_large", f"A session object has at most {SESSION_BYTES_MAX} bytes", param="session"
        )
    return result


def _as_sent(error: EventError, update: Json) -> EventError:
    """The refusal with the parameter's name as the client wrote it, which may be the beta interface's."""
    for key, place in BETA_KEYS.items():
        today = ".".join(("session", *place))
        if key in update and error.param is not None and (error.param + ".").startswith(today + "."):
            param = f"session.{key}{error.param.removeprefix(today)}"
            return EventError(error.code, error.message.replace(error.param, param), param=param)
    return error


def turn_detection(session: Json) -> ServerVad | SemanticVad | None:
    """How turns are found; None: the client says when its turn is over."""
    found: Any = session["audio"]["input"]["turn_detection"]
    return msgspec.convert(found, ServerVad | SemanticVad) if found else None


def _merged(base: Json, change: Json) -> Json:
    """`base` with `change` in it; neither is changed. Below MERGED keys part by part, else whole values."""
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        if key in MERGED and isinstance(old, dict) and isinstance(value, dict):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def from_beta(update: Json) -> Json:
    """`update` with the beta interface's keys moved to where they stand today."""
    result = {key: value for key, value in update.items() if key not in BETA_KEYS}
    for key, place in BETA_KEYS.items():
        if key in update:
            value = update[key]
            if key == "modalities" and isinstance(value, list) and "audio" in value:
                value = ["audio"]
            if place[-1] == "format" and isinstance(value, str):
                value = BETA_FORMATS.get(value, value)
            for name in reversed(place):
                value = {name: value}
            result = _merged(result, value)
    return result
