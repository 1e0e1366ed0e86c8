"""Echo: every packet comes back as it went, nothing is decoded."""

from pyfastpath.transceiver.agents.echo import Echo
from tests.support.listening import Line, encoded, packet
from tests.support.speech import likeness, speech


def test_packets_come_back_as_they_went_at_once() -> None:
    line = Line(Echo())
    packets = encoded(speech(24_000)[:48_000])
    line.stream(packets)
    assert [payload for _, payload, _, _ in line.sent] == packets
    assert [round((at_s - 1000.0) / 0.02, 3) for at_s, *_ in line.sent] == list(range(len(packets)))
    assert [timestamp for *_, timestamp, _ in line.sent] == [960 * n for n in range(len(packets))]
    assert [marker for *_, marker in line.sent] == [True] + [False] * (len(packets) - 1)
    assert likeness(line.heard_back(), speech(24_000)[:47_000], within=480)[0] > 0.9


def test_a_lost_packet_comes_back_as_a_silence_of_its_length() -> None:
    line = Line(Echo())
    line.stream([b"\x78a", b"\x78b", None, b"\x78d", b"\x78e"])
    line.run(0.1)
    assert [(payload, timestamp) for _, payload, timestamp, _ in line.sent] == [
        (b"\x78a", 0),
        (b"\x78b", 960),
        (b"\x78d", 2880),
        (b"\x78e", 3840),
    ]


def test_no_response_is_made_of_it() -> None:
    line = Line(Echo())
    number = line.stream([b"\x78x"] * 50, level=-20)
    line.hear(packet(number, b"\x78x"), -70)
    assert not Echo.takes_turns
    assert line.pipeline.get_timer() is not None  # the gate's, which is open
    line.run(1.0)
    assert line.pipeline.get_timer() is None
