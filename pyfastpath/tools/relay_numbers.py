"""What the relay says of itself: forwarded, dropped and the time datagrams spent in it, from its /metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

PUBLISH_S = 0.3  # the workers publish their counters once a batch


@dataclass(frozen=True)
class RelayNumbers:
    """Totals over all shards since the relay started."""

    forwarded_up: int
    forwarded_down: int
    dropped: dict[str, int]  # by drop reason, only those that occurred
    kernel_dropped: int
    unaccounted: int  # received - forwarded - punted - dropped: 0, or the relay has a bug
    residence: dict[float, float]  # upper bound in seconds: how many datagrams stayed no longer

    def residence_ms(self, share: float) -> float | None:
        """The bound below which `share` (0 to 1) of all datagrams left the relay; None before any did."""
        total = max(self.residence.values(), default=0)
        bounds = sorted(bound for bound, count in self.residence.items() if total and count >= share * total)
        return bounds[0] * 1000 if bounds else None

    def since(self, before: RelayNumbers) -> RelayNumbers:
        """What came on top of `before`."""
        return RelayNumbers(
            self.forwarded_up - before.forwarded_up,
            self.forwarded_down - before.forwarded_down,
            dict(Counter(self.dropped) - Counter(before.dropped)),
            self.kernel_dropped - before.kernel_dropped,
            self.unaccounted,
            {bound: count - before.residence.get(bound, 0) for bound, count in self.residence.items()},
        )


async def read_relay_numbers(health: str) -> RelayNumbers:
    """Scrape http://host:port/metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"{health}/metrics") as reply:
        reply.raise_for_status()
        text = await reply.text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    forwarded, dropped, residence = Counter[str](), Counter[str](), Counter[float]()
    kernel_dropped = unaccounted = 0
    for sample in samples:
        match sample.name:
            case "fastpath_forwarded_datagrams_total":
                forwarded[sample.labels["direction"]] += int(sample.value)
            case "fastpath_dropped_datagrams_total" if sample.value:
                dropped[sample.labels["reason"]] += int(sample.value)
            case "fastpath_kernel_dropped_datagrams_total":
                kernel_dropped += int(sample.value)
            case "fastpath_conservation_error_datagrams":
                unaccounted += abs(int(sample.value))
            case "fastpath_residence_seconds_bucket":
                residence[float(sample.labels["le"])] += int(sample.value)
    return RelayNumbers(
        forwarded["up"], forwarded["down"], dict(dropped), kernel_dropped, unaccounted, dict(residence)
    )
