"""The fuzzer itself: it would find what is there; and what it once found, or kept, passes."""

from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.smoke import run

# Fails where nobody has put an input yet: no seed holds a fragment.
BROKEN = """
import sys
from tests.fuzz import driver
import atheris
with atheris.instrument_imports(include=["pyfastpath"]):
    from tests.fuzz.targets import pcap as target
whole = target.frames.dissect
def broken(frame):
    found = whole(frame)
    if found is target.frames.Skip.FRAGMENT:
        raise IndexError("planted")
    return found
target.frames.dissect = broken
sys.argv[1:] = ["pcap"]
driver.main()
"""
CORPUS_BYTES_MAX = 300_000


def test_a_planted_error_is_found_and_its_input_kept(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="no atheris: there are wheels for Linux on x86-64")
    code, said = run(tmp_path, "-c", BROKEN, runs=200_000)
    assert code != 0, said[-3000:]
    assert "IndexError: planted" in said
    (crash,) = (tmp_path / "pcap").glob("crash-*")
    code, said = run(tmp_path, "-m", "tests.fuzz.driver", "pcap", str(crash), runs=1)
    assert code == 0, said[-3000:]  # the sound reader takes it


@pytest.mark.parametrize("name", corpus.names())
def test_what_was_kept_or_once_failed_passes(name: str) -> None:
    target = corpus.load(name)
    if target.ON_DATA_PLANE:
        return  # tests/fastpath/test_fuzzed.py: on every build
    for data in corpus.inputs(target):
        target.one_input(data)


def test_the_corpus_in_the_tree_is_small_and_of_known_targets() -> None:
    files = list((corpus.HERE / "corpus").iterdir())
    assert {path.stem for path in files} <= set(corpus.names())
    assert sum(path.stat().st_size for path in files) < CORPUS_BYTES_MAX
