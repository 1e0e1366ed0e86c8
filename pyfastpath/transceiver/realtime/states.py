"""Whose turn it is, as two small tables: one for the user, one for the agent's response.

They are apart because both may speak at once. What has no entry does not happen in that state: it is ignored,
which is how a late frame or a late `finish` of an agent that was cut off does no harm.

    response:  IDLE ──respond──▶ THINKING ──sound──▶ PLAYING ──finish──▶ ENDING ──played──▶ IDLE
                                    └──── cut ────────┴────── cut ────────┴─▶ CUT ──cleared──▶ IDLE
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class User(Enum):
    """What the gate last heard."""

    SILENT = "silent"
    SPEAKING = "speaking"


class Response(Enum):
    """How far the response under way is."""

    IDLE = "idle"  # there is none
    THINKING = "thinking"  # the agent was asked, nothing of it is to be heard yet
    PLAYING = "playing"  # its first frame has left
    ENDING = "ending"  # the agent has finished; what is queued is still being played
    CUT = "cut"  # it was interrupted; how much of it was played is not known yet


class Happening(Enum):
    """What may change a state."""

    SPEECH_STARTED = "speech_started"
    SPEECH_STOPPED = "speech_stopped"
    LISTENING_OFF = "listening_off"  # turn detection was switched off
    RESPOND = "respond"
    SOUND = "sound"  # the first frame of something leaves
    FINISH = "finish"  # the agent has no more
    PLAYED = "played"  # and all of it has been played
    CUT = "cut"
    CLEARED = "cleared"


USER: Final = {
    User.SILENT: {Happening.SPEECH_STARTED: User.SPEAKING},
    User.SPEAKING: {
        Happening.SPEECH_STOPPED: User.SILENT,
        Happening.LISTENING_OFF: User.SILENT,
    },
}

RESPONSE: Final = {
    Response.IDLE: {
        Happening.RESPOND: Response.THINKING,
        Happening.SOUND: Response.PLAYING,  # an agent that speaks without having been asked: a greeting
    },
    Response.THINKING: {
        Happening.SOUND: Response.PLAYING,
        Happening.FINISH: Response.ENDING,
        Happening.CUT: Response.CUT,
    },
    Response.PLAYING: {
        Happening.FINISH: Response.ENDING,
        Happening.PLAYED: Response.IDLE,  # a greeting's finish came before its first frame left
        Happening.CUT: Response.CUT,
    },
    Response.ENDING: {
        Happening.SOUND: Response.ENDING,
        Happening.PLAYED: Response.IDLE,
        Happening.CUT: Response.CUT,
    },
    Response.CUT: {Happening.CLEARED: Response.IDLE},
}


class Turn:
    """Where user and response stand. `happen` says whether it could happen, and if so has it happened."""

    def __init__(self) -> None:
        self.user = User.SILENT
        self.response = Response.IDLE

    def happen(self, happening: Happening) -> bool:
        """Take the step, if there is one from here."""
        user = USER[self.user].get(happening)
        response = RESPONSE[self.response].get(happening)
        self.user = user or self.user
        self.response = response or self.response
        return user is not None or response is not None
