"""Flags: what they mean, and that every wrong one is one sentence with its name."""

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.bench.options import Flags, Part, read_options, read_parts, split_sessions
from pyfastpath.tools.gate import Gate
from pyfastpath.types import Endpoint

KEY = "000102030405060708090a0b0c0d0e0f"
TOKENS = {"token_key": f"1:{KEY}", "transceiver": "4", "target": "192.0.2.1:3478", "sink": "192.0.2.9:5000"}


def test_nothing_asked_for_is_the_survey():
    options = read_options(Flags())
    assert options.survey
    assert (options.duration_s, options.sessions, options.parts) == (30, 1000, (Part(172),))


@pytest.mark.parametrize(
    "flag",
    [{"pps": "flood"}, {"mode": "up"}, {"upstream": "trunk"}, {"ramp_s": 2.0}, {"socket": "/run/x"}, TOKENS],
    ids=["pps", "mode", "upstream", "ramp", "socket", "tokens"],
)
def test_what_only_one_workload_can_mean_is_one_workload(flag):
    options = read_options(Flags(**flag))
    assert not options.survey
    assert options.duration_s == 10


def test_a_key_in_the_environment_alone_changes_nothing():
    assert read_options(Flags(token_key=f"1:{KEY}", trunk_key=f"0:{KEY}")).survey


def test_the_shape_of_the_load():
    options = read_options(
        Flags(
            pps="1.5M",
            duration_s=2.5,
            warmup_s=0.0,
            ramp_s=4.0,
            sessions="20k",
            size_bytes=200,
            size_dist="spread",
            mode="up",
            upstream="trunk",
            fail_if=["loss>0.001", "p99_us>=200"],
        )
    )
    assert (options.pps, options.sessions, options.way) == (1_500_000, 20_000, "up")
    assert (options.duration_s, options.warmup_s, options.ramp_s) == (2.5, 0, 4)
    assert options.parts == (Part(200, 24),)
    assert options.gates == (Gate("loss", ">", 0.001), Gate("p99_us", ">=", 200))
    assert read_options(Flags(pps="0")).pps == read_options(Flags(pps="flood")).pps == 0
    assert read_options(Flags(mode="down")).pps == 50_000


def test_mode_setup_has_as_many_sessions_as_it_opens():
    assert read_options(Flags(mode="setup", pps="2k", duration_s=3.0, warmup_s=1.0)).sessions == 8001
    assert read_options(Flags(mode="setup", pps="flood")).sessions == 300_000
    assert read_options(Flags(mode="setup")).upstream == "trunk"
    assert read_options(Flags(mode="setup", sessions="50")).sessions == 50
    assert read_options(Flags(mode="setup", duration_s=4000.0)).sessions == 1_000_000


def test_tokens_name_a_transceiver():
    options = read_options(
        Flags(**TOKENS | {"transceiver": "7/42/3", "token_key": f"1:{KEY}, 3:{KEY[::-1]}"})
    )
    to = options.transceiver
    assert to is not None
    assert (to.cluster, to.number, to.incarnation) == (7, 42, 3)
    assert (to.kid, to.key) == (3, bytes.fromhex(KEY[::-1])), "the newest key"
    assert options.target == Endpoint.parse("192.0.2.1:3478")
    assert options.source == "", "found when the target is known"


def test_a_relay_that_runs_may_be_reached_elsewhere():
    options = read_options(
        Flags(
            socket="/run/x",
            target="10.0.0.1:3478",
            sink="10.0.0.2:0",
            source="10.77.0.1",
            trunk_key=f"2:{KEY}",
        )
    )
    assert options.sink == Endpoint.parse("10.0.0.2:0")
    assert options.source == "10.77.0.1"
    assert options.trunk_key == (2, bytes.fromhex(KEY))


def test_a_mix_of_sizes():
    parts = read_parts(172, "172:0.9, 1200:.1")
    assert parts == (Part(172, 0, 0.9), Part(1200, 0, 0.1))
    assert split_sessions(1000, parts) == [900, 100]
    assert split_sessions(2, parts) == [1, 1]
    assert split_sessions(7, (Part(40, 0, 0.5), Part(50, 0, 0.25), Part(60, 0, 0.25))) == [3, 2, 2]
    assert sum(split_sessions(999, (Part(40, 0, 0.333), Part(50, 0, 0.333), Part(60, 0, 0.334)))) == 999


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"pps": "fast"}, "--pps: 'fast' is no number. Write 50000, 50k or 1.5M."),
        ({"pps": "1.5"}, "--pps: 1.5 is not possible. Choose a whole number 0 to 100,000,000."),
        ({"pps": "-1"}, "--pps: '-1' is no number"),
        ({"sessions": "0"}, "--sessions: 0 is not possible. Choose a whole number 1 to 1,000,000."),
        ({"sessions": "flood"}, "--sessions: 'flood' is no number"),
        ({"sessions": "100k"}, "--sessions: a plain backend takes one upstream port a session"),
        ({"sessions": "1", "size_dist": "172:0.5,200:0.5"}, "--sessions: 1 cannot have 2 sizes"),
        (
            {"duration_s": 3.0},
            "--duration: the survey of everything takes 12 s at least. Or measure one workload",
        ),
        ({"duration_s": 1e6}, "--duration: 1e+06 s is not possible. Choose 0.1 to 86400 seconds."),
        ({"warmup_s": 3.0}, "--warmup: the survey of everything chooses its own. Or measure one workload"),
        ({"duration_s": 0.0, "pps": "1k"}, "--duration: 0 s is not possible"),
        ({"duration_s": float("nan")}, "--duration: nan s is not possible"),
        ({"warmup_s": -1.0, "pps": "1k"}, "--warmup: -1 s is not possible"),
        ({"ramp_s": 1.0, "mode": "setup"}, "--ramp: mode setup is a ramp already"),
        ({"size_bytes": 31}, "--size: datagrams of 31 bytes are not possible. Choose 32 to 2048 bytes"),
        (
            {"size_bytes": 40, "size_dist": "spread"},
            "--size: datagrams of 40 bytes are not possible. Choose 56",
        ),
        ({"size_dist": "172"}, "--size-dist: '172' is no size with a share"),
        ({"size_dist": "9000:1"}, "--size-dist: datagrams of 9000 bytes are not possible"),
        ({"size_dist": "172:0.5,99:0.1"}, "--size-dist: the shares sum to 0.6. They must sum to 1."),
        ({"size_dist": "172:1,99:0"}, "--size-dist: the shares"),
        ({"mode": "sideways"}, "--mode: 'sideways' is unknown. Choose up, down, echo, setup."),
        ({"inject": "dpdk"}, "--inject: 'dpdk' is unknown. Choose mmsg, gso, packet."),
        ({"inject": "gso", "size_dist": "spread"}, "--inject: segments are of one size"),
        ({"upstream": "udp"}, "--upstream: 'udp' is unknown. Choose plain, trunk."),
        ({"target": "relay:3478"}, "--target: 'relay:3478': 'relay' is not an IP address. Write it as"),
        ({"target": "[::1]:3478"}, "--target: [::1]:3478 is IPv6. The clients of this tool speak IPv4"),
        ({"target": "192.0.2.1:1"}, "--target: nobody told the relay at 192.0.2.1:1 where these sessions go"),
        ({"sink": "10.0.0.1:1"}, "--sink: a relay of our own is on loopback"),
        ({"source": "10.0.0.1"}, "--source: a relay of our own is on loopback"),
        ({"source": "here", "socket": "/x"}, "--source: 'here:0': 'here' is not an IP address"),
        ({"transceiver": "4"}, "--token-key: minting tokens takes a key"),
        (TOKENS | {"token_key": "1:abc"}, "--token-key: this is no key. Write ID:HEX, an id 0 to 6"),
        (TOKENS | {"token_key": f"9:{KEY}"}, "--token-key: this is no key"),
        (TOKENS | {"transceiver": "x"}, "--transceiver: 'x' names no transceiver"),
        (TOKENS | {"transceiver": "5000/4"}, "--transceiver: 5000/4 does not fit into a token"),
        (TOKENS | {"target": None}, "--transceiver: tokens need a relay"),
        (TOKENS | {"sink": None}, "--transceiver: the sink stands where the relay expects"),
        (TOKENS | {"socket": "/x"}, "--transceiver: routes come through the admin socket or by tokens"),
        (
            TOKENS | {"size_dist": "172:.5,99:.5"},
            "--size-dist: each size of a mix needs a backend of its own",
        ),
        ({"trunk_key": f"7:{KEY}"}, "--trunk-key: this is no key. Write ID:HEX, an id 0 to 3"),
        ({"fail_if": ["los>1"]}, "--fail-if: there is no figure 'los'"),
    ],
    ids=lambda value: value.split(".")[0] if isinstance(value, str) else "",
)
def test_a_wrong_flag_is_one_sentence_that_names_it(flags, said):
    with pytest.raises(ConfigError) as refused:
        read_options(Flags(**flags))
    assert str(refused.value).startswith(said)
    assert KEY not in str(refused.value), "a key is never repeated"
