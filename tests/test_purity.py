"""The gate itself: every kind of planted impurity is caught and named, and clean code passes."""

import subprocess
import sys

import pytest

from tests import purity

CLEAN = """
from libc.stdint cimport uint32_t

cdef uint32_t helper(uint32_t value) noexcept nogil:
    return value + 1

cdef class Owner:
    cdef uint32_t count
    cdef void bump(self) noexcept nogil:
        self.count = helper(self.count)

def python_face(int value):
    if value < 0:
        raise ValueError("a def may raise")
    return helper(<uint32_t>value)
"""

PLANTED = {  # name: the code, the function to blame, a word of the reason
    "callee without noexcept": (
        """
cdef int checks(int value) nogil:
    return value
cdef int hot(int value) noexcept nogil:
    return checks(value)
""",
        {("checks", "without noexcept"), ("hot", "in the generated C")},
    ),
    "pxd without noexcept": (
        "cdef int hot(int value) nogil:\n    return value\n",
        {("hot", "without noexcept")},
    ),
    "raise": (
        """
cdef int hot(int value) noexcept nogil:
    if value < 0:
        raise ValueError("negative")
    return value
""",
        {("hot", "inside noexcept nogil"), ("hot", "in the generated C")},
    ),
    "with gil": (
        """
cdef int hot(int value) noexcept nogil:
    with gil:
        print(value)
    return value
""",
        {("hot", "PyGILState"), ("hot", "in the generated C")},
    ),
    "exception rule on a pointer": (
        """
ctypedef int (*callback)(int) nogil
cdef int hot(callback call, int value) noexcept nogil:
    return call(value)
""",
        {("hot", "in the generated C")},
    ),
    "division that checks": (
        """
cimport cython
@cython.cdivision(False)
cdef int hot(int value, int by) noexcept nogil:
    return value // by
""",
        {("hot", "in the generated C")},
    ),
    "bounds that are checked": (
        """
cimport cython
@cython.boundscheck(True)
cdef int hot(const unsigned char[:] data, Py_ssize_t i) noexcept nogil:
    return data[i]
""",
        {("hot", "in the generated C")},
    ),
    "method of a class": (
        """
cdef int checks(int value) except -1 nogil:
    return value
cdef class Owner:
    cdef int hot(self, int value) noexcept nogil:
        return checks(value)
""",
        {("hot", "in the generated C"), ("checks", "without noexcept")},
    ),
    "silent narrowing": (
        """
from libc.stdint cimport uint8_t, uint32_t
cdef uint8_t hot(uint32_t value) noexcept nogil:
    return value
""",
        {("gcc", "-Wconversion")},
    ),
    "signs compared": (
        """
from libc.stdint cimport uint32_t
cdef bint hot(uint32_t value, int other) noexcept nogil:
    return value < other
""",
        {("gcc", "-Wsign-compare")},
    ),
}


def violations(tmp_path, source, leaf=""):
    """What the gate finds in a package of one module (and one .pxd of inline leaves)."""
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "module.pyx").write_text(source)
    if leaf:
        (package / "leaf.pxd").write_text(leaf)
    directives = ("boundscheck=False", "wraparound=False", "cdivision=True", "initializedcheck=False")
    options = [option for directive in directives for option in ("-X", directive)]
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", "--line-directives", *options, "planted/module.pyx"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    return purity.check(package, package)


def test_clean_code_passes(tmp_path):
    assert violations(tmp_path, CLEAN) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_impurity_is_caught(tmp_path, name):
    source, expected = PLANTED[name]
    found = violations(tmp_path, source)
    for function, reason in expected:
        assert any(item.function == function and reason in item.why for item in found), found
        assert all(item.line > 0 for item in found)


def test_a_module_that_was_not_compiled_is_a_violation(tmp_path):
    (tmp_path / "module.pyx").write_text("cdef int hot() noexcept nogil:\n    return 1\n")
    (found,) = purity.check(tmp_path, tmp_path)
    assert "make build" in found.why


def test_inline_leaves_are_checked_where_they_are_used(tmp_path):
    found = violations(
        tmp_path,
        "from planted.leaf cimport leaf\ndef use(int value):\n    return leaf(value)\n",
        leaf="cdef inline int leaf(int value) noexcept nogil:\n    with gil:\n        return value + 1\n",
    )
    assert {item.function for item in found} == {"leaf"}
    assert all(item.file.endswith("leaf.pxd") for item in found)
