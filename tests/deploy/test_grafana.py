"""The dashboard: every expression parses, and asks for metrics and labels that are exported."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tests.deploy.expressions import check_metrics
from tests.support.require import require

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "fastpath.json").read_text())
PANELS = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]


def expressions() -> list[str]:
    asked = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
    return asked + [noted["expr"] for noted in DASHBOARD["annotations"]["list"]]


def plain(expression: str) -> str:
    """Grafana's own variables, as it would fill them in."""
    return re.sub(r"\$__(?:rate_interval|range)", "5m", expression).replace("$instance", ".*")


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_asks_for_what_is_exported(expression: str) -> None:
    check_metrics(plain(expression))


def test_promtool_can_parse_every_expression(tmp_path: Path) -> None:
    promtool = require("promtool")
    rules = [{"record": f"panel:{n}", "expr": plain(text)} for n, text in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_names_of_their_own_and_cover_no_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["title"] for panel in PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
        assert one["x"] + one["w"] <= 24


def test_every_panel_reads_from_the_chosen_source() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"source", "instance"}
    for panel in GRAPHS:
        assert panel["datasource"]["uid"] == "${source}"
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"]
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            by = re.findall(r"by \(([^)]*)\)", target["expr"])
            if by:
                assert used <= {name.strip() for group in by for name in group.split(",")}, target
