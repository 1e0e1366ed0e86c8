"""What is read from a timeline: how long nothing arrived, and after which fault."""

from tests.chaos.timeline import Look, recovery_ms

MS = 1_000_000


def steady(*arrived: int, sent_a_look: int = 10) -> list[Look]:
    """One look a millisecond."""
    return [Look(number * MS, number * sent_a_look, count) for number, count in enumerate(arrived)]


def test_recovery_is_the_longest_silence_after_the_fault() -> None:
    looks = steady(0, 10, 20, 20, 30, 30, 30, 30, 30, 100, 110)
    assert recovery_ms(looks, 4 * MS) == 5
    assert recovery_ms(looks, 1 * MS) == 5


def test_a_silence_before_the_fault_is_none_of_its_doing() -> None:
    looks = steady(0, 10, 10, 10, 10, 10, 60, 70, 80, 80, 100)
    assert recovery_ms(looks, 7 * MS) == 2
    assert recovery_ms(looks, 3 * MS) == 3  # what is left of it from the fault on
    assert recovery_ms(looks, 5 * MS) == 2


def test_a_silence_that_begins_with_the_next_fault_belongs_to_that() -> None:
    looks = steady(0, 10, 20, 20, 40, 50, 60, 60, 60, 60, 100)
    assert recovery_ms(looks, 2 * MS, 5 * MS) == 2
    assert recovery_ms(looks, 6 * MS) == 4


def test_without_arrivals_nothing_recovers() -> None:
    assert recovery_ms([], 0) is None
    assert recovery_ms(steady(5, 5, 5), 0) is None
