"""Who plays what: sessions over calls and backends, and names that never meet."""

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.replay.calls import Call, Flow
from pyfastpath.tools.replay.casting import PHASE_SPREAD_NS, ROLES_MAX, Cast
from pyfastpath.types import Endpoint

SERVER = Endpoint.parse("10.0.0.1:40000")


def calls(*flows: int) -> list[Call]:
    """One call for each number, with so many flows of 3 datagrams up and 2 down."""
    found, index = [], 0
    for number, count in enumerate(flows):
        call = Call(number, [b"serv%d" % number])
        for _ in range(count):
            client = Endpoint.parse(f"192.0.2.2:{4000 + index}")
            call.flows.append(Flow(index, call, client, SERVER, up=3, down=2))
            index += 1
        found.append(call)
    return found


@pytest.mark.parametrize(
    ("sessions", "copies"), [(0, [1, 1, 1]), (1, [1, 0, 0]), (3, [1, 1, 1]), (8, [3, 3, 2])]
)
def test_sessions_are_spread_over_the_calls(sessions: int, copies: list[int]) -> None:
    cast = Cast(calls(1, 2, 1), sessions=sessions)
    per_flow = [len(cast.of_part(cast.part(0, flow))) for flow in range(4)]
    assert per_flow == [copies[0], copies[1], copies[1], copies[2]]
    assert cast.calls_played == sum(count > 0 for count in copies)
    assert cast.datagrams == (3 * sum(per_flow), 2 * sum(per_flow))


def test_numbers_are_dense_and_everything_of_a_session_is_at_one_backend() -> None:
    cast = Cast(calls(1, 2), sessions=10, backends=3, turns=2)
    assert [role.number for role in cast.roles] == list(range(2 * (5 + 2 * 5)))
    assert {role.session for role in cast.roles} == set(range(20))
    for session in range(20):
        mine = [role for role in cast.roles if role.session == session]
        assert len({role.backend for role in mine}) == len({role.phase_ns for role in mine}) == 1
        assert len({(role.flow.call.index, role.copy) for role in mine}) == 1
    assert {role.backend for role in cast.roles} == {0, 1, 2}


def test_nobody_is_cast_twice() -> None:
    cast = Cast(calls(2, 1), sessions=7, turns=3)
    assert len({(role.flow.index, role.copy) for role in cast.roles}) == len(cast.roles)
    assert len({role.part for role in cast.roles}) == 3 * 3
    assert all(role.flow.index == role.part % 3 for role in cast.roles)


def test_the_order_of_a_part_is_that_of_the_numbers() -> None:
    cast = Cast(calls(1, 2), sessions=9, turns=2)
    for part in range(2 * 3):
        numbers = [role.number for role in cast.of_part(part)]
        assert numbers == sorted(numbers)
    assert cast.of_part(99) == []


def test_the_seed_decides_when_sessions_begin() -> None:
    def phases(seed: int) -> list[int]:
        return [role.phase_ns for role in Cast(calls(1), sessions=50, seed=seed).roles]

    assert phases(1) == phases(1) != phases(2)
    assert all(0 <= phase < PHASE_SPREAD_NS for phase in phases(1))


def test_too_many_clients_are_refused_before_anything_starts() -> None:
    assert len(Cast(calls(2), sessions=ROLES_MAX // 2).roles) == ROLES_MAX
    with pytest.raises(ConfigError, match=r"32,501 sessions .* are 65,002 clients.*--sessions"):
        Cast(calls(2), sessions=ROLES_MAX // 2 + 1)
    with pytest.raises(ConfigError):
        Cast(calls(2), sessions=1000, turns=40)
