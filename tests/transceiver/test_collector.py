"""Every metric of the transceiver is exported once, with the numbers of its counters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pyfastpath import metrics
from pyfastpath.exposition import registry_of
from pyfastpath.guard import Gate
from pyfastpath.transceiver.collector import TransceiverCollector, document
from pyfastpath.transceiver.counters import CLOSE_REASONS, DROP_REASONS, SETUP_STEPS, Counters


@dataclass
class Trunk:
    """The one thing of a trunk that is exported."""

    dropped: Mapping[str, int]


@dataclass
class Endpoint:
    """What the collector reads of the real one (tests/e2e scrapes that)."""

    counters: Counters = field(default_factory=Counters)
    trunk: Trunk | None = None
    plain: Any = None
    capacity: int = 7
    is_draining: bool = False


def scrape(endpoint: Any, reasons: list[str]) -> dict[tuple[str, tuple[str, ...]], float]:
    collector = TransceiverCollector(endpoint, lambda: reasons, "abc", {"health_listen": Gate()})
    text = generate_latest(registry_of(collector)).decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_metric_of_the_list_is_exported():
    endpoint = Endpoint(trunk=Trunk({"bad_tag": 3}))
    names = {name for name, _ in scrape(endpoint, [])}
    for metric in metrics.TRANSCEIVER_METRICS:
        wanted = metric.name + ("_bucket" if metric.kind == "histogram" else "")
        assert wanted in names, metric.name


def test_the_numbers_are_the_counters():
    endpoint = Endpoint(trunk=Trunk({"bad_tag": 3}), is_draining=True)
    counters = endpoint.counters
    counters.received, counters.sent = 10, 5
    counters.used["rtp"] = 6
    counters.drop("srtp_auth_failed")
    counters.session_moved(None, "created")
    counters.session_moved("created", "live")
    counters.session_closed("agent")
    counters.handshake_s.observe(0.03)
    counters.setup_step_s["keys"].observe(0.06)
    found = scrape(endpoint, ["it drains"])
    prefix = "fastpath_transceiver_"
    for name, labels, value in (
        ("received_datagrams_total", (), 10),
        ("sent_datagrams_total", (), 5),
        ("used_datagrams_total", ("rtp",), 6),
        ("dropped_datagrams_total", ("srtp_auth_failed",), 1),
        ("srtp_failures_total", ("auth_failed",), 1),
        ("conservation_error_datagrams", (), 3),
        ("sessions", ("created",), 0),
        ("sessions", ("live",), 1),
        ("sessions_max", (), 7),
        ("sessions_closed_total", ("agent",), 1),
        ("trunk_dropped_total", ("bad_tag",), 3),
        ("handshake_seconds_bucket", ("0.02",), 0),
        ("handshake_seconds_bucket", ("0.03",), 1),
        ("setup_step_seconds_count", ("keys",), 1),
        ("ready", (), 0),
        ("draining", (), 1),
        ("config_info", ("abc",), 1),
    ):
        assert found[prefix + name, labels] == value, name


def test_without_a_trunk_nothing_of_it_is_counted():
    assert not [name for name, labels in scrape(Endpoint(), []) if "trunk_dropped" in name and labels]


@pytest.mark.parametrize("names", [DROP_REASONS, CLOSE_REASONS, SETUP_STEPS])
def test_the_document_explains_every_word(names):
    text = document()
    for name, meaning in names:
        assert f"| `{name}` | {meaning} |" in text
