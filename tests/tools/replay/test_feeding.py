"""Feeding a player more than it holds, and how it ends when reading fails or nothing comes out."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from fastpath.load.player import PlainEnd, Player

from pyfastpath.tools.replay import feeding
from pyfastpath.tools.replay.feeding import Cue, play
from pyfastpath.wire import stun

RING_BYTES = 1 << 16  # the least: a few hundred datagrams
REQUEST = stun.build_binding_request(bytes(12), b"serv:clnt")
MEDIA = b"\x80" + bytes(171)


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """A relay that forwards nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        yield end.getsockname()


@pytest.fixture
def through() -> Iterator[tuple[tuple[str, int], PlainEnd]]:
    """The least relay: what it gets from a client it hands to the end; there is only the way up."""
    end = PlainEnd(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as public:
        public.bind(("127.0.0.1", 0))
        public.settimeout(0.1)
        over = threading.Event()

        def forward() -> None:
            while not over.is_set():
                try:
                    public.sendto(public.recv(2048), end.address)
                except OSError:  # nothing came; or the end is closed, and the kernel says so here
                    continue

        thread = threading.Thread(target=forward)
        thread.start()
        yield public.getsockname(), end
        over.set()
        thread.join()


def cues(count: int) -> Iterator[Cue]:
    yield Cue(0, True, 0, REQUEST, [REQUEST], 1)
    for number in range(1, count):
        yield Cue(0, True, number * 1000, MEDIA + number.to_bytes(4, "big") + MEDIA, None, number + 1)


@pytest.mark.parametrize("speed", [0, 1.0], ids=["full-speed", "recorded"])
def test_far_more_than_the_ring_holds_is_played(through, speed: float) -> None:
    relay, end = through
    with closing(Player(relay, [end], sessions=1, speed=speed, ring_bytes=RING_BYTES)) as player:
        player.assign(0, 0, 0)
        assert play(player, cues(1500))
        up = player.counters()["up"]
        assert (up["sent"], up["delivered"], up["reordered"]) == (1500, 1500, 0)


@pytest.mark.parametrize("speed", [0, 1.0], ids=["full-speed", "recorded"])
@pytest.mark.parametrize("after", [5, 1000], ids=["before", "while"])
def test_what_reading_raises_ends_the_play(through, speed: float, after: int) -> None:
    def failing() -> Iterator[Cue]:
        yield from cues(after)
        raise OSError("the disk is gone")

    relay, end = through
    with closing(Player(relay, [end], sessions=1, speed=speed, ring_bytes=RING_BYTES)) as player:
        player.assign(0, 0, 0)
        with pytest.raises(OSError, match="the disk is gone"):
            play(player, failing())
    assert not [thread for thread in threading.enumerate() if thread.name == "replay-reader"]


@pytest.mark.parametrize("speed", [0, 1.0], ids=["full-speed", "recorded"])
def test_a_play_of_which_nothing_comes_out_is_left(
    silent: tuple[str, int], speed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other would be given up: after three silent slices the rest is left."""
    monkeypatch.setattr(feeding, "SLICE_MS", 200)
    end = PlainEnd(("127.0.0.1", 0))
    shown = []
    given = {"sessions": 1, "speed": speed, "ring_bytes": RING_BYTES, "give_up_ms": 50}
    with closing(Player(silent, [end], **given)) as player:
        player.assign(0, 0, 0)
        assert not play(player, cues(100_000), show=shown.append)
        assert player.counters()["up"]["delivered"] == 0
    assert len(shown) >= feeding.STALLED_SLICES
