"""The documents that are printed from code. `make docs` writes them, tests/test_house.py compares them."""

from collections.abc import Callable
from pathlib import Path

from pyfastpath import metrics
from pyfastpath.config import document as config
from pyfastpath.transceiver import collector

ROOT = Path(__file__).parent.parent
DOCUMENTS: dict[str, Callable[[], str]] = {
    "docs/metrics.md": lambda: metrics.document() + collector.document(),
    "docs/config.md": config.document,
}

if __name__ == "__main__":
    for name, printed in DOCUMENTS.items():
        (ROOT / name).write_text(printed(), encoding="utf-8")
        print(f"wrote {name}")
