"""The targets, and the inputs each begins with: its seeds, what earlier runs found worth keeping, its
crashers.

A kept corpus is one text file a target, corpus/NAME.txt: an input a line, in base64, the shortest first.
"""

import base64
from collections.abc import Iterator
from hashlib import sha1
from importlib import import_module
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).parent


class Target(Protocol):
    """What a module of tests/fuzz/targets offers. It may also have `WORDS`, what its language is made of, and
    `mutate(libfuzzers_own, data, max_bytes, seed)`, where changes byte by byte lead nowhere."""

    __name__: str
    BYTES_MAX: int
    SMOKE_RUNS: int  # in the suite: a second or two, its seeds included
    ON_DATA_PLANE: bool  # runs on the build with the sanitizers, which reports what it reached
    CRASHERS: dict[str, bytes]  # inputs that once failed, by their defect: each stays a test

    def seeds(self) -> Iterator[bytes]: ...

    def one_input(self, data: bytes) -> None:
        """AssertionError, or any other exception, is a finding."""


def names() -> list[str]:
    """Every target."""
    return sorted(path.stem for path in (HERE / "targets").glob("*.py") if path.stem != "__init__")


def load(name: str) -> Target:
    if name not in names():
        raise SystemExit(f"no target {name}: choose among {', '.join(names())}")
    return import_module(f"tests.fuzz.targets.{name}")  # type: ignore[return-value]


def kept(name: str) -> list[bytes]:
    """The corpus in the tree."""
    file = HERE / "corpus" / f"{name}.txt"
    return [base64.b64decode(line) for line in file.read_text().split()] if file.exists() else []


def keep(name: str, inputs: list[bytes]) -> None:
    """Replace the corpus in the tree."""
    ordered = sorted(filter(None, inputs), key=lambda data: (len(data), data))
    lines = [base64.b64encode(data).decode() + "\n" for data in ordered]
    (HERE / "corpus" / f"{name}.txt").write_text("".join(lines))


def inputs(target: Target) -> list[bytes]:
    """Everything to begin with, each once."""
    name = target.__name__.rpartition(".")[2]
    found = [*target.seeds(), *kept(name), *target.CRASHERS.values()]
    return list(dict.fromkeys(data[: target.BYTES_MAX] for data in found))


def unpack(target: Target, folder: Path) -> None:
    """The inputs as libFuzzer wants them: a file each, named by its content as libFuzzer does."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (folder / sha1(data).hexdigest()).write_bytes(data)
