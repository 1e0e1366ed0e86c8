"""layout.pxd says all that layout.h says: what only one of them has is a mistake."""

import re
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "fastpath"
HEADER = re.sub(r"/\*.*?\*/", "", (SOURCES / "layout.h").read_text(), flags=re.DOTALL)
PXD = re.sub(r"#.*", "", (SOURCES / "layout.pxd").read_text())
GUARDS = {"FP_X", "FP_DROP_REASONS", "FP_DECISIONS", "FP_RECEIVE_AREA", "FP_DROP_", "FP_DECISION_"}


def listed(macro: str, prefix: str) -> set[str]:
    """The enum an X-macro makes."""
    body = re.search(rf"#define {macro}\(X\)(.*?)\n\n", HEADER, re.DOTALL)
    assert body is not None
    return {prefix + name for name in re.findall(r"X\((\w+),", body[1])}


def fields(declarations: str) -> set[str]:
    """Names of `type a, b[2];` lines, without the padding that nobody names."""
    names: set[str] = set()
    for declaration in re.split(r"[;\n]", declarations):
        words = re.sub(r"\[[^\]]*\]", "", declaration).replace("const ", "").replace("*", " ")
        _, _, rest = words.strip().removeprefix("struct ").partition(" ")
        names |= {name.strip() for name in rest.split(",") if name.strip()}
    return {name for name in names if not re.fullmatch(r"zero\d*", name)}


def test_constants() -> None:
    in_header = set(re.findall(r"\bFP_\w+", HEADER)) - GUARDS
    in_header |= listed("FP_DROP_REASONS", "FP_DROP_") | listed("FP_DECISIONS", "FP_DECISION_")
    assert set(re.findall(r"\bFP_\w+", PXD)) == in_header


def test_structs_and_their_fields() -> None:
    in_header = {
        name: fields(re.sub(r"\s+", " ", body))
        for body, name in re.findall(r"typedef struct \{(.*?)\} (fp_\w+);", HEADER, re.DOTALL)
    }
    in_pxd = {
        name: fields(body)
        for name, body in re.findall(r"ctypedef struct (fp_\w+):\n((?: {8}.*\n)+)", PXD + "\n")
    }
    areas = {"fp_datagram_area", "fp_trunk_area"}  # made by a macro
    assert {name: names for name, names in in_pxd.items() if name not in areas} == in_header
    assert in_pxd["fp_datagram_area"] == in_pxd["fp_trunk_area"]
