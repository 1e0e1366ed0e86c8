"""Which engine comes next: told as stories, in numbers of engines and seconds that no clock counts."""

import random
import signal
from itertools import pairwise

import pytest

from pyfastpath.relay.succession import (
    GOODBYE_S,
    MISFIT,
    PAUSE_SERVED_MAX_S,
    PROBATION_S,
    RELEASE_S,
    SHORT_LIFE_S,
    START_S,
    TRIAL_S,
    WARM_UP_S,
    Adopt,
    Command,
    Dismiss,
    End,
    Kill,
    Let,
    Report,
    Spawn,
    Succession,
    Tell,
    Warn,
    Word,
)


def without_warnings(commands: list[Command]) -> list[Command]:
    return [command for command in commands if not isinstance(command, Warn)]


def serving() -> Succession:
    """Engine 1 serves since second 0, engine 2 stands by."""
    made = Succession(layout=1)
    assert made.start(0) == [Spawn(1, first=True), Word(1)]
    assert made.ready(1, 1, "1.0", 0) == []
    assert made.started(1, 0) == [Spawn(2)]
    assert made.ready(2, 1, "1.0", 0) == []
    return made


def test_the_one_that_stands_by_goes_on_and_another_stands_by() -> None:
    relay = serving()
    assert without_warnings(relay.died(1, -9, "SIGKILL", 60)) == [Word(2)]
    assert relay.started(2, 60) == [Spawn(3)]
    assert (relay.serving, relay.standby) == (2, 3)


def test_without_one_that_stands_by_a_new_one_is_started() -> None:
    relay = Succession(layout=1)
    relay.start(0)
    assert without_warnings(relay.died(1, -11, "SIGSEGV", 5)) == [Spawn(2, first=True), Word(2)]


def test_a_first_engine_that_cannot_start_ends_the_relay_with_its_code() -> None:
    relay = Succession(layout=1)
    relay.start(0)
    assert relay.died(1, 4, "exit code 4", 1) == [End(4)]


def test_an_engine_that_ended_as_told_ends_the_relay() -> None:
    relay = serving()
    assert relay.signalled(signal.SIGTERM) == [Tell(1, signal.SIGTERM)]
    assert relay.died(1, 0, "exit code 0", 9) == [End(0)]


def test_an_engine_that_dies_while_it_drains_is_followed_by_one_that_drains_on() -> None:
    relay = serving()
    relay.signalled(signal.SIGTERM)
    assert without_warnings(relay.died(1, -9, "SIGKILL", 60)) == [Word(2), Tell(2, signal.SIGTERM)]
    assert relay.started(2, 61) == []  # nobody stands by at the end
    assert relay.signalled(signal.SIGTERM) == [Tell(2, signal.SIGTERM)]
    assert relay.died(2, -9, "SIGKILL", 62) == [End(0)]  # the second SIGTERM means now


def test_one_that_stands_by_goes_on_at_once_however_short_the_lives_were() -> None:
    """Only the start of the one after it waits, ever longer."""
    relay, now, waited = serving(), 100.0, []
    assert without_warnings(relay.died(1, -9, "SIGKILL", now)) == [Word(2)]
    for number in range(2, 8):
        spawned = relay.started(number, now)
        if not spawned:
            assert relay.deadline_s is not None
            waited.append(round(relay.deadline_s - now, 3))
            assert relay.timer(relay.deadline_s - 0.001) == []
            spawned = relay.timer(relay.deadline_s)
        assert spawned == [Spawn(number + 1)]
        now += 0.9 * SHORT_LIFE_S
        assert relay.ready(number + 1, 1, "1.0", now) == []
        assert without_warnings(relay.died(number, -9, "SIGKILL", now)) == [Word(number + 1)]
    assert waited == [0.1, 0.2, 0.4, 0.8]


def test_after_a_long_life_nothing_waits() -> None:
    relay = pausing()
    assert relay.timer(0.7) == [Spawn(3), Word(3)]
    assert relay.started(3, 1) == [Spawn(4)]
    assert without_warnings(relay.died(3, -9, "SIGKILL", 1 + SHORT_LIFE_S)) == [Word(4)]
    assert relay.started(4, 1 + SHORT_LIFE_S) == [Spawn(5)]


def test_engines_that_die_before_they_serve_come_ever_more_slowly() -> None:
    """Of a datagram in the batch that each takes over, say: no loop eats the CPU."""
    relay, now, pauses = serving(), 100.0, []
    assert without_warnings(relay.died(1, -11, "SIGSEGV", now)) == [Word(2)]  # had served for long
    for number in range(2, 12):
        now += 3 * SHORT_LIFE_S  # however long it took to get there
        done = without_warnings(relay.died(number, -11, "SIGSEGV", now))
        if not done:
            assert relay.serving is None
            assert relay.deadline_s is not None
            pauses.append(round(relay.deadline_s - now, 3))
            now = relay.deadline_s
            done = relay.timer(now)
        assert done == [Spawn(number + 1), Word(number + 1)]
        assert relay.standby is None
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_engines_that_die_as_soon_as_they_serve_do_not_eat_the_cpu() -> None:
    """In each pause two processes are started: one that goes on, one that stands by."""
    relay, now, starts = serving(), 100.0, []
    for _ in range(200):
        assert relay.serving is not None
        done = without_warnings(relay.died(relay.serving, -11, "SIGSEGV", now))
        if not done:
            assert relay.deadline_s is not None
            now = relay.deadline_s
            done = relay.timer(now)
        assert Word(relay.serving) in done
        done += relay.started(relay.serving, now)
        starts += [now for command in done if isinstance(command, Spawn)]
    steady_s = starts[20::2]
    assert all(after - before >= PAUSE_SERVED_MAX_S for before, after in pairwise(steady_s))


def test_a_signal_to_end_during_a_pause_ends_the_relay() -> None:
    assert pausing().signalled(signal.SIGTERM) == [End(0)]


def test_an_upgrade_in_a_pause_ends_it() -> None:
    """What every engine of this version dies of, another one may survive."""
    relay = pausing()
    assert relay.upgrade(0.65) == [Spawn(3)]
    assert relay.ready(3, 1, "2.0", 0.66) == [Word(3)]
    assert relay.timer(0.7) == []
    assert relay.started(3, 0.8) == [Report(3, True, "version 2.0 serves"), Spawn(4)]


def test_one_that_stands_by_and_dies_is_replaced_after_a_pause() -> None:
    relay = serving()
    assert without_warnings(relay.died(2, 1, "exit code 1", 10)) == []
    assert relay.deadline_s == 10.1
    assert relay.timer(10.1) == [Spawn(3)]
    assert without_warnings(relay.died(3, 1, "exit code 1", 11)) == []
    assert relay.deadline_s == 11.2


def test_a_standby_of_another_layout_is_sent_away_until_an_upgrade() -> None:
    relay = serving()
    relay.died(1, -9, "SIGKILL", 60)
    relay.started(2, 60)
    assert without_warnings(relay.ready(3, 2, "2.0", 60)) == [Dismiss(3)]
    assert relay.standby is None
    assert relay.died(3, 0, "exit code 0", 61) == []
    assert relay.deadline_s is None


def test_one_of_another_layout_that_nobody_can_follow_ends_the_relay() -> None:
    """Version 2.0 was installed without an upgrade, and then both engines of 1.0 died."""
    relay = serving()
    relay.died(1, -9, "SIGKILL", 60)
    relay.started(2, 60)
    relay.ready(3, 2, "2.0", 60)
    assert without_warnings(relay.died(2, -9, "SIGKILL", 120)) == [Spawn(4), Word(4)]
    warning, end = relay.ready(4, 2, "2.0", 120)
    assert isinstance(warning, Warn)
    assert "nobody else is left: flows are lost" in warning.text
    assert end == End(MISFIT)


def test_one_of_the_same_layout_goes_on_when_nobody_stands_by() -> None:
    relay = serving()
    relay.died(2, -9, "SIGKILL", 60)
    assert without_warnings(relay.died(1, -9, "SIGKILL", 60)) == [Spawn(3), Word(3)]
    assert relay.ready(3, 1, "2.0", 60) == []


# ---- upgrades --------------------------------------------------------------------------------------


def upgrading(layout: int = 1) -> Succession:
    """The old engine, 1, has been asked to release; 2 stands by; 3 is the candidate."""
    relay = serving()
    assert relay.upgrade(10) == [Spawn(3)]
    assert relay.ready(3, layout, "2.0", 10) == [Let(1, export=layout != 1)]
    return relay


def test_an_upgrade_of_the_same_layout() -> None:
    relay = upgrading()
    assert relay.released(1, False, 11) == [Word(3)]
    assert relay.died(1, 0, "exit code 0", 11) == []
    assert relay.started(3, 11) == [Report(3, True, "version 2.0 serves")]
    assert (relay.serving, relay.standby) == (3, 2)
    # The old version stands by for a while, then one of the new version does.
    assert relay.deadline_s == 11 + PROBATION_S
    assert relay.timer(11 + PROBATION_S) == [Dismiss(2), Spawn(4)]
    assert relay.died(2, 0, "exit code 0", 30) == []


def test_a_new_version_that_dies_soon_is_followed_by_the_old_one() -> None:
    relay = upgrading()
    relay.released(1, False, 11)
    relay.started(3, 11)
    assert without_warnings(relay.died(3, -11, "SIGSEGV", 15)) == [Word(2)]


def test_the_old_version_stands_by_until_the_next_upgrade_is_over() -> None:
    """Its probation ends while a third version is on trial: an engine started now would be of that one."""
    relay = upgrading()
    relay.released(1, False, 11)
    relay.died(1, 0, "exit code 0", 11)
    relay.started(3, 11)
    assert relay.upgrade(20) == [Spawn(4)]
    assert relay.ready(4, 1, "3.0", 20) == [Let(3, export=False)]
    assert relay.released(3, False, 20) == [Word(4)]
    relay.died(3, 0, "exit code 0", 20)
    assert relay.timer(11 + PROBATION_S) == []
    word, report = relay.died(4, -11, "SIGSEGV", 22)
    assert word == Word(2)
    assert isinstance(report, Report)
    assert not report.done


def test_after_an_upgrade_that_was_refused_the_probation_goes_on() -> None:
    relay = upgrading()
    relay.released(1, False, 11)
    relay.died(1, 0, "exit code 0", 11)
    relay.started(3, 11)
    assert relay.upgrade(20) == [Spawn(4)]
    assert relay.timer(11 + PROBATION_S) == []
    relay.died(4, 1, "exit code 1", 22)
    assert relay.standby == 2
    assert relay.timer(11 + 2 * PROBATION_S) == [Dismiss(2), Spawn(5)]


def test_an_upgrade_to_another_layout() -> None:
    relay = upgrading(layout=2)
    assert relay.released(1, True, 11) == [Word(3, imports=True)]
    assert relay.started(3, 11, made=True) == [
        Report(3, True, "version 2.0 serves"),
        Adopt(3),
        Dismiss(2),
        Spawn(4),
    ]
    assert relay.layout == 2
    assert relay.ready(4, 2, "2.0", 11) == []


def test_an_installed_version_that_cannot_be_imported_is_refused() -> None:
    relay = serving()
    relay.upgrade(10)
    (report,) = relay.died(3, 1, "exit code 1", 11)
    assert isinstance(report, Report)
    assert (report.number, report.done) == (1, False)
    assert "ended (exit code 1) before it could take over: the running one goes on" in report.text
    assert (relay.serving, relay.standby) == (1, 2)


@pytest.mark.parametrize("layout", [1, 2])
def test_a_version_that_crashes_at_its_start_gives_way_to_the_old_one(layout: int) -> None:
    relay = upgrading(layout)
    relay.released(1, layout == 2, 11)
    word, report = relay.died(3, -11, "SIGSEGV", 12)
    assert word == Word(2)
    assert isinstance(report, Report)
    assert (report.number, report.done) == (2, False)
    assert report.text == "version 2.0 ended at its start (SIGSEGV): the old version goes on"
    assert relay.layout == 1
    assert relay.started(2, 12) == [Spawn(4)]


@pytest.mark.parametrize(
    ("stands_by", "installed", "may"), [("2.0", "2.0", False), ("2.0", "2.1", True), ("1.0", "2.0", True)]
)
def test_a_version_that_has_failed_is_tried_again_only_where_the_old_one_could_go_on(
    stands_by: str, installed: str, may: bool
) -> None:
    relay = upgrading()
    relay.released(1, False, 11)
    relay.died(3, 1, "exit code 1", 11)
    relay.died(1, 0, "exit code 0", 11)
    assert relay.started(2, 12) == [Spawn(4)]
    relay.ready(4, 1, stands_by, 13)  # of what is installed by then
    relay.upgrade(20)
    done = relay.ready(5, 1, installed, 20)
    if may:
        assert done == [Let(2, export=False)]
    else:
        (dismissed, report) = done
        assert dismissed == Dismiss(5)
        assert isinstance(report, Report)
        assert (report.number, report.done) == (2, False)
        assert "has failed before" in report.text
        assert relay.died(2, -9, "SIGKILL", 30)[1:] == [Word(4)]


def test_an_engine_that_dies_while_it_releases_costs_nothing() -> None:
    relay = upgrading()
    assert without_warnings(relay.died(1, -9, "SIGKILL", 11)) == [Word(3)]


def test_without_its_export_another_layout_cannot_go_on() -> None:
    relay = upgrading(layout=2)
    dismissed, word, report = without_warnings(relay.died(1, -9, "SIGKILL", 11))
    assert (dismissed, word) == (Dismiss(3), Word(2))
    assert isinstance(report, Report)
    assert not report.done
    relay = upgrading(layout=2)
    assert without_warnings(relay.released(1, False, 11))[:2] == [Dismiss(3), Word(2)]


def test_a_candidate_that_dies_while_the_old_one_releases() -> None:
    relay = upgrading()
    assert without_warnings(relay.died(3, 1, "exit code 1", 11)) == []
    word, report = relay.released(1, False, 12)
    assert word == Word(2)
    assert isinstance(report, Report)
    assert not report.done


def test_whoever_takes_too_long_is_killed() -> None:
    relay = serving()
    relay.upgrade(10)
    assert relay.deadline_s == 10 + WARM_UP_S
    assert without_warnings(relay.timer(10 + WARM_UP_S)) == [Kill(3)]
    relay = upgrading()
    assert relay.deadline_s == 10 + RELEASE_S
    assert without_warnings(relay.timer(relay.deadline_s)) == [Kill(1)]
    relay = upgrading()
    relay.released(1, False, 11)
    relay.died(1, 0, "exit code 0", 11)
    assert relay.deadline_s == 11 + TRIAL_S
    assert without_warnings(relay.timer(relay.deadline_s)) == [Kill(3)]


def test_one_that_is_to_release_before_it_has_started_is_given_no_longer() -> None:
    relay = serving()
    relay.upgrade(60)
    relay.died(1, -9, "SIGKILL", 60)
    assert relay.ready(3, 1, "2.0", 60) == [Let(2, export=False)]
    assert relay.started(2, 61) == [Spawn(4)]
    assert relay.ready(4, 1, "2.0", 62) == []
    assert relay.deadline_s == 60 + RELEASE_S
    assert without_warnings(relay.timer(60 + RELEASE_S)) == [Kill(2)]
    assert without_warnings(relay.died(2, -9, "SIGKILL", 60 + RELEASE_S)) == [Word(3)]


def test_a_second_upgrade_has_to_wait() -> None:
    relay = serving()
    relay.upgrade(10)
    assert relay.upgrade(11) == [Warn("upgrade: one is under way already")]  # and no verdict on that one
    stopping = serving()
    stopping.signalled(signal.SIGTERM)
    assert stopping.upgrade(12) == [Report(1, False, "the relay is stopping")]


def test_signals_during_an_upgrade_reach_whoever_serves() -> None:
    relay = upgrading()
    assert relay.signalled(signal.SIGTERM) == [Tell(1, signal.SIGTERM)]
    assert relay.released(1, False, 11) == [Word(3), Tell(3, signal.SIGTERM)]


def test_a_reload_or_a_drain_that_nobody_can_hear_waits_for_the_next_engine() -> None:
    relay = upgrading()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
        assert relay.signalled(number) == []  # the old one may have stopped to listen
    assert relay.released(1, False, 11) == [Word(3), Tell(3, signal.SIGHUP), Tell(3, signal.SIGUSR1)]
    assert relay.signalled(signal.SIGHUP) == [Tell(3, signal.SIGHUP)]
    relay = pausing()
    assert relay.signalled(signal.SIGHUP) == []
    assert relay.timer(1) == [Spawn(3), Word(3), Tell(3, signal.SIGHUP)]


# ---- engines that hang -----------------------------------------------------------------------------


def pausing() -> Succession:
    """Nobody serves or stands by until second 0.7: 1 has died young, 2 before it served."""
    relay = serving()
    assert without_warnings(relay.died(1, -11, "SIGSEGV", 0.5)) == [Word(2)]
    assert without_warnings(relay.died(2, -11, "SIGSEGV", 0.6)) == []
    assert relay.serving is None
    return relay


def test_one_that_hangs_while_it_gets_ready_is_killed_and_another_tried() -> None:
    relay = serving()
    relay.died(1, -9, "SIGKILL", 60)
    assert relay.started(2, 60) == [Spawn(3)]
    assert relay.deadline_s == 60 + WARM_UP_S
    assert without_warnings(relay.timer(60 + WARM_UP_S)) == [Kill(3)]
    assert without_warnings(relay.died(3, -9, "SIGKILL", 90)) == []
    assert relay.timer(91) == [Spawn(4)]


def test_one_that_goes_on_and_hangs_is_killed_and_another_goes_on() -> None:
    relay = serving()
    relay.died(1, -9, "SIGKILL", 60)
    assert relay.deadline_s == 60 + START_S
    assert without_warnings(relay.timer(60 + START_S)) == [Kill(2)]
    assert without_warnings(relay.died(2, -9, "SIGKILL", 120)) == [Spawn(3), Word(3)]


def test_one_that_is_not_wanted_and_does_not_end_is_killed() -> None:
    relay = upgrading()
    relay.released(1, False, 11)
    relay.started(3, 11)
    relay.timer(11 + PROBATION_S)  # 2 is dismissed
    relay.ready(4, 1, "2.0", 22)
    assert without_warnings(relay.timer(11 + GOODBYE_S)) == [Kill(1)]
    assert without_warnings(relay.timer(11 + PROBATION_S + GOODBYE_S)) == [Kill(2)]
    assert relay.deadline_s is None


def warming_in_a_pause() -> Succession:
    """As `pausing`, and 3, asked for before, gets ready."""
    relay = serving()
    relay.upgrade(0.4)
    relay.died(1, -11, "SIGSEGV", 0.5)
    relay.died(2, -11, "SIGSEGV", 0.6)
    assert relay.serving is None
    return relay


def test_a_candidate_that_gets_ready_while_nobody_serves_takes_over() -> None:
    relay = warming_in_a_pause()
    assert relay.ready(3, 1, "2.0", 0.65) == [Word(3)]
    assert relay.started(3, 0.8) == [Report(3, True, "version 2.0 serves"), Spawn(4)]
    relay.ready(4, 1, "2.0", 0.9)
    assert relay.timer(20)  # the end of the probation: the pause is forgotten
    assert relay.serving == 3


def test_a_candidate_of_another_layout_needs_one_that_serves() -> None:
    relay = warming_in_a_pause()
    dismissed, report = relay.ready(3, 2, "2.0", 0.65)
    assert dismissed == Dismiss(3)
    assert isinstance(report, Report)
    assert not report.done
    assert relay.timer(relay.deadline_s or 0) == [Spawn(4), Word(4)]


def test_tables_that_do_not_arrive_are_nobodys() -> None:
    """The keeper had no descriptor left: the next engine could not go on over them."""
    relay = upgrading(layout=2)
    relay.released(1, True, 11)
    assert without_warnings(relay.started(3, 11, made=False)) == [Kill(3)]
    word, report = relay.died(3, -9, "SIGKILL", 12)
    assert word == Word(2)
    assert isinstance(report, Report)
    assert (report.done, relay.layout) == (False, 1)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_somebody_serves_or_is_about_to(seed: int) -> None:
    """Random events, those of engines that are alive: never two with the word, never nobody for good."""
    chance = random.Random(seed)
    relay, now = Succession(layout=1), 0.0
    alive: dict[int, str] = {}  # number -> waiting, told, released
    ended = False

    def carry_out(commands: list[Command]) -> None:
        nonlocal ended
        for command in commands:
            match command:
                case Spawn():
                    alive[command.number] = "waiting"
                case Word():
                    assert alive[command.number] == "waiting"
                    assert "told" not in alive.values(), "two engines have the word"
                    alive[command.number] = "told"
                case Kill():
                    carry_out(die(command.number))
                case Dismiss() if chance.random() < 0.9:  # else it hangs
                    carry_out(die(command.number))
                case End():
                    ended = True

    def die(number: int) -> list[Command]:
        if number not in alive:
            return []
        del alive[number]
        return relay.died(number, chance.choice([-9, -11, 1]), "killed", now)

    carry_out(relay.start(now))
    carry_out(relay.started(1, now))
    for _ in range(2000):
        now += chance.random() * chance.choice([0.01, 1, 20])
        if relay.deadline_s is not None and now >= relay.deadline_s:
            carry_out(relay.timer(now))
        number = chance.choice(list(alive)) if alive else 0
        match chance.randrange(6):
            case 0:
                carry_out(die(number))
            case 1:
                carry_out(relay.upgrade(now))
            case 2 if alive.get(number) == "waiting":
                carry_out(relay.ready(number, chance.choice([1, 1, 2]), "2.0", now))
            case 3 if alive.get(number) == "told":
                carry_out(relay.started(number, now, made=chance.random() < 0.8))
            case 4 if alive.get(number) == "told" and relay.serving == number:
                alive[number] = "released"
                carry_out(relay.released(number, chance.random() < 0.8, now))
                if alive.get(number) == "released" and relay.serving == number:
                    alive[number] = "told"  # nobody had asked it
        assert not ended
        assert relay.serving in alive or relay.deadline_s is not None, "nobody will serve"
