"""docs/api.md names every route, every error code and every event there is."""

import re
from pathlib import Path

import msgspec
import pytest

from pyfastpath.signalling import errors
from pyfastpath.transceiver.realtime.events import ClientEvent

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "api.md").read_text()


def in_sources(pattern: str, *folders: str) -> set[str]:
    found: set[str] = set()
    for folder in folders:
        for path in (ROOT / "pyfastpath" / folder).rglob("*.py"):
            found |= set(re.findall(pattern, path.read_text()))
    return found


def test_every_route():
    text = (ROOT / "pyfastpath" / "signalling" / "app.py").read_text()
    routes = re.findall(r"web\.(post|get|patch|delete)\((?:f?\"([^\"]+)\"|(CALLS|WHIP))", text)
    assert len(routes) >= 8
    for method, path, constant in routes:
        shown = (path or f"{{{constant}}}").replace("{{id}}", "{id}")
        shown = shown.replace("{CALLS}", "/v1/realtime/calls").replace("{WHIP}", "/whip")
        assert f"{method.upper()} {shown}" in TEXT, f"{method} {shown}"


@pytest.mark.parametrize("code", sorted(errors._BY_CODE))
def test_every_error_of_the_gateway(code):
    assert f"`{code}`" in TEXT


def test_every_error_of_an_offer():
    codes = in_sources(r"OfferError\(\s*\"(\w+)\"", "wire")
    assert len(codes) >= 6
    for code in codes - {"too_large"}:
        assert f"`{code}`" in TEXT, code


def test_every_client_event():
    tags = {msgspec.inspect.type_info(kind).tag for kind in ClientEvent.__subclasses__()}
    assert len(tags) >= 11
    for tag in tags:
        assert f"`{tag}`" in TEXT, tag


def test_every_server_event():
    names = in_sources(r"(?:_emit\(\s*|\"type\": )\"([a-z_]+\.[a-z_.]+)\"", "transceiver/realtime")
    assert len(names) >= 15
    for name in names - {"conversation.item.truncate"}:  # what the bridge tells its server
        assert f"`{name}`" in TEXT, name
