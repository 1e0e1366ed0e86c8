"""Alerts: promtool reads and tests them; every metric, label and reason in them is exported."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.expressions import check_metrics
from tests.support.require import require

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
RUNBOOK = FOLDER.parents[1] / "docs" / "operations.md"


@pytest.mark.parametrize("command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_finds_nothing_wrong(command: list[str]) -> None:
    promtool = require("promtool")
    done = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_exported_and_says_what_to_do(rule: dict) -> None:
    check_metrics(rule["expr"])
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "action"}
    assert all(text[-1] in ".?" for text in rule["annotations"].values())


def test_the_runbook_knows_every_alert() -> None:
    text = RUNBOOK.read_text()
    assert set(re.findall(r"`(Fastpath\w+)`", text)) == {rule["alert"] for rule in RULES}
