"""Runs one target under libFuzzer, guided by coverage (atheris).

    python -m tests.fuzz.driver stun                fuzz for FUZZ_SECONDS (600), or FUZZ_RUNS executions
    python -m tests.fuzz.driver stun FILE...        run inputs again, as of a crash that was found
    python -m tests.fuzz.driver stun --keep         what of the corpus reaches something new, into NAME/kept

The corpus grows in build/fuzz/targets/NAME/corpus (FUZZ_FOLDER: elsewhere); what fails is written beside it.
libFuzzer adds to what a target demands: no input takes ten seconds, none a gigabyte.
"""

import os
import sys
from pathlib import Path

import atheris

from tests.fuzz import corpus

ROOT = Path(__file__).parent.parent.parent
FOLDER = Path(os.environ.get("FUZZ_FOLDER", ROOT / "build" / "fuzz" / "targets"))
INPUT_SECONDS_MAX = 10
MEMORY_MB_MAX = 1024


def main() -> None:
    """The exit code is libFuzzer's: 0 when nothing was found."""
    name, *rest = sys.argv[1:]
    folder = FOLDER / name
    with atheris.instrument_imports(include=["pyfastpath"]):
        target = corpus.load(name)
    # With the whole command as its name, libFuzzer can start itself again, which --keep needs.
    arguments = [f"{sys.executable} -m tests.fuzz.driver {name}"]
    arguments += [
        f"-max_len={target.BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-artifact_prefix={folder}/",
    ]
    if rest == ["--keep"]:
        arguments += ["-merge=1", str(fresh(folder / "kept")), str(folder / "corpus")]
    elif rest:
        arguments += rest
    else:
        corpus.unpack(target, folder / "corpus")
        arguments += [
            f"-rss_limit_mb={MEMORY_MB_MAX}",
            "-print_final_stats=1",
            *length(),
            *words(target, folder),
        ]
        arguments.append(str(folder / "corpus"))
    mutate = getattr(target, "mutate", None)
    options = {"custom_mutator": lambda *given: mutate(atheris.Mutate, *given)} if mutate else {}
    atheris.Setup(arguments, target.one_input, **options)
    atheris.Fuzz()


def length() -> list[str]:
    """So many executions, always the same ones, or so much time."""
    if runs := os.environ.get("FUZZ_RUNS"):
        return [f"-runs={runs}", "-seed=1"]
    return [f"-max_total_time={os.environ.get('FUZZ_SECONDS', '600')}"]


def words(target: corpus.Target, folder: Path) -> list[str]:
    """A dictionary of what the target's language is made of."""
    if not (known := getattr(target, "WORDS", ())):
        return []
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in known)
    (folder / "words").write_text("".join(f'"{line}"\n' for line in lines))
    return [f"-dict={folder / 'words'}"]


def fresh(folder: Path) -> Path:
    """An empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    return folder


if __name__ == "__main__":
    main()
