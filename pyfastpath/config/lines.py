"""Which line of a TOML file a value stands on. tomllib reads values but forgets lines; an error needs both.

The scanner may assume valid TOML: tomllib has read the same text before.
"""

import json
from collections.abc import Mapping

Path = tuple[str | int, ...]

_BARE_END = ",]}#\n"


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.position = 0
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}  # array of tables -> elements so far

    @property
    def next(self) -> str:
        return self.text[self.position : self.position + 1]

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1

    def skip(self, newlines: bool = True) -> None:
        """Over white space and comments, and over line ends where they mean nothing."""
        while self.next:
            if self.next == "#":
                end = self.text.find("\n", self.position)
                self.position = len(self.text) if end < 0 else end
            elif self.next in " \t" or (newlines and self.next == "\n"):
                self.position += 1
            else:
                return

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self.skip()
        while self.next:
            table = self.header() if self.next == "[" else self.assignment(table)
            self.skip()
        return self.lines

    def header(self) -> Path:
        """`[table]` or `[[array of tables]]`; returns the path that following keys belong to."""
        line = self.line
        brackets = 2 if self.text.startswith("[[", self.position) else 1
        self.position += brackets
        parts = self.key()
        self.skip(newlines=False)
        self.position += brackets
        path: Path = ()
        for number, part in enumerate(parts):
            path += (part,)
            if brackets == 2 and number == len(parts) - 1:
                self.counts[path] = self.counts.get(path, 0) + 1
                self.lines.setdefault(path, line)
            if path in self.counts:
                path += (self.counts[path] - 1,)
        self.lines[path] = line
        return path

    def assignment(self, table: Path) -> Path:
        line = self.line
        path = table + self.key()
        self.lines[path] = line
        self.skip(newlines=False)
        self.position += 1  # '='
        self.skip(newlines=False)
        self.value(path)
        return table

    def key(self) -> tuple[str, ...]:
        """A bare, quoted or dotted key."""
        parts: list[str] = []
        while True:
            self.skip(newlines=False)
            if self.next in "\"'":
                parts.append(self.quoted())
            else:
                start = self.position
                while self.next and (self.next.isalnum() or self.next in "-_"):
                    self.position += 1
                parts.append(self.text[start : self.position])
            self.skip(newlines=False)
            if self.next != ".":
                return tuple(parts)
            self.position += 1

    def quoted(self) -> str:
        """A string of any of the four kinds; returns its text (escapes read where JSON knows them)."""
        quote = self.next
        fence = quote * 3 if self.text.startswith(quote * 3, self.position) else quote
        start = self.position + len(fence)
        end = start
        while not self.text.startswith(fence, end):
            end += 2 if quote == '"' and self.text[end] == "\\" else 1
        while len(fence) == 3 and self.text.startswith(quote, end + 3):
            end += 1  # up to two quotes may stand before the closing three
        self.position = end + len(fence)
        raw = self.text[start:end]
        if fence != '"':
            return raw
        try:
            return str(json.loads(f'"{raw}"'))
        except ValueError:
            return raw

    def value(self, path: Path) -> None:
        if self.next == "[":
            self.array(path)
        elif self.next == "{":
            self.inline_table(path)
        elif self.next in "\"'":
            self.quoted()
        else:
            while self.next and self.next not in _BARE_END:
                self.position += 1

    def array(self, path: Path) -> None:
        self.position += 1
        self.skip()
        index = 0
        while self.next != "]":
            self.lines[(*path, index)] = self.line
            self.value((*path, index))
            index += 1
            self.skip()
            if self.next == ",":
                self.position += 1
                self.skip()
        self.position += 1

    def inline_table(self, path: Path) -> None:
        self.position += 1
        self.skip()
        while self.next != "}":
            self.assignment(path)
            self.skip()
            if self.next == ",":
                self.position += 1
                self.skip()
        self.position += 1


def line_map(text: str) -> dict[Path, int]:
    """Path of every key and array element of a valid TOML text -> its line, counted from 1."""
    return _Scanner(text).document()


def find_line(lines: Mapping[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest thing around it that has one; 0 when nothing has."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 0
