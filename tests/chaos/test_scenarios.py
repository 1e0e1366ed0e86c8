"""The short versions of all scenarios whose modules have no file test_short_MODULE.py."""

from pathlib import Path

from tests.chaos.run import modules
from tests.chaos.short import short_versions

KNOWN = modules(full=False)
OWN = {path.stem.removeprefix("test_short_") for path in Path(__file__).parent.glob("test_short_*.py")}
REST = {name: one for module, known in KNOWN.items() if module not in OWN for name, one in known.items()}

if REST:
    test_promises_are_kept = short_versions(REST)


def test_every_file_has_its_module() -> None:
    assert KNOWN.keys() >= OWN
