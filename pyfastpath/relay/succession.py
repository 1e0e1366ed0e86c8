"""Which engine serves, which one comes next: the keeper's decisions, without a process or a clock.

At any time one engine *serves*. Another one *stands by*: it has imported everything and waits for the word,
so that a crash costs milliseconds and not the start of an interpreter. During an upgrade a *candidate*,
started from what is installed by then, waits in the same way; when it is ready the serving engine is asked to
release the tables, and the candidate takes them over *on trial*. Whatever goes wrong before it forwards, the
engine that stands by, of the old version, goes on.

    serving ──dies──▶ standby goes
    serving ──upgrade──▶ candidate warms up ──ready──▶ serving releases ──▶ candidate goes ──started──▶ serves
                                │ dies, or takes too long        │ dies, or takes too long
                                ▼                                ▼
                         refused: serving goes on          standby goes, and the upgrade has failed

Whoever does not do in time what it was told is killed, and its death decides: a version that hangs must not
leave the relay without an engine.

Whoever stands by goes on at once, however short the life before was: while nobody serves, datagrams pile up
in the kernel. What waits after short lives in a row is the start of another process, twice as long each time:
up to a second after an engine that served, up to five after one that died before it did. Each life costs a
process, so engines that die over and over, say of a datagram that each finds in the batch it takes over, do
not eat the CPU. Such a loop ends with a version that survives: an upgrade may bring it at any time, in a
pause too. Until then the relay goes on trying, and says so in the log each time.

Events are methods; each gives the commands to carry out, in order. `deadline_s` says when `timer` is due.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final, TypeAlias

SHORT_LIFE_S: Final = 1.0  # from when it forwards; a life that ends before is short in any case
PAUSE_FIRST_S: Final = 0.1
PAUSE_SERVED_MAX_S: Final = 1.0  # after engines that served: the next one will carry traffic for a while too
PAUSE_MAX_S: Final = 5.0
WARM_UP_S: Final = 90.0  # for one that is to wait, which gives way to everybody, until it is ready
START_S: Final = 60.0  # for one that goes on after a crash, from the word until it forwards
GOODBYE_S: Final = 30.0  # for one that is not wanted any more, until it has ended
RELEASE_S: Final = 15.0  # for the serving engine, to finish its batch and write its export
TRIAL_S: Final = 30.0  # for a candidate, from the word until it forwards
MISFIT: Final = 78  # the keeper's exit code when what is installed cannot go on; EX_CONFIG
PROBATION_S: Final = 10.0  # so long the engine of the old version stands by after an upgrade


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start an engine. first: its configuration is the keeper's; later ones go by what the last one left."""

    number: int
    first: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """Tell an engine to take over. imports: with the export that the last one released."""

    number: int
    imports: bool = False


@dataclass(frozen=True, slots=True)
class Let:
    """Ask an engine to release the tables."""

    number: int
    export: bool


@dataclass(frozen=True, slots=True)
class Dismiss:
    """An engine that waits is not wanted any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """An engine takes too long."""

    number: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Pass a signal on."""

    number: int
    signal: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """The tables an engine made from an export are the relay's from now on."""

    number: int


@dataclass(frozen=True, slots=True)
class Report:
    """How an upgrade ended: to the log, and to the engine that serves now."""

    number: int
    done: bool
    text: str


@dataclass(frozen=True, slots=True)
class Warn:
    """For the log."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The keeper's work is done."""

    code: int


Command: TypeAlias = Spawn | Word | Let | Dismiss | Kill | Tell | Adopt | Report | Warn | End


@dataclass(slots=True)
class _Upgrade:
    """One under way. phase: warming, releasing, trial."""

    candidate: int
    phase: str = "warming"
    version: str = ""
    layout: int = 0


class Succession:
    """One keeper's engines, by number."""

    def __init__(self, layout: int) -> None:
        """layout: of the tables as the keeper formatted them."""
        self.layout = layout
        self.serving: int | None = None
        self.standby: int | None = None
        self.deadline_s: float | None = None
        self._upgrade: _Upgrade | None = None
        self._numbers = 0
        self._has_started = False
        self._began_s = 0.0
        self._served_s: float | None = None  # since when the one with the word forwards
        self._short_lives = 0
        self._unpaced_s = 0.0  # after short lives: no process is started before
        self._standby_deaths = 0
        self._stopping: signal.Signals | None = None
        self._untold: list[signal.Signals] = []  # came while nobody could hear them: for the next engine
        self._due: dict[int, float] = {}  # by when an engine must have done what it was told
        self._resume_s: float | None = None  # when the next engine goes, after a pause
        self._spawn_s: float | None = None  # when the next standby is started
        self._probation_s: float | None = None
        self._versions: dict[int, str] = {}  # of the engines that have said it
        self._failed_version = ""  # ended on its trial, and no other has passed one since

    # ---- events --------------------------------------------------------------------------------

    def start(self, now_s: float) -> list[Command]:
        """The keeper has opened everything."""
        return self._settled(self._go_on(now_s))

    def ready(self, number: int, layout: int, version: str, now_s: float) -> list[Command]:
        """An engine has imported everything."""
        if number != self.serving:
            self._due.pop(number, None)
        self._versions[number] = version
        done: list[Command] = []
        upgrade = self._upgrade
        is_candidate = upgrade is not None and (upgrade.candidate, upgrade.phase) == (number, "warming")
        if upgrade is not None and is_candidate:
            upgrade.version, upgrade.layout = version, layout
            done = self._ask_to_release(upgrade, now_s)
        elif number == self.standby and layout != self.layout:
            text = f"version {version}, installed meanwhile, has tables of another layout: nobody stands by"
            warning = Warn(f"{text} until an upgrade (pyfastpath ctl upgrade)")
            done = [warning, *self._dismiss_standby(now_s)]
        elif number == self.standby:
            self._standby_deaths = 0
        elif number == self.serving and layout != self.layout:
            # It cannot go on, and no engine started from now on could: only a new keeper's tables fit.
            text = (
                f"version {version}, installed meanwhile, has tables of another layout, nobody else is left"
            )
            done = [Warn(f"{text}: flows are lost, the relay ends"), End(MISFIT)]
        return self._settled(done)

    def started(self, number: int, now_s: float, *, made: bool = False) -> list[Command]:
        """An engine forwards. made: it brought tables of its own, all of them."""
        if number != self.serving:
            return []
        done: list[Command] = []
        upgrade = self._upgrade
        is_candidate = upgrade is not None and upgrade.candidate == number
        if upgrade is not None and is_candidate and self._needs_tables(upgrade) and not made:
            # Nobody else could ever go on over tables that the keeper does not have.
            return [Warn(f"the tables that engine {number} made did not arrive"), Kill(number)]
        self._has_started, self._served_s = True, now_s
        if upgrade is None or upgrade.phase != "releasing":  # else it must release in time
            self._due.pop(number, None)
        if upgrade is not None and is_candidate:
            self._upgrade, self._failed_version = None, ""
            done.append(Report(number, True, f"version {upgrade.version} serves"))
            if upgrade.layout != self.layout:
                self.layout = upgrade.layout
                done += [Adopt(number), *self._dismiss_standby(now_s)]
            else:
                self._probation_s = now_s + PROBATION_S
        if self.standby is None and self._stopping is None:
            self._spawn_s = max(now_s, self._unpaced_s)
            done += self.timer(now_s)
        return self._settled(done)

    def released(self, number: int, has_export: bool, now_s: float) -> list[Command]:
        """An engine has let the tables go."""
        upgrade = self._upgrade
        if number != self.serving or upgrade is None or upgrade.phase != "releasing":
            return []
        if upgrade.candidate == 0:
            return self._settled(self._failed("the installed version ended before it could take over", now_s))
        needs_export = self._needs_tables(upgrade)
        if needs_export and not has_export:
            return self._settled(self._failed("the running engine could not export its tables", now_s))
        return self._settled(self._try(upgrade, needs_export, now_s))

    def died(self, number: int, code: int, fate: str, now_s: float) -> list[Command]:
        """An engine has ended. code: negative for the signal that killed it; fate: the same in words."""
        upgrade = self._upgrade
        self._due.pop(number, None)
        self._versions.pop(number, None)
        if number == self.standby:
            self.standby = None
            self._standby_deaths += 1
            if self._stopping is None:
                self._spawn_s = max(now_s + _pause_s(self._standby_deaths), self._unpaced_s)
            done: list[Command] = [Warn(f"the engine that stands by ended ({fate})")]
        elif number == self.serving:
            done = self._serving_died(code, fate, now_s)
        elif upgrade is not None and number == upgrade.candidate:
            done = self._candidate_died(upgrade, fate)
        else:
            done = []
        return self._settled(done)

    def signalled(self, number: signal.Signals) -> list[Command]:
        """SIGTERM, SIGINT, SIGHUP or SIGUSR1 came."""
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stopping = signal.SIGINT if self._stopping else number
            self._spawn_s = None
            if self.serving is None:
                return [End(0)]
        elif self.serving is None or (self._upgrade is not None and self._upgrade.phase == "releasing"):
            self._untold += [number] if number not in self._untold else []
            return []
        return [] if self.serving is None else [Tell(self.serving, number)]

    def upgrade(self, now_s: float) -> list[Command]:
        """SIGUSR2 came, or an operator asked."""
        if self._upgrade is not None:  # how that one ends is what whoever asks will hear
            return [Warn("upgrade: one is under way already")]
        refusal = ""
        if self._stopping is not None:
            refusal = "the relay is stopping"
        elif not self._has_started:
            refusal = "no engine serves yet: try again in a moment"
        if refusal:
            return [Report(self.serving or 0, False, refusal)]
        self._numbers += 1
        self._upgrade = _Upgrade(self._numbers)
        self._due[self._numbers] = now_s + WARM_UP_S
        return self._settled([Spawn(self._numbers)])

    def timer(self, now_s: float) -> list[Command]:
        """`deadline_s` is over."""
        done: list[Command] = []
        if self._resume_s is not None and now_s >= self._resume_s:
            self._resume_s = None
            done += self._go_on(now_s)
        if self._spawn_s is not None and now_s >= self._spawn_s:
            self._spawn_s = None
            if self.standby is None:
                done.append(self._spawn_standby(now_s))
        if self._probation_s is not None and now_s >= self._probation_s:
            # Not in an upgrade: an engine started now would be of the version that is to be tried.
            self._probation_s = None if self._upgrade is None else now_s + PROBATION_S
            if self._upgrade is None:
                done += [*self._dismiss_standby(now_s), self._spawn_standby(now_s)]
        for number in [number for number, due_s in self._due.items() if now_s >= due_s]:
            del self._due[number]  # its death, awaited now, says the rest
            done += [Warn(f"engine {number} takes too long to {self._task(number)}"), Kill(number)]
        return self._settled(done)

    # ---- decisions -----------------------------------------------------------------------------

    def _serving_died(self, code: int, fate: str, now_s: float) -> list[Command]:
        upgrade, lived_s = self._upgrade, now_s - self._began_s
        served_s, self.serving = self._served_s, None
        if upgrade is not None and upgrade.phase != "warming":
            return self._died_in_upgrade(upgrade, fate, now_s)
        if code == 0 or self._stopping is signal.SIGINT:
            return [End(0)]
        if not self._has_started and code > 0:
            return [End(code)]  # its log says why; another would fail in the same way
        warning = Warn(f"the engine ended ({fate}) after {lived_s:.1f} s: another goes on")
        is_short = served_s is None or now_s - served_s < SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives > 1:
            longest_s = PAUSE_MAX_S if served_s is None else PAUSE_SERVED_MAX_S
            self._unpaced_s = now_s + _pause_s(self._short_lives - 1, longest_s)
        if self.standby is None and now_s < self._unpaced_s:
            self._resume_s, self._spawn_s = self._unpaced_s, None
            return [warning]
        return [warning, *self._go_on(now_s)]

    def _ask_to_release(self, upgrade: _Upgrade, now_s: float) -> list[Command]:
        """The candidate is ready. Between two short lives nobody has the tables."""
        if self._could_leave_nobody(upgrade):
            self._upgrade = None
            text = (
                f"version {upgrade.version} has failed before, and nobody of the running version stands by "
                "to go on if it fails again: install one that works"
            )
            return [*self._dismiss(upgrade.candidate, now_s), Report(self.serving or 0, False, text)]
        if self.serving is not None:
            upgrade.phase = "releasing"
            self._due[self.serving] = now_s + RELEASE_S
            return [Let(self.serving, export=self._needs_tables(upgrade))]
        if self._needs_tables(upgrade):
            self._upgrade = None
            text = "no engine serves that could export its tables: try again"
            return [*self._dismiss(upgrade.candidate, now_s), Report(0, False, text)]
        self._resume_s = None
        return self._try(upgrade, False, now_s)

    def _could_leave_nobody(self, upgrade: _Upgrade) -> bool:
        """After an upgrade that failed, whoever stands by next is of what is installed: it would fail too."""
        if self.serving is None or upgrade.version != self._failed_version:
            return False
        running = self._versions.get(self.serving)
        return self.standby is None or self._versions.get(self.standby) != running

    def _died_in_upgrade(self, upgrade: _Upgrade, fate: str, now_s: float) -> list[Command]:
        """The candidate on trial, or the old engine while it released."""
        if upgrade.phase == "trial":
            self._failed_version = upgrade.version
            return self._failed(f"version {upgrade.version} ended at its start ({fate})", now_s)
        if self._needs_tables(upgrade):
            return self._failed(f"the running engine ended ({fate}) before it had exported", now_s)
        warning = Warn(f"the engine ended ({fate}) while it released")  # it held nothing the memory does not
        return [warning, *self._try(upgrade, False, now_s)]

    def _candidate_died(self, upgrade: _Upgrade, fate: str) -> list[Command]:
        """Before it was given the word."""
        text = f"the installed version ended ({fate}) before it could take over"
        if upgrade.phase == "releasing":  # the serving engine lets go already: see `released`
            upgrade.layout, upgrade.candidate = -1, 0
            return [Warn(text)]
        self._upgrade = None
        return [Report(self.serving or 0, False, text + ": the running one goes on")]

    def _try(self, upgrade: _Upgrade, imports: bool, now_s: float) -> list[Command]:
        """The tables are free: the candidate gets them."""
        upgrade.phase = "trial"
        self._await_end(self.serving, now_s)
        self._due[upgrade.candidate] = now_s + TRIAL_S
        self.serving, self._began_s, self._served_s = upgrade.candidate, now_s, None
        return [Word(upgrade.candidate, imports=imports), *self._told(upgrade.candidate)]

    def _failed(self, text: str, now_s: float) -> list[Command]:
        """After the serving engine had let go: the one that stands by, of the old version, goes on."""
        self._await_end(self.serving, now_s)
        upgrade, self._upgrade, self.serving = self._upgrade, None, None
        waits = upgrade is not None and upgrade.phase == "releasing"
        gone = self._dismiss(upgrade.candidate, now_s) if upgrade and waits and upgrade.candidate else []
        done = [*gone, *self._go_on(now_s)]
        return [*done, Report(self.serving or 0, False, text + ": the old version goes on")]

    def _go_on(self, now_s: float) -> list[Command]:
        """The next engine serves: the one that stands by, else a new one."""
        number, self.standby = self.standby, None
        done: list[Command] = []
        if number is None:
            self._numbers += 1
            number = self._numbers
            done.append(Spawn(number, first=not self._has_started))
        self.serving, self._began_s = number, now_s
        self._served_s = self._probation_s = None
        self._due[number] = now_s + START_S
        return [*done, Word(number), *self._told(number)]

    def _told(self, number: int) -> list[Command]:
        """What came while nobody served; when the engine before died while it drained, this one drains on."""
        signals, self._untold = self._untold, []
        signals += [] if self._stopping is None else [self._stopping]
        return [Tell(number, one) for one in signals]

    def _spawn_standby(self, now_s: float) -> Spawn:
        self._numbers += 1
        self.standby = self._numbers
        self._due[self.standby] = now_s + WARM_UP_S
        return Spawn(self.standby)

    def _dismiss_standby(self, now_s: float) -> list[Command]:
        number, self.standby = self.standby, None
        return [] if number is None else self._dismiss(number, now_s)

    def _dismiss(self, number: int, now_s: float) -> list[Command]:
        self._await_end(number, now_s)
        return [Dismiss(number)]

    def _await_end(self, number: int | None, now_s: float) -> None:
        """Of an engine that has let go, or is to."""
        if number is not None:
            self._due[number] = now_s + GOODBYE_S

    def _needs_tables(self, upgrade: _Upgrade) -> bool:
        return upgrade.layout != self.layout

    def _task(self, number: int) -> str:
        """What this engine has to do by a certain time."""
        if number == self.serving:
            releases = self._upgrade is not None and self._upgrade.phase == "releasing"
            return "release the tables" if releases else "start"
        waits = number == self.standby or (self._upgrade is not None and number == self._upgrade.candidate)
        return "get ready" if waits else "end"

    def _settled(self, done: list[Command]) -> list[Command]:
        """Before an event gives its commands: when is `timer` due?"""
        due = [self._resume_s, self._spawn_s, self._probation_s, *self._due.values()]
        times = [at for at in due if at is not None]
        self.deadline_s = min(times, default=None)
        return done


def _pause_s(deaths: int, longest_s: float = PAUSE_MAX_S) -> float:
    """Before another process is started, when so many have died young in a row."""
    return min(longest_s, PAUSE_FIRST_S * 2.0 ** min(deaths - 1, 10))
