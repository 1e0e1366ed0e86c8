"""The STUN probe of a plain backend, against a server that answers and then does not."""

import threading
from collections.abc import Iterator

import pytest

from pyfastpath.relay.relay import Relay
from pyfastpath.wire.stun import build_message, parse_message
from tests.relay.conftest import MakeConfig
from tests.support.plain_call import endpoint_text, udp_end
from tests.support.rig import until

BINDING_ERROR = 0x0111


class StunServer:
    """Answers every Binding Request with an error response, as servers do that know no such ufrag."""

    def __init__(self) -> None:
        self.socket = udp_end()
        self.socket.settimeout(0.05)
        self.requests: list[bytes] = []
        self.silent = threading.Event()
        self.foreign = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                request, source = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            self.requests.append(request)
            transaction = bytes(12) if self.foreign else request[8:20]
            if not self.silent.is_set():
                self.socket.sendto(build_message(BINDING_ERROR, transaction, []), source)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.socket.close()


@pytest.fixture
def stun() -> Iterator[StunServer]:
    server = StunServer()
    yield server
    server.close()


@pytest.fixture
def relay(make_config: MakeConfig, stun: StunServer) -> Iterator[Relay]:
    backends = [{"id": "a", "address": endpoint_text(stun.socket), "probe": True}]
    with Relay(make_config(backends=backends)) as running:
        yield running


def state(relay: Relay) -> str:
    return str(relay.backends.list()[0]["state"])


def test_an_answer_of_any_kind_means_life_and_silence_does_not(relay: Relay, stun: StunServer) -> None:
    until(lambda: len(stun.requests) >= 2, "two probes")
    assert state(relay) == "up"
    assert len({request[8:20] for request in stun.requests}) == len(stun.requests)
    stun.silent.set()
    until(lambda: state(relay) == "down", "down after three seconds of silence", 8)
    stun.silent.clear()
    until(lambda: state(relay) == "up", "up again")


def test_an_answer_to_somebody_elses_question_does_not_count(relay: Relay, stun: StunServer) -> None:
    stun.foreign = True
    until(lambda: state(relay) == "down", "down although datagrams arrive", 8)


def test_a_probe_is_plain_stun(relay: Relay, stun: StunServer) -> None:
    until(lambda: bool(stun.requests), "a probe")
    assert len(stun.requests[0]) == 20
    assert stun.requests[0][:2] == b"\0\1"
    with pytest.raises(Exception, match="USERNAME"):
        parse_message(stun.requests[0])  # the relay would refuse it: a probe is never mistaken for a client


def test_a_backend_that_leaves_is_asked_no_more(relay: Relay, stun: StunServer) -> None:
    until(lambda: bool(stun.requests), "a probe")
    relay.backends.remove("a")
    until(lambda: relay.call(lambda control: control.registry.retired) == [], "released", 8)
    count = len(stun.requests)
    threading.Event().wait(1.5)
    assert len(stun.requests) == count


def test_an_unreachable_backend_is_down(make_config: MakeConfig) -> None:
    with udp_end() as free:
        where = endpoint_text(free)
    with Relay(make_config(backends=[{"id": "a", "address": where, "probe": True}])) as relay:
        until(lambda: state(relay) == "down", "nobody there", 8)
