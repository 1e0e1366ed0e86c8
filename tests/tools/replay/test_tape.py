"""A capture read as a replay reads it: surveyed, read again the same, limited, padded; nothing playable is an
error."""

from pathlib import Path

import pytest

from pyfastpath.errors import ConfigError, PcapError
from pyfastpath.tools.replay.calls import NO_CALL
from pyfastpath.tools.replay.credentials import Credentials, parse_credentials
from pyfastpath.tools.replay.tape import Line, Tape
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from tests.support.crafted import write

PCAPS = Path(__file__).parents[2] / "pcaps"
CLIENT, SERVER = Endpoint.parse("192.0.2.2:4000"), Endpoint.parse("10.0.0.1:40000")
REQUEST = stun.build_binding_request(bytes(12), b"serv:clnt", key=b"password")
SUCCESS = stun.build_binding_success(bytes(12), CLIENT, key=b"password")
RTP = b"\x80\x6f" + bytes(range(170))


@pytest.mark.parametrize("preload", [False, True], ids=["streamed", "preloaded"])
def test_the_survey_and_every_reading_agree(preload: bool) -> None:
    file = PCAPS / "wrtc-12-clients.pcap"
    credentials = parse_credentials(file.with_suffix(".jsonl").read_text().splitlines())
    tape = Tape(file, credentials, preload=preload)
    survey = tape.survey
    assert (len(survey.calls), survey.datagrams, survey.frames) == (12, 13_502, 13_502)
    assert (survey.signed, survey.unsigned, survey.skipped) == (216, 0, {})
    assert survey.duration_s == pytest.approx(11.117365)
    first, second = list(tape.lines()), list(tape.lines())
    assert [line[:4] for line in first] == [line[:4] for line in second]
    assert [line.frame for line in first] == list(range(1, 13_503))
    assert len(survey.calls) == 12  # reading again found nothing twice
    flows = [flow for call in survey.calls for flow in call.flows]
    assert sum(flow.up + flow.down for flow in flows) == 13_502


def test_a_preloaded_capture_may_go_away(tmp_path: Path) -> None:
    file = write(tmp_path / "calls.pcapng", (CLIENT, SERVER, REQUEST), (SERVER, CLIENT, SUCCESS))
    tape = Tape(file, Credentials(), preload=True)
    file.unlink()
    assert len(list(tape.lines())) == 2


def test_a_limit_counts_what_is_played(tmp_path: Path) -> None:
    file = write(
        tmp_path / "calls.pcapng", (CLIENT, SERVER, RTP), (CLIENT, SERVER, REQUEST), (SERVER, CLIENT, SUCCESS)
    )
    tape = Tape(file, Credentials(), limit=1)
    assert (tape.survey.datagrams, tape.survey.frames, tape.survey.skipped) == (1, 2, {NO_CALL: 1})
    (line,) = tape.lines()
    assert (line.frame, line.payload) == (2, REQUEST)


def test_a_capture_of_headers_is_padded_to_its_lengths(tmp_path: Path) -> None:
    whole = [
        (CLIENT, SERVER, REQUEST),
        (SERVER, CLIENT, SUCCESS),
        (CLIENT, SERVER, RTP),
        (SERVER, CLIENT, RTP),
    ]
    keep = 28 + len(REQUEST)
    lines: list[Line] = list(Tape(write(tmp_path / "cut", *whole, keep=keep), Credentials()).lines())
    assert [len(line.payload) for line in lines] == [len(payload) for _, _, payload in whole]
    assert lines[2].payload == RTP[: len(REQUEST)].ljust(len(RTP), b"\0")
    assert [line.template is not None for line in lines] == [True, True, False, False]


def test_unknown_passwords_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "calls", (CLIENT, SERVER, REQUEST), (SERVER, CLIENT, SUCCESS))
    assert (Tape(file, Credentials()).survey.signed, Tape(file, Credentials()).survey.unsigned) == (0, 2)
    known = parse_credentials((), ["serv=password"])
    assert (Tape(file, known).survey.signed, Tape(file, known).survey.unsigned) == (2, 0)


def test_a_capture_without_packets_or_calls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PcapError, match="holds no packet at all"):
        Tape(write(tmp_path / "empty"), Credentials())
    with pytest.raises(PcapError, match="no WebRTC call that could be replayed: 1 frames, 1 of no call"):
        Tape(write(tmp_path / "media", (CLIENT, SERVER, RTP)), Credentials())


def test_damage_anywhere_is_found_before_anything_is_played(tmp_path: Path) -> None:
    file = write(tmp_path / "calls", (CLIENT, SERVER, REQUEST), (SERVER, CLIENT, SUCCESS))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(PcapError, match=r"ends inside .* at byte"):
        Tape(file, Credentials())


def test_a_file_that_changes_between_two_readings_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "call.pcap", (CLIENT, SERVER, REQUEST), (SERVER, CLIENT, SUCCESS))
    tape = Tape(file, Credentials())
    assert len(list(tape.lines())) == 2
    with file.open("ab") as more:
        more.write(bytes(3))
    with pytest.raises(ConfigError, match=r"call\.pcap changed while it was replayed"):
        tape.lines()
    file.unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*call\.pcap: No such file"):
        tape.lines()


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot read /proc/self/mem: Input/output error"):
        Tape(Path("/proc/self/mem"), Credentials())
