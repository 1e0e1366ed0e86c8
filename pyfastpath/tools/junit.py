"""JUnit XML, as CI systems read it: one suite, one case a check. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

# What XML 1.0 cannot carry, not even escaped (section 2.2).
_FORBIDDEN: Final = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


@dataclass(frozen=True, slots=True)
class Case:
    """One check. failure: the sentence that says why it failed, empty when it passed. error: as failure, for
    a run that could not be judged at all. output: what a reader may want to see beside it."""

    name: str
    failure: str = ""
    error: str = ""
    output: str = ""
    seconds: float = 0.0


def junit(suite: str, cases: Sequence[Case], *, properties: Mapping[str, str] | None = None) -> str:
    """The whole file. properties: facts about the run, such as the commit and the machine."""
    root = ElementTree.Element("testsuites")
    failures, errors = sum(bool(case.failure) for case in cases), sum(bool(case.error) for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors), "skipped": "0"}
    seconds = f"{sum(case.seconds for case in cases):.3f}"
    element = ElementTree.SubElement(root, "testsuite", {"name": _clean(suite), "time": seconds} | counts)
    if properties:
        table = ElementTree.SubElement(element, "properties")
        for name, value in properties.items():
            ElementTree.SubElement(table, "property", name=_clean(name), value=_clean(value))
    for case in cases:
        _add(element, suite, case)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(element: ElementTree.Element, suite: str, case: Case) -> None:
    one = ElementTree.SubElement(
        element,
        "testcase",
        classname=_clean(suite),
        name=_clean(case.name),
        time=f"{case.seconds:.3f}",
    )
    for kind, text in (("failure", case.failure), ("error", case.error)):
        if text:
            said = _clean(text)
            ElementTree.SubElement(one, kind, message=said.splitlines()[0]).text = said
    if case.output:
        ElementTree.SubElement(one, "system-out").text = _clean(case.output)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
