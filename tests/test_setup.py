"""The build itself: profiles do what they say and keep apart; a wheel works where the tree is not."""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.relay import running_relay
from tests.support.require import require

ROOT = Path(__file__).parent.parent

# Reads one byte past a heap block: silent in release, an IndexError in debug, a report under ASan.
OVERRUN = """
from libc.stdlib cimport free, malloc

def past_the_end(bytes data, Py_ssize_t index):
    return <int>data[index]

def past_the_heap(Py_ssize_t size):
    cdef unsigned char *block = <unsigned char *>malloc(size)
    cdef unsigned char value = block[size]
    free(block)
    return value

def shift(int by):
    return <int>1 << by
"""


def python(code, folder, **environment):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "LD_", "FASTPATH"))
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def build(folder, profile, *options):
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", *options],
        cwd=folder,
        env=os.environ | {"FASTPATH_PROFILE": profile},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the house with one small module in it, built in three profiles."""
    require("gcc")
    folder = tmp_path_factory.mktemp("house")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for package in ("fastpath", "pyfastpath"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("")
    (folder / "fastpath" / "overrun.pyx").write_text(OVERRUN)
    for profile, options in (("release", ["--inplace"]), ("debug", []), ("asan", [])):
        said = build(folder, profile, *options)
        assert said.returncode == 0, said.stderr
    return folder


def run(tree, profile, code):
    """Python code on one profile's build, found as the Makefile finds it."""
    where = tree if profile == "release" else tree / "build" / profile / "lib"
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    sanitized = {
        "LD_PRELOAD": library.stdout.strip(),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    extra = sanitized if profile == "asan" else {}
    code = f"import fastpath.overrun as m; assert m.__file__.startswith({str(where)!r}); {code}"
    return python(code, tree, PYTHONSAFEPATH="1", PYTHONPATH=str(where), **extra)


def test_release_has_no_checks(tree):
    assert run(tree, "release", "m.past_the_end(bytes(8)[:4], 5)").returncode == 0


def test_debug_checks_bounds(tree):
    assert "IndexError" in run(tree, "debug", "m.past_the_end(bytes(4), 5)").stderr


def test_asan_reports_what_debug_cannot_see(tree):
    assert run(tree, "debug", "m.past_the_heap(1000)").returncode == 0
    said = run(tree, "asan", "m.past_the_heap(1000)")
    assert said.returncode != 0
    assert "heap-buffer-overflow" in said.stderr
    assert "overrun.pyx" in said.stderr, "reports name the line of the .pyx"


def test_ubsan_reports_undefined_behaviour(tree):
    assert run(tree, "debug", "m.shift(40)").returncode == 0
    said = run(tree, "asan", "m.shift(40)")
    assert said.returncode != 0
    assert "shift exponent 40 is too large" in said.stderr


def test_profiles_keep_apart_and_leave_no_c_beside_the_sources(tree):
    assert list((tree / "fastpath").glob("*.c")) == []
    for profile in ("debug", "asan"):
        assert list((tree / "build" / profile / "lib" / "fastpath").glob("overrun*.so"))
    assert list((tree / "fastpath").glob("overrun*.so"))


def test_one_broken_module_is_named_and_does_not_hide_the_others(tree):
    broken = tree / "fastpath" / "broken.pyx"
    broken.write_text("cdef int f( :\n")
    try:
        said = build(tree, "debug")
        assert said.returncode != 0
        assert "fastpath.broken" in said.stderr
        assert run(tree, "debug", "pass").returncode == 0
    finally:
        broken.unlink()


def test_an_unknown_profile_is_refused(tree):
    said = build(tree, "fast")
    assert said.returncode != 0
    assert "release, debug, asan, tsan, fuzz, coverage" in said.stderr


# ---- the wheel --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel of this tree, unpacked elsewhere. Objects that `make build` compiled are used again."""
    require("gcc")
    folder = tmp_path_factory.mktemp("wheel")
    with (ROOT / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert said.returncode == 0, said.stdout + said.stderr
    (wheel,) = folder.glob("pyfastpath-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_both_packages_and_the_headers(installed):
    names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert {"pyfastpath/cli.py", "fastpath/layout.h", "fastpath/worker.pxd"} <= names
    assert any(name.startswith("fastpath/worker.") and name.endswith(".so") for name in names)
    assert not [name for name in names if name.startswith(("tests", "bench", "examples", "build"))]


def test_the_wheel_works_where_the_tree_is_not(installed, tmp_path):
    where = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(installed)}
    said = python(
        "import fastpath.worker as m, pyfastpath; print(m.__file__, pyfastpath.__file__)", tmp_path, **where
    )
    assert said.returncode == 0, said.stderr
    assert all(path.startswith(str(installed)) for path in said.stdout.split())
    code = "import sys; from pyfastpath.cli import run; sys.exit(run(['relay', '--check-config']))"
    said = python(code, tmp_path, **where)
    assert said.returncode == 0, said.stderr
    assert "good" in said.stdout


def test_a_call_goes_through_the_wheel(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.chdir(tmp_path)
    with (
        udp_end() as server,
        running_relay(tmp_path, backends=[{"id": "a", "address": endpoint_text(server)}]) as relay,
    ):
        relay.install("ufrag", backend="a")
        with PlainCall(relay.listen, server, "ufrag") as call:
            call.confirm()
            call.exchange()
        keeper = relay.process.pid
        engine, *_ = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()  # it serves
        mapped = Path(f"/proc/{engine}/maps").read_text()
        assert str(installed / "fastpath" / "worker.") in mapped
        assert str(ROOT / "fastpath") not in mapped
