"""`make purity`: no GIL, no Python object and no hidden error path in the data plane's hot code.

Cython says little when a `nogil` function quietly becomes expensive or wrong: a callee without `noexcept`
costs 30 ns (the GIL is taken to look for an error) and is only a "performance hint"; a `raise` inside
`noexcept nogil` prints a line and returns 0, a wrong verdict. So this gate reads what Cython wrote:

  sources  every nogil function of ours is noexcept, and none raises
  C        the body of every noexcept nogil function holds no Py… or __Pyx… call and no error label
  gcc      -Wall -Wextra -Wconversion -Wsign-compare has nothing to say about our lines
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
GENERATED = ROOT / "build" / "release" / "c"
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-compare"]

# Names of CPython and of Cython's run time. Py_ssize_t is a type, and integer division helpers are C.
_PYTHON = re.compile(
    r"\b(?:Py[A-Z_]\w*|_Py\w+|__Pyx_\w+|__pyx_L\d+_error|__pyx_(?:lineno|clineno|filename))\b"
)
_HARMLESS = re.compile(r"Py_ssize_t|__Pyx_(?:div|mod|sst_abs|compile_time_check)\w*")
_DECLARATION = re.compile(
    r"^(?P<indent>\s*)(?:cdef|cpdef)\s+(?!class|struct|enum|union|packed|extern|object\b)"
)
_CLASS = re.compile(r"cdef class (\w+)")
_NAME = re.compile(r"(\w+)\s*\(")
_C_FUNCTION = re.compile(r"^[\w\s*]*?\b__pyx_f_(\w+)\(.*\) \{$", re.MULTILINE)
_C_LINE = re.compile(r'^\s*#line (\d+) "(.*)"$')


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One impure place, in terms of our source."""

    file: str
    line: int
    function: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.function}: {self.why}"


@dataclass(frozen=True, slots=True)
class Function:
    """One cdef function as it is declared in a .pxd or .pyx."""

    file: Path
    line: int
    name: str
    owner: str  # the cdef class it is a method of, or empty
    suffix: str  # what follows the parameters: "noexcept nogil:"
    body: tuple[str, ...]

    @property
    def c_name(self) -> str:
        """Cython's mangling: every part of package.module[.class].function after its length."""
        parts = [self.file.parent.name, self.file.stem, *([self.owner] if self.owner else [])]
        return "".join(f"{len(part)}{part}_" for part in parts) + self.name

    @property
    def nogil(self) -> bool:
        return re.search(r"\bnogil\b", self.suffix) is not None

    @property
    def noexcept(self) -> bool:
        return re.search(r"\bnoexcept\b", self.suffix) is not None


def functions(file: Path) -> Iterator[Function]:
    """Every cdef and cpdef function of a source, outside extern blocks (C functions cannot raise)."""
    lines = file.read_text().splitlines()
    extern_indent: int | None = None
    owner = ""
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() and extern_indent is not None and indent <= extern_indent:
            extern_indent = None
        if re.match(r"\s*cdef extern from", line):
            extern_indent = indent
        if line.strip() and not indent:
            owner = _CLASS.match(line)[1] if _CLASS.match(line) else ""
        if extern_indent is not None or not _DECLARATION.match(line):
            continue
        text, end = _joined(lines, number)
        head = text.split("(", maxsplit=1)[0]
        name = _NAME.search(text)
        if name is None or "=" in head:
            continue
        suffix = text[_closing(text, text.index("(")) + 1 :]
        body = []
        for inner in lines[end + 1 :]:
            if inner.strip() and len(inner) - len(inner.lstrip()) <= indent:
                break
            body.append(inner)
        yield Function(file, number + 1, name[1], owner, suffix.split("#")[0], tuple(body))


def _joined(lines: list[str], first: int) -> tuple[str, int]:
    """A declaration that may span lines: its text and the index of its last line."""
    text = lines[first]
    while text.count("(") > text.count(")") and first + 1 < len(lines):
        first += 1
        text += " " + lines[first].strip()
    return text, first


def _closing(text: str, opening: int) -> int:
    depth = 0
    for index in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text) - 1


def check_source(file: Path) -> Iterator[Violation]:
    """nogil without noexcept, and raise inside noexcept nogil."""
    for function in functions(file):
        if function.nogil and not function.noexcept:
            yield Violation(
                str(file),
                function.line,
                function.name,
                "nogil without noexcept: callers take the GIL to look for errors",
            )
        if function.nogil and function.noexcept:
            for offset, line in enumerate(function.body, start=1):
                if re.match(r"\s*(raise|assert)\b", line):
                    yield Violation(
                        str(file),
                        function.line + offset,
                        function.name,
                        f"{line.strip()!r} inside noexcept nogil",
                    )


def check_generated(c_file: Path, hot: Mapping[str, Function]) -> Iterator[Violation]:
    """Python inside the C bodies of the functions in `hot`, by C name."""
    text = c_file.read_text()
    for match in _C_FUNCTION.finditer(text):
        if match[1] not in hot:
            continue
        body = text[match.end() : text.index("\n}", match.end())]
        body = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), body, flags=re.DOTALL)
        file, line = str(c_file), 0
        for row in body.splitlines():
            place = _C_LINE.match(row)
            if place:
                line, file = int(place[1]), place[2]
                continue
            for found in _PYTHON.findall(row):
                if not _HARMLESS.fullmatch(found):
                    yield Violation(file, line, hot[match[1]].name, f"{found} in the generated C")


def check_warnings(c_file: Path, include: Path) -> Iterator[Violation]:
    """What gcc says about lines that are ours."""
    command = [
        *("gcc", "-std=gnu11", "-O1", "-c", "-o", os.devnull, "-fPIC", *WARNINGS),
        *(f"-I{sysconfig.get_path('include')}", f"-I{include}", str(c_file)),
    ]
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )
    for match in re.finditer(r"^(\S+?):(\d+):\d+: (?:warning|error): (.*)$", said.stderr, re.MULTILINE):
        if not match[1].endswith(".c"):
            yield Violation(match[1], int(match[2]), "gcc", match[3])


def check(sources: Path, generated: Path) -> list[Violation]:
    """Everything impure in the package `sources`, whose C lies under `generated` in the same tree shape.

    Wrappers for tests (_testing) may hold Python, but the leaves inlined into them may not.
    """
    files = sorted(path for kind in ("*.pxd", "*.pyx") for path in sources.glob(kind))
    violations = {item for file in files for item in check_source(file)}
    hot = {item.c_name: item for file in files for item in functions(file) if item.nogil and item.noexcept}
    modules = [path.relative_to(sources) for path in sorted(sources.rglob("*.pyx"))]
    c_files = []
    for module in modules:
        c_file = generated / module.with_suffix(".c")
        if c_file.exists():
            c_files.append(c_file)
            violations |= set(check_generated(c_file, hot))
        else:
            violations.add(Violation(str(sources / module), 0, "-", "not compiled: run make build first"))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda c_file: list(check_warnings(c_file, sources)), c_files):
            violations |= set(found)
    return sorted(violations)


def main() -> int:
    """Print what is impure; 1 if anything is."""
    sources = ROOT / "fastpath"
    violations = check(sources, GENERATED / "fastpath")
    for violation in violations:
        print(violation)
    checked = sum(1 for _ in sources.rglob("*.pyx"))
    print(f"purity: {checked} modules, {len(violations)} violations")
    return 1 if violations or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
