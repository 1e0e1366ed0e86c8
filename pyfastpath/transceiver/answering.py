"""From an offer to a session and its answer. Pure: randomness, clock offset and agents are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.certificate import Certificate
from pyfastpath.transceiver.connection import Connection
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.dialogue import Dialogue
from pyfastpath.transceiver.ice import Credentials
from pyfastpath.transceiver.pipeline import Pipeline
from pyfastpath.transceiver.realtime.bridge import BridgeDialogue
from pyfastpath.transceiver.realtime.events import EventError
from pyfastpath.transceiver.realtime.turns import TurnDialogue
from pyfastpath.transceiver.requests import CreateSession, SessionError
from pyfastpath.transceiver.session import Session
from pyfastpath.types import NESTING_MAX, Endpoint, is_deeper_than
from pyfastpath.wire.answer import build_answer, build_fragment, parse_fragment, setup_for
from pyfastpath.wire.offer import Offer, OfferError, parse_offer
from pyfastpath.wire.sdp import Candidate, host_candidates
from pyfastpath.wire.stun import is_ufrag

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PASSWORD_CHARACTERS: Final = 24  # 142 bits; RFC 8445, section 5.3, asks for 128
ID_CHARACTERS: Final = 20
SSRC_MIN: Final = 256  # 0 and small numbers confuse debuggers and some stacks


@dataclass(slots=True)
class Made:
    """A session, the offer it was made from, and its newest answer. `version` rises with each answer."""

    session: Session
    offer: Offer
    answer: str
    session_id: int
    version: int = 1

    @property
    def is_client(self) -> bool:
        """Our role in DTLS."""
        return setup_for(self.offer.setup) == "active"


class Answering:
    """What all sessions of a process have in common.

    entropy: n -> n random bytes. agents: makes the agent for a session object; SessionError when it cannot.
    ntp_offset_s: wall clock minus the monotonic clock the sessions live by. longest_s: no call is longer.
    """

    def __init__(
        self,
        *,
        certificate: Certificate,
        counters: Counters,
        entropy: Callable[[int], bytes],
        agents: Callable[[Mapping[str, Any]], Agent],
        ntp_offset_s: float,
        longest_s: float,
    ) -> None:
        self._certificate = certificate
        self._counters = counters
        self._entropy = entropy
        self._agents = agents
        self._ntp_offset_s = ntp_offset_s
        self._longest_s = longest_s

    def answer(self, request: CreateSession, now: float, woken: Callable[[], None]) -> Made:
        """A new session. SessionError: what is wrong with the offer or with the session object."""
        _check_ufrag(request.ufrag)
        offer = _parsed(request.offer)
        agent = self._agents(request.session)
        password = self._random_text(PASSWORD_CHARACTERS)
        connection = Connection(
            offer,
            Credentials(request.ufrag, password, offer.ice_ufrag, offer.ice_pwd),
            certificate=self._certificate,
            entropy=self._entropy,
            counters=self._counters,
            ssrc=SSRC_MIN + int.from_bytes(self._entropy(4), "big") % (2**32 - SSRC_MIN),
            ntp_offset_s=self._ntp_offset_s,
        )
        session = Session(
            connection,
            Pipeline(
                agent,
                offer.audio,
                counters=self._counters,
                timestamp=int.from_bytes(self._entropy(4), "big"),
            ),
            self._dialogue(agent, request.session),
            agent,
            offer=offer,
            counters=self._counters,
            longest_s=self._longest_s,
            now=now,
            woken=woken,
        )
        made = Made(session, offer, "", int.from_bytes(self._entropy(8), "big") >> 1)
        made.answer = self._build(made, request.ufrag, password, request.candidates)
        return made

    def restart(self, made: Made, ufrag: str, body: str, candidates: tuple[Endpoint, ...]) -> str:
        """ICE restart by a whole offer or by a fragment (RFC 8840); the answer is of the same kind."""
        _check_ufrag(ufrag)
        password = self._random_text(PASSWORD_CHARACTERS)
        if body.startswith("v=0"):
            offer = _parsed(body)
            _check_same(offer, made.offer)
            remote = offer.ice_ufrag, offer.ice_pwd
        else:
            remote = _parsed_fragment(body)
        made.session.connection.restart(Credentials(ufrag, password, *remote))
        if body.startswith("v=0"):
            made.version += 1
            made.answer = self._build(made, ufrag, password, candidates)
            return made.answer
        return build_fragment(made.offer, ufrag=ufrag, pwd=password, candidates=_hosts(candidates))

    def _build(self, made: Made, ufrag: str, password: str, candidates: tuple[Endpoint, ...]) -> str:
        return build_answer(
            made.offer,
            ufrag=ufrag,
            pwd=password,
            fingerprint=self._certificate.fingerprint,
            setup=setup_for(made.offer.setup),
            candidates=_hosts(candidates),
            ssrc=made.session.connection.ssrc,
            session_id=made.session_id,
            version=made.version,
        )

    def _dialogue(self, agent: Agent, wanted: Mapping[str, Any]) -> Dialogue:
        if is_deeper_than(NESTING_MAX, wanted):
            raise SessionError(
                f"the session is nested deeper than {NESTING_MAX} levels.", "Flatten it.", code="bad_session"
            )
        kind = BridgeDialogue if agent.owns_conversation else TurnDialogue
        try:
            return kind(session=dict(wanted), ids=self._new_id, takes_turns=agent.takes_turns)
        except EventError as error:
            raise SessionError(error.message, error.hint, code="bad_session") from None

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{self._random_text(ID_CHARACTERS)}"

    def _random_text(self, characters: int) -> str:
        """Letters and digits: SDP tools mangle the rest. 256 is no multiple of 62: 0.1 bit less each."""
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in self._entropy(characters))


def _hosts(candidates: tuple[Endpoint, ...]) -> tuple[Candidate, ...]:
    return host_candidates((str(one.address), one.port) for one in candidates)


def _check_ufrag(ufrag: str) -> None:
    if not is_ufrag(ufrag.encode()):
        raise SessionError(
            f"ufrag {ufrag!r} is not 4 to 256 letters, digits, + or /.", "Mint a token.", code="bad_request"
        )


def _parsed(text: str) -> Offer:
    try:
        return parse_offer(text)
    except OfferError as error:
        raise SessionError(error.message, error.hint, code=error.code, line=error.line) from None


def _check_same(offer: Offer, first: Offer) -> None:
    """An ICE restart changes the network's part of a call, and nothing else (RFC 8445, section 9)."""
    if set(offer.fingerprints) != set(first.fingerprints):
        raise SessionError(
            "a=fingerprint is another one than at the beginning of the call.",
            "Restart ICE on the same connection, or make a new call.",
            code="bad_fingerprint",
        )
    if [(one.mid, one.kind) for one in offer.media] != [(one.mid, one.kind) for one in first.media]:
        raise SessionError(
            "the media sections are others than at the beginning of the call.",
            "Only ICE can be restarted; make a new call.",
            code="bad_sdp",
        )


def _parsed_fragment(text: str) -> tuple[str, str]:
    try:
        found = parse_fragment(text)
    except OfferError as error:
        raise SessionError(error.message, error.hint, code=error.code, line=error.line) from None
    if found is None:
        raise SessionError(
            "the fragment has no a=ice-ufrag and a=ice-pwd.",
            "An ICE restart brings both; trickled candidates need no answer.",
            code="bad_sdp",
        )
    return found
