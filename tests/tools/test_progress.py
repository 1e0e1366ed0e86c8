"""The live line: on a terminal only, never longer than it, gone at the end."""

import io

from pyfastpath.tools.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_each_text_in_the_place_of_the_one_before(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    with Progress(out) as progress:
        progress.show("first")
        progress.show("second, and longer than the terminal")
    assert out.getvalue() == "\r\x1b[Kfirst\r\x1b[Ksecond, and longer \r\x1b[K"


def test_a_pipe_sees_nothing():
    out = io.StringIO()
    with Progress(out) as progress:
        progress.show("first")
    assert out.getvalue() == ""
