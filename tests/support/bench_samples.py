"""A run's result in the shape of bench/record.py, made of round figures."""

FIELDS = {
    "forwarded": 100_000,
    "seconds": 1.0,
    "sent": 100_000,
    "others_share": 0.01,
    **dict.fromkeys(("lost", "duplicates", "misrouted", "reordered"), 0),
    "p50_us": 100.0,
    "p99_us": 900.0,
    "p999_us": 990.0,
    "curve_us": [],
}
RATES = {
    "paced up": 120_000,
    "paced echo": 60_000,
    "voice up": 50_000,
    "voice both ways": 25_000,
    "latency up": 50_000,
    "spread up": 120_000,
    "scale up": 100_000,
}


def sample(contestant, workload, cost_ns, number=0, topology="loopback", scenario="relays", **change):
    """One sample; a schedule is kept and a flood reaches 100,000/s unless `change` says otherwise."""
    rate_pps = RATES.get(workload, 0)
    return (
        FIELDS
        | {
            "scenario": scenario,
            "topology": topology,
            "round": number,
            "contestant": contestant,
            "workload": workload,
            "echo": workload in {"flood echo", "paced echo", "voice both ways"},
            "rate_pps": rate_pps,
            "flows": 1000,
            "sent_pps": rate_pps or 100_000,
            "cpu_ns": cost_ns * 100_000,
            "forwarded_pps": (rate_pps or 100_000) * (2 if "both" in workload or "echo" in workload else 1),
            "ns_per_datagram": cost_ns,
        }
        | change
    )


def rounds(contestant, workload, *costs, **change):
    """A sample a round."""
    return [sample(contestant, workload, cost, number, **change) for number, cost in enumerate(costs)]


def own(workload, sent_pps=200_000, topology="loopback", **change):
    """The generator without a relay, two rounds."""
    more = {"sent_pps": sent_pps} | change
    return rounds("no relay", workload, 0, 0, scenario="own", topology=topology, **more)


def result(*several, **change):
    """A result of these lists of samples."""
    return {
        "kind": "bench",
        "commit": "abc",
        "date": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:30:00+00:00",
        "machine": {"cpu": "one", "cpus": 2, "hypervisor": True, "kernel": "6.1", "mitigations": {"a": "on"}},
        "settings": {"rounds": 3, "warmup_s": 0.3, "measure_s": 1.0, "window": 512, "only": []},
        "topologies": {"loopback": {"clock": "process"}},
        "own_pps": {"loopback": {"flood up": 200_000.0}},
        "left_out": [],
        "failures": [],
        "quiet": [],
        "micro": [],
        "samples": [each for samples in several for each in samples],
    } | change
