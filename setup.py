"""Builds the Cython data plane. Everything else about the distribution is in pyproject.toml.

FASTPATH_PROFILE chooses how:
    release   (default) checks off, -O3; `build_ext --inplace` puts the modules beside their sources
    debug     Cython's checks on, C asserts on, -O1 -g
    asan      as debug, with AddressSanitizer and UndefinedBehaviorSanitizer
    tsan      as debug, with ThreadSanitizer
    fuzz      as asan, and tells libFuzzer which blocks an input reached (`make fuzz`)
    coverage  line tracing, for coverage.py with the Cython plugin
Every profile has its own tree build/<profile>/, so none overwrites another. All but release are used
with PYTHONPATH=build/<profile>/lib (`make debug`, `make asan`).
"""

import os
import shutil
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PROFILE = os.environ.get("FASTPATH_PROFILE", "release")
TREE = Path("build") / PROFILE

# Set once, here: no module chooses its own. With boundscheck on or cdivision off, hidden GIL paths
# appear in nogil code, which is why the suite runs on the release AND the debug build.
CHECKS_OFF = {"boundscheck": False, "wraparound": False, "cdivision": True, "initializedcheck": False}
CHECKS_ON = {"boundscheck": True, "wraparound": False, "cdivision": False, "initializedcheck": True}
DIRECTIVES: dict[str, dict[str, bool]] = {
    "release": CHECKS_OFF,
    "debug": CHECKS_ON,
    "asan": CHECKS_ON,
    "tsan": CHECKS_ON,
    "fuzz": CHECKS_ON,
    "coverage": CHECKS_ON | {"linetrace": True},
}
# Never -march=native: a wheel runs on other CPUs than the one that built it. AES is chosen at run time.
# Cython silences its own boilerplate, so every warning is about our lines; `make purity` fails on one. Two
# exceptions: its release of a memoryview that was never taken confuses gcc 12 into seeing an atomic write to
# nowhere, and its checked division (debug) goes through long, so conversions are looked at in release only.
WARNINGS = ["-Wall", "-Wextra", "-Wsign-compare", "-Wno-stringop-overflow"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
TRACE = ["-fsanitize-coverage=trace-pc,trace-cmp", "-include", "tests/fuzz/coverage.h"]
# -g1 is what a sanitizer's report needs: lines. Whole debug information costs it a third more time to build.
COMPILE: dict[str, list[str]] = {
    "release": ["-O3", "-Wconversion"],
    "debug": ["-O1", "-g", "-UNDEBUG"],
    "asan": ["-O1", "-g1", "-UNDEBUG", *SANITIZE],
    "tsan": ["-O1", "-g1", "-UNDEBUG", "-fsanitize=thread", "-Wno-tsan"],
    "fuzz": ["-O1", "-g1", "-UNDEBUG", *SANITIZE, *TRACE],
    "coverage": ["-O1", "-g", "-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1"],
}
# `fuzz` links no sanitizer: atheris brings clang's, with libFuzzer in it (LD_PRELOAD).
LINK: dict[str, list[str]] = {"asan": ["-fsanitize=address,undefined"], "tsan": ["-fsanitize=thread"]}

if PROFILE not in DIRECTIVES:
    raise SystemExit(f"FASTPATH_PROFILE={PROFILE}: choose one of {', '.join(DIRECTIVES)}")


class Module(Extension):
    """An extension that cythonize(exclude_failures=True) can put into a set."""

    __hash__ = object.__hash__


def extensions() -> list[Module]:
    """One extension a .pyx; the headers sit beside them, zlib gives the CRC-32 of FINGERPRINT."""
    headers = sorted(str(path) for path in Path("fastpath").glob("*.h"))
    return [
        Module(
            ".".join(path.with_suffix("").parts),
            [str(path)],
            include_dirs=["fastpath"],
            depends=[*headers, "setup.py"],
            libraries=["z", "dl"],
            extra_compile_args=[*WARNINGS, *COMPILE[PROFILE]],
            extra_link_args=LINK.get(PROFILE, []),
        )
        for path in sorted(Path("fastpath").rglob("*.pyx"))
    ]


class ProfileBuild(build_ext):
    """build_ext that runs Cython late (so that metadata commands need no C) and in the profile's tree."""

    def finalize_options(self) -> None:
        generated = TREE / "c"
        setup_changed_s = Path("setup.py").stat().st_mtime
        wanted = {extension.name for extension in self.distribution.ext_modules}
        self.distribution.ext_modules = cythonize(
            self.distribution.ext_modules,
            exclude_failures=True,  # build what can be built; run() fails in the end
            build_dir=str(generated),
            quiet=True,
            emit_linenums=True,  # warnings, sanitizers, gdb and perf name the line of the .pyx
            nthreads=int(self.parallel or 0),
            force=any(path.stat().st_mtime < setup_changed_s for path in generated.rglob("*.c")),
            compiler_directives={"language_level": "3", **DIRECTIVES[PROFILE]},
        )
        self.refused = wanted - {extension.name for extension in self.distribution.ext_modules}
        super().finalize_options()
        self.build_temp = str(TREE / "temp")
        if PROFILE != "release":
            self.inplace, self.build_lib = False, str(TREE / "lib")

    def run(self) -> None:
        super().run()
        if PROFILE != "release":  # a package needs its Python files beside the modules
            for path in Path("fastpath").rglob("*.py"):
                target = Path(self.build_lib) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
        if self.refused:
            raise SystemExit(f"Cython refused {', '.join(sorted(self.refused))}: its messages are above")


setup(ext_modules=extensions(), cmdclass={"build_ext": ProfileBuild})
