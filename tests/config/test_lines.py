"""The line scanner against tomllib, over random documents: every value is a number of its own, so the
line it stands on can be found by looking for it in the text.
"""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.config.lines import find_line, line_map

KEYS = st.sampled_from(["a", "b-c", '"quoted key"', "'lit'", "d_1", "e.f", 'g . "h"'])
NOISE = st.sampled_from(["", "  # a [comment] = {here}", "\t"])
BLANK = st.sampled_from(["", "\n", "# x = [1\n", "\n\n"])
TEXTS = st.sampled_from(
    [
        '"plain"',
        r'"a \" ] } # b"',
        "'c:\\'",
        '"""\nmany\n"lines" \\\n"""',
        "'''\n] = #\n'''",
        '""""two""""',
        "1979-05-27T07:32:00Z",
    ]
)


@st.composite
def values(draw, numbers, depth=0):
    kind = draw(st.sampled_from(["number", "text", "array", "table"] if depth < 3 else ["number", "text"]))
    if kind == "number":
        numbers.append(1_000_000 + len(numbers))
        return str(numbers[-1])
    if kind == "text":
        return draw(TEXTS)
    if kind == "array":
        items = [
            draw(BLANK) + draw(values(numbers, depth + 1)) + draw(BLANK)
            for _ in range(draw(st.integers(0, 3)))
        ]
        return "[" + ",".join(items) + draw(st.sampled_from(["", "\n"])) + "]"
    pairs = [f"k{number} = {draw(values(numbers, depth + 1))}" for number in range(draw(st.integers(0, 2)))]
    return "{" + ", ".join(pairs) + "}"


@st.composite
def documents(draw):
    numbers: list[int] = []
    parts = []
    for section in range(draw(st.integers(1, 4))):
        if section:
            parts.append(
                draw(st.sampled_from([f"[t{section}]", "[[list]]", f"[[deep.list{section}]]", "[[list]]"]))
            )
        for key in draw(st.lists(KEYS, max_size=4, unique_by=lambda key: key[0])):
            parts.append(f"{draw(BLANK)}{key} = {draw(values(numbers))}{draw(NOISE)}")
    return "\n".join(parts) + "\n"


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


@given(documents())
def test_every_number_is_found_on_its_line(text):
    data = tomllib.loads(text)
    lines = line_map(text)
    for path, value in leaves(data):
        assert path in lines, (path, text)
        if isinstance(value, int):
            assert lines[path] == text[: text.index(str(value))].count("\n") + 1, (path, text)


def test_tables_inside_arrays_of_tables_and_windows_line_ends():
    text = "[[a]]\r\nx = 1\r\n[a.inner]\r\ny = 2\r\n[[a]]\r\n[a.inner]\r\ny = 3\r\n"
    assert line_map(text)["a", 0, "inner", "y"] == 4
    assert line_map(text)["a", 1, "inner", "y"] == 7


def test_what_has_no_line_of_its_own_gets_the_one_around_it():
    lines = line_map("first = 1\n[[backends]]\nid = 'a'\n")
    assert find_line(lines, ("backends", 0, "address")) == 2
    assert find_line(lines, ("nowhere",)) == 0
