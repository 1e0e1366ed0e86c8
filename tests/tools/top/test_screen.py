"""The screen on a real relay with a real call through it, in the smallest terminal it promises."""

import socket
import threading

import pytest

from pyfastpath.cli import run
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.ports import free_port
from pyfastpath.tools.top.screen import Top
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.relay import running_relay


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """(relay, call): confirmed."""
    folder = tmp_path_factory.mktemp("relay")
    trunk_port = free_port(socket.SOCK_DGRAM, 2)
    with udp_end() as server:
        backends = [
            {"id": "a", "address": endpoint_text(server)},
            {"id": "b", "address": "127.0.0.1:5001", "mode": "trunk"},
        ]
        with running_relay(folder, backends=backends, trunk_port=trunk_port) as relay:
            relay.install("ufrag1", backend="a")
            with PlainCall(relay.listen, server, "ufrag1") as call:
                call.confirm()
                yield relay, call


def shown(app):
    lines = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def row(lines, name):
    (line,) = [line for line in lines if line.startswith(name)]
    return line.split()


async def test_a_call_is_seen_at_80_by_24(call):
    relay, plain = call

    def talk():
        for number in range(200):
            plain.exchange(number)
        plain.client.sendto(b"\xff", plain.relay)

    app = Top(AdminClient(str(relay.admin)), 0.25)
    async with app.run_test(size=(80, 24)) as pilot:
        while app.last is None:
            await pilot.pause(0.05)
        talking = threading.Thread(target=talk)
        talking.start()
        lines = shown(app)
        for _ in range(100):
            await pilot.pause(0.1)
            lines = shown(app)
            if any(line.startswith("forwarded in all  up 201 · down 201") for line in lines) and any(
                "not_webrtc" in line for line in lines
            ):
                break
        talking.join()
        assert len(lines) == 24
        assert "ready" in lines[0]
        assert "flows 1 +0" in lines[0]
        assert any(line.startswith("forwarded in all  up 201 · down 201") for line in lines)
        assert any("not_webrtc" in line for line in lines)
        assert row(lines, "a ")[:3] == ["a", "up", "plain"]
        assert row(lines, "b ")[:3] == ["b", "down", "trunk"]
        assert "quit" in lines[-1]


async def test_pause_holds_the_picture_and_q_ends(call):
    relay, _ = call
    app = Top(AdminClient(str(relay.admin)), 0.25)
    async with app.run_test(size=(80, 24)) as pilot:
        while app.last is None:
            await pilot.pause(0.05)
        await pilot.press("p")
        await pilot.pause(0.4)
        held = app.last
        assert "paused" in shown(app)[0]
        await pilot.pause(0.6)
        assert app.last is held
        assert "paused" in shown(app)[0]
        await pilot.press("p")
        for _ in range(50):
            await pilot.pause(0.1)
            if app.last is not held:
                break
        assert app.last is not held
        assert "paused" not in shown(app)[0]
        await pilot.press("plus")
        assert app.interval_s == 0.25
        await pilot.press("minus")
        assert app.interval_s == 0.5
        await pilot.press("q")
    assert app.return_code == 0


async def test_a_relay_that_went_away_is_said(call, tmp_path):
    relay, _ = call
    app = Top(AdminClient(str(relay.admin)), 0.25)
    async with app.run_test(size=(80, 24)) as pilot:
        while app.last is None:
            await pilot.pause(0.05)
        app.relay = AdminClient(str(tmp_path / "gone.sock"))
        for _ in range(50):
            await pilot.pause(0.1)
            if "no relay runs here" in shown(app)[0]:
                break
        assert "no relay runs here" in shown(app)[0]
        assert any(line.startswith("a ") for line in shown(app))


def test_nobody_there_and_no_terminal_are_errors(call, tmp_path, capsys):
    relay, _ = call
    assert run(["top", "--socket", str(tmp_path / "none.sock")]) == 3
    assert "no relay runs here" in capsys.readouterr().err
    assert run(["top", "--socket", str(relay.admin)]) == 2
    assert "needs a terminal" in capsys.readouterr().err
